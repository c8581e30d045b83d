"""The font of what the other scripts draw. Needs pip install 'clip4str-doctr[train]'."""

from importlib.metadata import files

from PIL import ImageFont


def font(size: int, weight: int) -> ImageFont.FreeTypeFont:
    # Work Sans: a family that the embedded model's training never sees.
    fonts = (file for file in files("fontpkg-work-sans") or [] if file.name.endswith(".ttf"))
    file = next(file for file in fonts if "Italic" not in file.name)
    face = ImageFont.truetype(str(file.locate()), size)
    face.set_variation_by_axes([weight])
    return face
