"""Rendered Vietnamese words: labels, fonts, and crops from clean print to street photographs."""

from clip4str_doctr.training.synth.fonts import FONT_PACKAGES, VAL_FAMILIES, fonts_installed
from clip4str_doctr.training.synth.render import STYLES, Renderer
from clip4str_doctr.training.synth.selection import Selection
from clip4str_doctr.training.synth.words import WordSource, is_held_out, place_tone

__all__ = [
    "FONT_PACKAGES", "STYLES", "VAL_FAMILIES", "Renderer", "Selection", "WordSource", "fonts_installed", "is_held_out",
    "place_tone",
]  # fmt: skip
