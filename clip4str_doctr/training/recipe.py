"""The whole of a training run as one YAML file, read strictly into frozen dataclasses."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_type_hints

# What may change when a run goes on: how it is carried out and reported, and how much time it may take.
FREE_KEYS = frozenset(
    (
        "data.workers",
        "schedule.max_hours",
        "run.threads",
        "run.log_every",
        "run.validate_every",
        "run.checkpoint_minutes",
        "run.recompute",
        "words.train",  # where they lie; whether they are the same is seen by their hash
        "words.val",
    )
)


class RecipeError(ValueError):
    """A recipe that asks for what cannot be done."""


class OtherRecipeError(RecipeError):
    """A checkpoint that belongs to another recipe than the one to go on with."""


@dataclass(frozen=True)
class ModelRecipe:
    """A preset of `clip4str_doctr.config` and the fields of it to change, nested as in `model_config_to_dict`.

    init: weights to start from instead of random ones, see `clip4str_doctr.training.start`; dimensions are then theirs.
    reader: "parseq" for docTR's PARSeq behind the preset's image tower, from random weights; a baseline.
    """

    preset: str
    overrides: dict[str, Any] = field(default_factory=dict)
    init: str | None = None
    reader: str = "clip4str"


@dataclass(frozen=True)
class DataRecipe:
    """Rendered words: share of clean ones falls linearly over the first `clean_fraction` of all samples.

    Of the clean ones, the share `page` is drawn as pages are scanned and shown; of the others, the share `sign` is
    drawn as signs are photographed. The rest are the renderer's older styles "clean" and "photo".

    Batch norms learn their statistics over the first `mixed_fraction`, from batches of mixed label lengths; then they
    stand still and batches are cut by length. Short words are stretched wide and long ones squeezed: statistics of
    batches of one length would not be those of the words a reader meets.
    """

    seed: int
    batch_size: int
    pool_batches: int  # batches rendered together, sorted by label length, cut, and shuffled
    workers: int
    clean_start: float
    clean_end: float
    clean_fraction: float
    mixed_fraction: float
    val_seed: int
    val_words: int  # of each style
    page: float = 0.0
    sign: float = 0.0


@dataclass(frozen=True)
class OptimRecipe:
    """AdamW with its own learning rates for towers and decoders; EMA of the weights.

    matrices: "muon" lets Muon take those between hidden layers, see `clip4str_doctr.training.muon`.
    """

    learning_rate: float
    tower_factor: float
    decoder_factor: float
    betas: tuple[float, float]
    weight_decay: float
    clip_norm: float
    ema_decay: float
    matrices: str = "adamw"


@dataclass(frozen=True)
class ScheduleRecipe:
    """Linear warm-up, the peak, then a half cosine; the run ends when samples or hours (if given) are used up."""

    total_samples: int
    max_hours: float | None
    warmup: float
    final_factor: float
    hold: float = 0.0  # share of the run at the peak, between the warm-up and the half cosine


@dataclass(frozen=True)
class LossRecipe:
    """Weights of the three losses and what shapes them; see `clip4str_doctr.training.losses`."""

    permutations: int = 6
    visual_weight: float = 1.0
    cross_weight: float = 1.0
    label_smoothing: float = 0.0
    captions: str = "forced"  # the visual branch's with the label as context, or "read": as it reads
    caption_corruption: float = 0.1  # share of captions with some characters replaced by look-alikes
    # 0: a batch of long words weighs as much as one of short ones; 1: as much more as its words have more symbols.
    length_weight: float = 0.0
    hidden_images: float = 0.0  # share of words of whose image the cross branch sees half
    ctc_weight: float = 1.0
    ctc_weight_end: float = 0.1
    ctc_rows: int = 4
    ctc_steps_per_column: int = 2


@dataclass(frozen=True)
class WordsRecipe:
    """The user's own words, see `clip4str_doctr.training.finetune`. Without `train` folders all words are rendered."""

    train: tuple[str, ...] = ()
    val: tuple[str, ...] = ()  # none: words of `train` are held back
    share: float = 0.5  # of all samples; the others are rendered, lest the model forget
    augment: float = 0.5  # share of them that light, lens and file change a little
    val_share: float = 0.1
    val_words: int = 500  # at most so many are held back


@dataclass(frozen=True)
class FreezeRecipe:
    """What stays as it is: the first so many layers of a tower and all before them, or all of it."""

    image_layers: int = 0
    text_layers: int = 0
    image_tower: bool = False
    text_tower: bool = False


@dataclass(frozen=True)
class RunRecipe:
    """How and where the run is carried out."""

    seed: int
    precision: str  # "float32", "bfloat16" for autocast, or "auto" for what the device is fast at
    threads: int
    log_every: int  # steps
    validate_every: int  # samples
    checkpoint_minutes: float
    # Parts that a batch is cut into, one after the other: less memory. What is drawn by chance is drawn for each.
    accumulate: int = 1
    recompute: bool = False  # tower layers are computed again for the gradient instead of kept: less memory, slower


@dataclass(frozen=True)
class Recipe:
    """Everything `train` needs beside the output folder."""

    model: ModelRecipe
    data: DataRecipe
    optim: OptimRecipe
    schedule: ScheduleRecipe
    loss: LossRecipe
    run: RunRecipe
    words: WordsRecipe = field(default_factory=WordsRecipe)
    freeze: FreezeRecipe = field(default_factory=FreezeRecipe)

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionaries, lists and scalars, as they stand in the YAML file."""
        values: dict[str, Any] = _plain(asdict(self))
        return values


PRECISIONS = ("float32", "bfloat16", "auto")
CAPTIONS = ("forced", "read")
READERS = ("clip4str", "parseq")
MATRICES = ("adamw", "muon")


def load_recipe(path: str | Path, instead: Mapping[str, Mapping[str, Any]] | None = None) -> Recipe:
    """Read a recipe file. instead: section -> key -> value in place of the file's.

    Raises ValueError naming an unknown, missing or mistyped key, OSError for a file that cannot be read.
    """
    import yaml

    try:
        with open(path, encoding="utf-8") as file:
            values = yaml.safe_load(file)
        if isinstance(values, dict):
            for part, keys in (instead or {}).items():
                if isinstance(section := values.setdefault(part, {}), dict):
                    section.update(keys)
        return recipe_from_dict(values)
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def speaks_of_words(path: str | Path) -> bool:
    """Whether a recipe file has the section `words`, and so is meant for words of the user's own."""
    import yaml

    with open(path, encoding="utf-8") as file:
        return "words" in yaml.safe_load(file)


def recipe_from_dict(values: Mapping[str, Any]) -> Recipe:
    """Build a recipe from nested dictionaries. Raises ValueError naming an unknown, missing or mistyped key."""
    recipe: Recipe = _read(Recipe, values, "")
    _check(recipe)
    return recipe


def _check(recipe: Recipe) -> None:
    """Refuse values that would only fail, or quietly do something else, hours later."""
    shares = {
        "data.clean_start": recipe.data.clean_start,
        "data.clean_end": recipe.data.clean_end,
        "data.clean_fraction": recipe.data.clean_fraction,
        "data.mixed_fraction": recipe.data.mixed_fraction,
        "data.page": recipe.data.page,
        "data.sign": recipe.data.sign,
        "schedule.warmup": recipe.schedule.warmup,
        "schedule.hold": recipe.schedule.hold,
        "schedule.warmup + schedule.hold": recipe.schedule.warmup + recipe.schedule.hold,
        "schedule.final_factor": recipe.schedule.final_factor,
        "loss.caption_corruption": recipe.loss.caption_corruption,
        "loss.hidden_images": recipe.loss.hidden_images,
        "loss.length_weight": recipe.loss.length_weight,
        "loss.label_smoothing": recipe.loss.label_smoothing,
        "optim.ema_decay": recipe.optim.ema_decay,
        "words.augment": recipe.words.augment,
    }
    _check_each(shares, lambda share: 0.0 <= share <= 1.0, "lie in 0..1")
    _check_each({"words.val_share": recipe.words.val_share}, lambda share: 0.0 < share < 1.0, "lie within 0..1")
    counts = {
        "data.batch_size": recipe.data.batch_size,
        "data.pool_batches": recipe.data.pool_batches,
        "data.val_words": recipe.data.val_words,
        "schedule.total_samples": recipe.schedule.total_samples,
        "run.threads": recipe.run.threads,
        "run.log_every": recipe.run.log_every,
        "run.validate_every": recipe.run.validate_every,
        "run.accumulate": recipe.run.accumulate,
        "words.val_words": recipe.words.val_words,
    }
    _check_each(counts, lambda count: count >= 1, "be at least 1")
    _check_measures(recipe)
    if recipe.loss.permutations != 1 and (recipe.loss.permutations < 1 or recipe.loss.permutations % 2):
        raise ValueError(f"loss.permutations come in mirrored pairs, 1 or even, got {recipe.loss.permutations}")
    if not 0.0 < recipe.words.share <= 1.0:
        raise ValueError(f"words.share must lie above 0 and not above 1, got {recipe.words.share}")
    if recipe.words.val and not recipe.words.train:
        raise ValueError("words.val watches words.train, which is empty; give --data DIR, too")
    if recipe.model.reader != "clip4str" and (
        recipe.model.init or recipe.words.train or recipe.freeze != FreezeRecipe() or recipe.run.recompute
    ):
        raise ValueError(
            f"model.reader {recipe.model.reader} is trained from random weights on rendered words only; leave "
            "model.init, words, freeze and run.recompute out"
        )
    if min(recipe.freeze.image_layers, recipe.freeze.text_layers) < 0:
        raise ValueError(f"layers to freeze must be 0 or more, got {recipe.freeze}")
    for name, value, known in (
        ("run.precision", recipe.run.precision, PRECISIONS),
        ("loss.captions", recipe.loss.captions, CAPTIONS),
        ("model.reader", recipe.model.reader, READERS),
        ("optim.matrices", recipe.optim.matrices, MATRICES),
    ):
        if value not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")


def _check_each(values: Mapping[str, float], fits: Callable[[float], bool], must: str) -> None:
    """NaN fits nothing."""
    for name, value in values.items():
        if not fits(value):
            raise ValueError(f"{name} must {must}, got {value}")


def _check_measures(recipe: Recipe) -> None:
    above_zero = {
        "optim.learning_rate": recipe.optim.learning_rate,
        "optim.clip_norm": recipe.optim.clip_norm,
        "loss.ctc_rows": recipe.loss.ctc_rows,
        "loss.ctc_steps_per_column": recipe.loss.ctc_steps_per_column,
    }
    if recipe.schedule.max_hours is not None:
        above_zero["schedule.max_hours"] = recipe.schedule.max_hours
    _check_each(above_zero, lambda value: value > 0.0, "be above 0")
    if recipe.optim.learning_rate == math.inf:
        raise ValueError("optim.learning_rate must be finite, got inf")
    from_zero = {
        "data.seed": recipe.data.seed,
        "data.val_seed": recipe.data.val_seed,
        "run.seed": recipe.run.seed,
        "data.workers": recipe.data.workers,
        "optim.tower_factor": recipe.optim.tower_factor,
        "optim.decoder_factor": recipe.optim.decoder_factor,
        "optim.weight_decay": recipe.optim.weight_decay,
        "loss.visual_weight": recipe.loss.visual_weight,
        "loss.cross_weight": recipe.loss.cross_weight,
        "loss.ctc_weight": recipe.loss.ctc_weight,
        "loss.ctc_weight_end": recipe.loss.ctc_weight_end,
        "run.checkpoint_minutes": recipe.run.checkpoint_minutes,
    }
    _check_each(from_zero, lambda value: value >= 0.0, "be 0 or more")
    if not all(0.0 <= beta < 1.0 for beta in recipe.optim.betas):
        raise ValueError(f"optim.betas must be 0 or more and less than 1, got {list(recipe.optim.betas)}")


def _read(kind: Any, values: Any, where: str) -> Any:
    """Read one dataclass from a mapping; `where` is the dotted path for error messages."""
    if not isinstance(values, Mapping):
        raise ValueError(f"{where or 'the recipe'} must be a mapping of keys to values, got {values!r}")
    hints = get_type_hints(kind)
    dotted = {str(key): f"{where}.{key}".lstrip(".") for key in [*values, *hints]}
    unknown = [dotted[str(key)] for key in values if key not in hints]
    if unknown:
        raise ValueError(f"unknown key {unknown[0]}; known here: {', '.join(hints)}")
    required = {item.name for item in fields(kind) if item.default is item.default_factory}
    missing = [dotted[name] for name in hints if name in required and name not in values]
    if missing:
        raise ValueError(f"missing key {missing[0]}")
    return kind(**{name: _value(hints[name], value, dotted[name]) for name, value in values.items()})


def _value(kind: Any, value: Any, where: str) -> Any:
    """One value of the type its field declares; whole numbers are accepted for floats, nothing else is converted."""
    if is_dataclass(kind):
        return _read(kind, value, where)
    if isinstance(kind, UnionType):
        if value is None:
            return None
        kind = next(one for one in get_args(kind) if one is not type(None))
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind == tuple[float, float] and isinstance(value, list) and len(value) == 2:
        return tuple(_value(float, one, where) for one in value)
    if kind == tuple[str, ...] and isinstance(value, (list, tuple)):
        return tuple(_value(str, one, where) for one in value)
    if kind in (int, float, str, bool) and type(value) is kind:
        return value
    if kind == dict[str, Any] and isinstance(value, dict):
        return value
    hint = " (YAML wants a dot in 1.0e-3)" if kind is float and isinstance(value, str) else ""
    raise ValueError(f"{where} must be {getattr(kind, '__name__', kind)}, got {value!r}{hint}")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, (tuple, list)) else value
