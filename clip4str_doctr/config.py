"""What a model is made of: small frozen dataclasses, their JSON form, and the two presets."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from numbers import Real
from typing import Any, Literal, get_args

from clip4str_doctr.charset import VIETNAMESE_SYMBOLS

__all__ = [
    "CLIP_NORMALIZATION",
    "DEFAULT_ARCH",
    "HALF_NORMALIZATION",
    "PRESETS",
    "CharTextTowerConfig",
    "ClipImageTowerConfig",
    "ConvImageTowerConfig",
    "CrossLength",
    "CrossModal",
    "DecodeConfig",
    "DecoderConfig",
    "ImageTowerConfig",
    "MClipTextTowerConfig",
    "ModelConfig",
    "PreprocessConfig",
    "TextTowerConfig",
    "decode_config_from_dict",
    "is_number",
    "model_config_from_dict",
    "model_config_to_dict",
]


def is_number(value: object) -> bool:
    """Whether a value is a real number of Python's or numpy's."""
    return type(value) is not bool and isinstance(value, Real)


@dataclass(frozen=True)
class ClipImageTowerConfig:
    """OpenAI CLIP's vision transformer (arXiv:2103.00020), QuickGELU; heads = width / 64."""

    image_size: tuple[int, int]
    patch_size: tuple[int, int]
    width: int
    layers: int
    output_dim: int


@dataclass(frozen=True)
class ConvImageTowerConfig:
    """Our small tower: one halving per stem width, then a pre-LN transformer over the grid."""

    image_size: tuple[int, int]
    stem_widths: tuple[int, ...]
    width: int
    layers: int
    heads: int
    output_dim: int


@dataclass(frozen=True)
class MClipTextTowerConfig:
    """Multilingual-CLIP: XLM-RoBERTa (arXiv:1911.02116) and one linear layer."""

    vocab_size: int
    width: int
    layers: int
    heads: int
    mlp_width: int
    max_positions: int
    pad_id: int
    output_dim: int


@dataclass(frozen=True)
class CharTextTowerConfig:
    """Our small tower: a pre-LN transformer over the caption's symbols between BOS and EOS."""

    width: int
    layers: int
    heads: int
    output_dim: int


@dataclass(frozen=True)
class DecoderConfig:
    """One PARSeq decoder layer (arXiv:2207.06966); built twice, once per branch."""

    width: int
    heads: int
    mlp_width: int


CrossModal = Literal["always", "auto"]
CrossLength = Literal["visual", "own"]


@dataclass(frozen=True)
class DecodeConfig:
    """How a picture is read.

    max_symbols: longest label; one more row is decoded for EOS. decode_ar: draft symbol by symbol (True) or all at
    once. refine_iters: cloze passes after the draft, 0 or more. cross_modal: which words the cross branch reads and are
    refined: "always" all of them, "auto" those of which the visual branch's draft is not certain.
    cross_length: how many rows the cross branch's draft has: "visual" as many as the visual branch's, as the reference
    has it, "own" up to its own EOS. Where it wants a longer word, "visual" leaves its draft without an end, and
    refining then adds letters up to `max_symbols` ("Riemannnnnnn").
    """

    max_symbols: int = 25
    decode_ar: bool = True
    refine_iters: int = 1
    cross_modal: CrossModal = "always"
    cross_length: CrossLength = "visual"

    def __post_init__(self) -> None:
        if isinstance(self.max_symbols, bool) or not isinstance(self.max_symbols, int):
            raise ValueError(f"max_symbols must be an integer, got {self.max_symbols!r}")
        if self.max_symbols < 1:
            raise ValueError(f"max_symbols must be at least 1, got {self.max_symbols}")
        if not isinstance(self.decode_ar, bool):
            raise ValueError(f"decode_ar must be True or False, got {self.decode_ar!r}")
        if isinstance(self.refine_iters, bool) or not isinstance(self.refine_iters, int):
            raise ValueError(f"refine_iters must be an integer, got {self.refine_iters!r}")
        if self.refine_iters < 0:
            raise ValueError(f"refine_iters must be 0 or more, got {self.refine_iters}")
        if self.cross_modal not in get_args(CrossModal):
            raise ValueError(f"cross_modal must be one of {get_args(CrossModal)}, got {self.cross_modal!r}")
        if self.cross_length not in get_args(CrossLength):
            raise ValueError(f"cross_length must be one of {get_args(CrossLength)}, got {self.cross_length!r}")

    def replaced(
        self, decode_ar: bool | None, refine_iters: int | None, cross_modal: CrossModal | None
    ) -> "DecodeConfig":
        """A copy with other options; None keeps what is there. Raises ValueError for a wrong one."""
        return replace(
            self,
            decode_ar=self.decode_ar if decode_ar is None else decode_ar,
            refine_iters=self.refine_iters if refine_iters is None else refine_iters,
            cross_modal=self.cross_modal if cross_modal is None else cross_modal,
        )


@dataclass(frozen=True)
class PreprocessConfig:
    """Per-channel mean and std (RGB, of pixels in 0..1) that belong to the weights.

    Raises ValueError for what is not three numbers each, or a std that is not above 0.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            values = getattr(self, name)
            try:
                red, green, blue = map(float, values)
            except (TypeError, ValueError) as error:
                raise ValueError(f"{name} must be three numbers, of red, green and blue, got {values!r}") from error
            if not all(map(math.isfinite, (red, green, blue))) or (name == "std" and min(red, green, blue) <= 0):
                raise ValueError(f"{name} must be finite{', and above 0' if name == 'std' else ''}, got {values!r}")
            # Lists, as of a JSON file, become tuples.
            object.__setattr__(self, name, (red, green, blue))


# The reference's script reads with 0.5/0.5 although training was configured with CLIP's: a card records one of them.
HALF_NORMALIZATION = PreprocessConfig((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
CLIP_NORMALIZATION = PreprocessConfig((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))

ImageTowerConfig = ClipImageTowerConfig | ConvImageTowerConfig
TextTowerConfig = MClipTextTowerConfig | CharTextTowerConfig

# Fields that came later, which files written before do not have.
_OPTIONAL = frozenset({"cross_modal", "cross_length"})

# The names that stand in config.json.
_TOWER_KINDS: dict[str, type[Any]] = {
    "clip_vit": ClipImageTowerConfig,
    "conv_vit": ConvImageTowerConfig,
    "mclip": MClipTextTowerConfig,
    "char": CharTextTowerConfig,
}


@dataclass(frozen=True)
class ModelConfig:
    """A whole recogniser. `symbols` is the alphabet in id order; `arch` the name docTR knows it by."""

    arch: str
    symbols: str
    image_tower: ImageTowerConfig
    text_tower: TextTowerConfig
    decoder: DecoderConfig
    decode: DecodeConfig
    preprocess: PreprocessConfig

    def __post_init__(self) -> None:
        widths = {self.image_tower.output_dim, self.text_tower.output_dim, self.decoder.width}
        if len(widths) != 1:
            raise ValueError(
                "both towers must end in the decoder's width, got "
                f"image {self.image_tower.output_dim}, text {self.text_tower.output_dim}, decoder {self.decoder.width}"
            )

    def with_decode(
        self,
        decode_ar: bool | None = None,
        refine_iters: int | None = None,
        cross_modal: CrossModal | None = None,
    ) -> "ModelConfig":
        """A copy with other decoding options; None keeps what is there. Raises ValueError for a wrong one."""
        return replace(self, decode=self.decode.replaced(decode_ar, refine_iters, cross_modal))


def model_config_to_dict(config: ModelConfig) -> dict[str, Any]:
    """config -> JSON-ready dict; towers carry their kind."""
    kinds = {cls: kind for kind, cls in _TOWER_KINDS.items()}
    out = asdict(config)
    for tower in ("image_tower", "text_tower"):
        out[tower] = {"kind": kinds[type(getattr(config, tower))], **out[tower]}
    return out


def model_config_from_dict(values: Mapping[str, Any]) -> ModelConfig:
    """The inverse of `model_config_to_dict`. Raises ValueError naming a missing or unknown field or tower kind."""
    parts: dict[str, Any] = dict(values)
    _check_fields("config", parts, ModelConfig)
    for tower in ("image_tower", "text_tower"):
        tower_values = dict(parts[tower])
        kind = tower_values.pop("kind", None)
        if kind not in _TOWER_KINDS:
            raise ValueError(f"config.{tower}.kind must be one of {sorted(_TOWER_KINDS)}, got {kind!r}")
        parts[tower] = _build(f"config.{tower}", tower_values, _TOWER_KINDS[kind])
    parts["decoder"] = _build("config.decoder", parts["decoder"], DecoderConfig)
    parts["decode"] = decode_config_from_dict(parts["decode"])
    parts["preprocess"] = _build("config.preprocess", parts["preprocess"], PreprocessConfig)
    return ModelConfig(**parts)


def decode_config_from_dict(values: Mapping[str, Any]) -> DecodeConfig:
    """The inverse of `dataclasses.asdict`. Raises ValueError naming a missing or unknown field, or a wrong value."""
    decode: DecodeConfig = _build("config.decode", values, DecodeConfig)
    return decode


def _build(where: str, values: Mapping[str, Any], cls: type[Any]) -> Any:
    _check_fields(where, values, cls)
    # JSON and YAML have lists only; tuples keep the dataclasses hashable and equal after a round trip.
    return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})


def _check_fields(where: str, values: Mapping[str, Any], cls: type[Any]) -> None:
    expected = {field.name for field in fields(cls)}
    if missing := sorted(expected - set(values) - _OPTIONAL):
        raise ValueError(f"{where} lacks {missing}; it needs {sorted(expected)}")
    if unknown := sorted(set(values) - expected):
        raise ValueError(f"{where} has unknown fields {unknown}; it takes {sorted(expected)}")


DEFAULT_ARCH = "clip4str_vn_tiny"  # of the command line
PRESETS: dict[str, ModelConfig] = {
    # The published weights: CLIP ViT-B/16 and M-CLIP XLM-RoBERTa Large (655.5 M parameters).
    "clip4str_vn": ModelConfig(
        arch="clip4str_vn",
        symbols=VIETNAMESE_SYMBOLS,
        image_tower=ClipImageTowerConfig((224, 224), (16, 16), width=768, layers=12, output_dim=512),
        text_tower=MClipTextTowerConfig(
            vocab_size=250002,
            width=1024,
            layers=24,
            heads=16,
            mlp_width=4096,
            max_positions=514,
            pad_id=1,
            output_dim=512,
        ),
        decoder=DecoderConfig(width=512, heads=8, mlp_width=2048),
        decode=DecodeConfig(),
        preprocess=HALF_NORMALIZATION,
    ),
    # The embedded model: reads 32 x 128 into a grid of 4 x 16 tokens.
    "clip4str_vn_tiny": ModelConfig(
        arch="clip4str_vn_tiny",
        symbols=VIETNAMESE_SYMBOLS,
        image_tower=ConvImageTowerConfig(
            (32, 128), stem_widths=(48, 96, 192), width=192, layers=6, heads=6, output_dim=192
        ),
        text_tower=CharTextTowerConfig(width=192, layers=2, heads=6, output_dim=192),
        decoder=DecoderConfig(width=192, heads=6, mlp_width=768),
        decode=DecodeConfig(cross_length="own"),
        preprocess=HALF_NORMALIZATION,
    ),
}
