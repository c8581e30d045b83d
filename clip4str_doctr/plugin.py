"""Our names in docTR's recognition zoo, and our preprocessing under them.

docTR keeps its architectures in a plain list, finds their factories in the namespace of `doctr.models.recognition`,
rejects model classes that it does not know, and letterboxes every crop, which would leave CLIP4STR a fifth of its
rows. So three things of `doctr.models.recognition.zoo` are changed, here and nowhere else: names are appended to
`ARCHS`, factories are set beside docTR's own, and `_predictor` is wrapped for our names and models only.

This module imports docTR inside functions only: unpickling a `CropPreProcessor` in a spawned worker imports it first,
and importing docTR at that point would run the import hook, which needs this module complete.
"""

import functools
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal
from unicodedata import bidirectional

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from clip4str_doctr.config import PreprocessConfig
from clip4str_doctr.preprocess import Preprocess, to_uint8

if TYPE_CHECKING:
    from doctr.models.recognition.predictor import RecognitionPredictor

__all__ = [
    "CropPreProcessor",
    "cuts_at_gaps",
    "factories",
    "preprocessor_of",
    "recognition_predictor_of",
    "register",
    "register_into",
]

logger = logging.getLogger(__name__)

# Other packages may list factories here too: `name = "package.module:factory"`, called as factory(pretrained=bool).
# Their models are read as ours are: crops squashed to cfg["input_shape"], normalised with cfg["mean"] and cfg["std"];
# letterboxed where cfg["preserve_aspect_ratio"] is true. Theirs are models that such a factory made, copies and pickles
# of them, and models whose cfg["arch"] is its name.
FACTORY_GROUP = "clip4str_doctr.recognition"

# Whose wide crops are cut at the gaps between words unless the caller says otherwise: measured to lose less so. Of the
# published model there are no weights to measure with, and its reference reads whole crops.
_CUT_AT_GAPS = frozenset({"clip4str_vn_tiny"})

# What registered factories leave on models: copies and pickles keep it, and a model of docTR's own class may have it.
_MADE_BY = "_clip4str_doctr_factory"

# The factories that are registered, by name.
_ours: dict[str, Callable[..., nn.Module]] = {}


def register() -> None:
    """Add the factories of the entry point group to docTR's recognition zoo; calling it again changes nothing.

    Usually done for you at `import doctr` (see `_autoload`); needed where that is switched off.
    Raises RuntimeError, naming docTR's version, if docTR's zoo is not built as expected.
    """
    from doctr.models.recognition import zoo

    register_into(zoo)


def register_into(zoo: ModuleType) -> None:
    """`register`, given the module `doctr.models.recognition.zoo`, whose parents may still be loading."""
    _check(zoo)
    found = factories()
    if not found:
        raise RuntimeError(
            f"no entry points in group {FACTORY_GROUP!r}: clip4str-doctr is importable but not installed; "
            "run pip install clip4str-doctr (in a checkout: pip install -e .)"
        )
    for name, entry in found.items():
        factory = _factory(entry)
        present = vars(zoo.recognition).get(name)
        if present is not factory and (present is not None or name in zoo.ARCHS):
            logger.warning("docTR has a %r of its own, so %s is not registered", name, entry.value)
            continue
        _ours[name] = factory
        if name not in zoo.ARCHS:
            # The list itself, in place: docTR's hub module holds a reference to it.
            zoo.ARCHS.append(name)
        for namespace in (zoo.recognition, sys.modules["doctr.models"]):
            setattr(namespace, name, factory)
    if not hasattr(zoo._predictor, "_wrapped_by_clip4str_doctr"):
        vars(zoo)["_predictor"] = _wrap(zoo._predictor)


def factories() -> dict[str, EntryPoint]:
    """Architecture name -> entry point of its factory, not loaded yet; a name that stands twice is ours."""
    entries = entry_points(group=FACTORY_GROUP)
    return {entry.name: entry for entry in sorted(entries, key=lambda entry: entry.value.startswith("clip4str_doctr:"))}


def recognition_predictor_of(
    model: Any,
    *,
    batch_size: int = 128,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    preserve_aspect_ratio: bool | None = None,
    symmetric_pad: bool = False,
    split_wide_crops: bool | Literal["gaps"] | None = None,
    **ignored: Any,
) -> "RecognitionPredictor":
    """docTR's predictor around one of our models (or a torch.compile'd one), with our preprocessing.

    mean, std: None for what belongs to the weights. preserve_aspect_ratio: True for docTR's own letterbox, which its
    training script trains with, symmetric_pad for one with bars on both sides. False: squashed. None: as `model.cfg`
    says, squashed if it says nothing.

    split_wide_crops: what becomes of crops much wider than high.
    False: read whole, as the reference does. "gaps": also cut between their words, where a detector overlooked a space,
    and the more certain answer counts (see `predictor`). True: docTR's own step, which cuts crops wider than 8:1 into
    overlapping pieces and merges the strings. None: "gaps" for clip4str_vn_tiny, whose figures speak for it
    (`benchmark/wide_crops.py`), else False. On a predictor of pages these are the attributes
    `reco_predictor.cut_at_gaps` and `reco_predictor.split_wide_crops`.

    `pretrained_backbone` is ignored, there is none. Raises TypeError for others, ValueError for another
    `split_wide_crops`.
    """
    from clip4str_doctr.predictor import WideCropPredictor

    if unknown := sorted(set(ignored) - {"pretrained_backbone"}):
        raise TypeError(f"recognition_predictor got {unknown}, which mean nothing to {type(model).__name__}; leave out")
    # By identity: 1 is equal to True, and would be taken for it here and not below.
    if not (split_wide_crops is None or isinstance(split_wide_crops, bool) or split_wide_crops == "gaps"):
        raise ValueError(f'split_wide_crops must be True, False, "gaps" or None, got {split_wide_crops!r}')
    if getattr(model, "exportable", False):
        raise ValueError(
            "an exportable model gives logits alone, of which a predictor makes no words; build it without"
        )
    if split_wide_crops is None and cuts_at_gaps(model):
        split_wide_crops = "gaps"
    # docTR calls its preprocessor and asks for no more; why ours is not one of its class stands above.
    processor: Any = preprocessor_of(model, batch_size, mean, std, preserve_aspect_ratio, symmetric_pad)
    if hasattr(model, "_orig_mod"):
        # docTR 1.0 calls `to` before every batch. What torch.compile wraps a model in has nn.Module's, which would
        # change dtypes that the model's own leaves alone.
        vars(model)["to"] = functools.partial(_moved, model)
    return WideCropPredictor(
        processor, model, split_wide_crops=split_wide_crops is True, cut_at_gaps=split_wide_crops == "gaps"
    )


def preprocessor_of(
    model: Any,
    batch_size: int = 128,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    preserve_aspect_ratio: bool | None = None,
    symmetric_pad: bool = False,
) -> Callable[[Any], list[torch.Tensor]]:
    """What brings crops to a model's size, as `recognition_predictor_of` says; docTR is imported for letterboxes alone.

    Raises ValueError for a mean or std that is none.
    """
    cfg = model.cfg
    channels: tuple[Any, Any] = (cfg["mean"] if mean is None else mean, cfg["std"] if std is None else std)
    preprocess = PreprocessConfig(*channels)
    height, width = cfg["input_shape"][-2:]
    if preserve_aspect_ratio is None:
        preserve_aspect_ratio = cfg.get("preserve_aspect_ratio", False)
    if preserve_aspect_ratio:
        from doctr.models.preprocessor import PreProcessor

        # docTR's own, by whose resize its training script makes crops.
        letterbox: Any = PreProcessor(
            *((height, width), batch_size, preprocess.mean, preprocess.std),
            preserve_aspect_ratio=True,
            symmetric_pad=symmetric_pad,
        )
        return letterbox  # type: ignore[no-any-return]  # it may give masks as well, if it is asked to
    return CropPreProcessor((height, width), preprocess, batch_size)


def _moved(compiled: Any, *args: Any, **kwargs: Any) -> Any:
    compiled._orig_mod.to(*args, **kwargs)
    return compiled


def cuts_at_gaps(model: Any) -> bool:
    """Whether `recognition_predictor_of` has wide crops of this model cut at gaps, unless told otherwise.

    Words are joined from left to right without a space: not where the alphabet has one, or is written the other way.
    """
    cfg = model.cfg
    if cfg.get("arch") not in _CUT_AT_GAPS:
        return False
    return not any(one.isspace() or bidirectional(one) in ("R", "AL") for one in cfg["vocab"])


class CropPreProcessor(nn.Module):
    """In the place of docTR's `PreProcessor`: same call, same batches, but PIL's bicubic squash and no letterbox.

    output_size: (H, W) of the model. preprocess: mean and std of the weights. batch_size: most crops in one batch.
    """

    def __init__(self, output_size: tuple[int, int], preprocess: PreprocessConfig, batch_size: int) -> None:
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        self.batch_size = batch_size
        self._preprocess = Preprocess(output_size, preprocess)

    def forward(self, x: npt.NDArray[Any] | Sequence[npt.NDArray[Any]]) -> list[torch.Tensor]:
        """x: crops (H, W, 3) of any sizes, or one array (N, H, W, 3); uint8, or float16/32 in 0..1 -> batches.

        Each batch is (<= batch_size, 3, *output_size) float32. Raises ValueError for other shapes or values,
        TypeError for other types.
        """
        if isinstance(x, np.ndarray) and x.ndim != 4:
            raise ValueError(f"an array of crops must be (N, H, W, 3), got {x.shape}; give single crops in a list")
        if not isinstance(x, np.ndarray | Sequence):
            raise TypeError(f"crops must be a list of arrays or one array (N, H, W, 3), got {type(x).__name__}")
        return [
            self._preprocess([to_uint8(crop) for crop in x[start : start + self.batch_size]])
            for start in range(0, len(x), self.batch_size)
        ]

    def extra_repr(self) -> str:
        return f"output_size={self._preprocess.image_size}, batch_size={self.batch_size}"


def _wrap(original: Callable[..., "RecognitionPredictor"]) -> Callable[..., "RecognitionPredictor"]:
    """docTR's `_predictor`, which builds predictors for our names and models itself and passes on all others."""

    @functools.wraps(original)
    def _predictor(arch: Any, pretrained: bool, **kwargs: Any) -> "RecognitionPredictor":
        if isinstance(arch, str) and arch in _ours:
            return recognition_predictor_of(_ours[arch](pretrained=pretrained), **kwargs)
        if _is_ours(arch):
            return recognition_predictor_of(arch, **kwargs)
        return original(arch, pretrained, **kwargs)

    vars(_predictor)["_wrapped_by_clip4str_doctr"] = True
    return _predictor


def _is_ours(model: Any) -> bool:
    """Whether a model, compiled or not, is of our class or of a registered factory."""
    # Nothing is of a class that nobody has imported; docTR's own models must not wait for it.
    ours = sys.modules.get("clip4str_doctr.modeling.clip4str")
    # torch.compile wraps a module and keeps it under this name.
    model = getattr(model, "_orig_mod", model)
    cfg = getattr(model, "cfg", None)
    by_name = isinstance(cfg, Mapping) and cfg.get("arch") in _ours
    return (ours is not None and isinstance(model, ours.CLIP4STR)) or hasattr(model, _MADE_BY) or by_name


@functools.cache
def _factory(entry: EntryPoint) -> Callable[..., nn.Module]:
    """The factory behind an entry point, loaded when first called: importing docTR stays as cheap as it is."""

    def factory(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        model: nn.Module = entry.load()(pretrained=pretrained, **kwargs)
        setattr(model, _MADE_BY, entry.name)
        return model

    factory.__name__ = factory.__qualname__ = entry.name
    factory.__module__ = "doctr.models"  # where it is found again by whoever pickles it
    factory.__doc__ = f"`{entry.value}`, registered by clip4str-doctr."
    return factory


def _check(zoo: ModuleType) -> None:
    """Raise RuntimeError unless docTR's zoo has the parts that are changed here, used as they are used here."""
    lacking = []
    if not isinstance(getattr(zoo, "ARCHS", None), list):
        lacking.append("the list ARCHS")
    if not callable(getattr(zoo, "_predictor", None)):
        lacking.append("the function _predictor")
    if not isinstance(getattr(zoo, "recognition", None), ModuleType):
        lacking.append("the module recognition")
    caller = getattr(getattr(zoo, "recognition_predictor", None), "__code__", None)
    if caller is None or "_predictor" not in caller.co_names:
        lacking.append("a recognition_predictor that calls _predictor")
    if lacking:
        raise RuntimeError(
            f"{zoo.__name__} of python-doctr {_doctr_version()} lacks {', '.join(lacking)}; clip4str-doctr "
            "works with docTR 1.0 and 1.1. Upgrade clip4str-doctr, or install one of these"
        )


def _doctr_version() -> str:
    try:
        return version("python-doctr")
    except PackageNotFoundError:
        return "(unknown version)"
