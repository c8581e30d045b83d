"""A user's own words in a training run: held-back validation, light augmentation, mixed with rendered words."""

import csv
import hashlib
import logging
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from clip4str_doctr.atomic import written
from clip4str_doctr.charset import Charset
from clip4str_doctr.config import ModelConfig
from clip4str_doctr.training.data import Samples, SamplesFactory
from clip4str_doctr.training.datasets import CheckedWords, DatasetError, LeftOut, Word, check_words
from clip4str_doctr.training.recipe import Recipe, WordsRecipe

LEFT_OUT = "left_out.tsv"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class OwnWords:
    """Words to train on and words to watch; sha256 of all of them, by which a resumed run knows them again."""

    train: list[Word]
    val: list[Word]
    left_out: list[LeftOut]
    sha256: str

    def to_dict(self) -> dict[str, Any]:
        """What checkpoints remember of them."""
        return {"sha256": self.sha256, "train": len(self.train), "val": len(self.val)}


def own_words(recipe: WordsRecipe, config: ModelConfig, strict: bool = False) -> OwnWords | None:
    """The recipe's data sets, checked and divided; None if it names none.

    strict: refuse data sets with words that cannot be used instead of leaving those out.
    Raises DatasetError for what `check_words` does, and if nothing is left to train on or to watch.
    """
    if not recipe.train:
        return None
    charset, max_symbols = Charset(config.symbols), config.decode.max_symbols
    trained = check_words(recipe.train, charset, max_symbols)
    watched = check_words(recipe.val, charset, max_symbols) if recipe.val else CheckedWords([], [], "")
    left_out = [*trained.left_out, *watched.left_out]
    if strict and left_out:
        first = left_out[0]
        raise DatasetError(
            f"{len(left_out)} words cannot be used; the first: {first.folder}, {first.name}, {first.label!r}: "
            f"{first.reason}. Correct them, or leave --strict-labels out to train without them"
        )
    if recipe.val:
        train, val = trained.words, watched.words
        if common := len({word.digest for word in train} & {word.digest for word in val}):
            logger.warning("%d pictures of --val are among those of --data: what is watched is no proof then", common)
    else:
        train, val = hold_back(trained.words, recipe.val_share, recipe.val_words)
    if not train or not val:
        raise DatasetError(
            f"{len(trained.words)} words with {len({word.label for word in trained.words})} different labels are too "
            "few to hold some back for validation; give a data set of its own with --val"
        )
    sha256 = hashlib.sha256(f"{trained.sha256} {watched.sha256}".encode()).hexdigest()
    return OwnWords(train, val, left_out, sha256)


def hold_back(words: Sequence[Word], share: float, most: int) -> tuple[list[Word], list[Word]]:
    """-> words to train on, words held back: a `share` of them, `most` at the most.

    All words of one label go to the same side; where every label has more words than are wanted, those of the rarest
    are held back. Which labels are held back depends on the labels and their counts alone, so a data set may be copied
    or put in another order. Raises DatasetError where even the rarest label has more than `most` words.
    """
    wanted = min(max(round(len(words) * share), 1), most)
    count: dict[str, int] = {}
    for word in words:
        count[word.label] = count.get(word.label, 0) + 1
    held: set[str] = set()
    taken = 0
    drawn = sorted(count, key=lambda label: hashlib.sha256(label.encode()).digest())
    for label in drawn:
        if taken + count[label] <= wanted:
            held.add(label)
            taken += count[label]
    if not held and drawn:
        held = {min(drawn, key=count.__getitem__)}
        if count[min(held)] > most:
            raise DatasetError(
                f"none of the {len(count)} labels can be held back for validation: each has more than "
                f"words.val_words = {most} words, none of which would be trained on; give a data set of its own with "
                "--val"
            )
        logger.warning("every label has more than %d words; all %d of one are held back", wanted, count[min(held)])
    return [word for word in words if word.label not in held], [word for word in words if word.label in held]


def mixed_with(
    own: OwnWords, recipe: Recipe, factory: SamplesFactory, out: Path, image_size: tuple[int, int]
) -> SamplesFactory:
    """What renders words -> what gives the user's own among them. Tells what is left out, how often each is seen."""
    write_left_out(own.left_out, out)
    tell_how_often(own, recipe)
    return OwnWordsFactory(own, recipe.words, factory, image_size)


def tell_how_often(own: OwnWords, recipe: Recipe) -> None:
    """Log how many times a run sees each of the user's words; a warning where it sees but some of them."""
    seen = int(recipe.schedule.total_samples * recipe.words.share)
    times = seen / len(own.train)
    if times >= 1:
        logger.info("each of the %d words of your own is seen %.1f times", len(own.train), times)
        return
    logger.warning(
        "only %d of the %d words of your own are seen: set schedule.total_samples to %d for each to be seen once",
        *(seen, len(own.train), math.ceil(len(own.train) / recipe.words.share)),
    )


def write_left_out(left_out: Sequence[LeftOut], out: Path) -> None:
    """Every word that is left out, as a table in the run's folder; no file if there is none."""
    if not left_out:
        (out / LEFT_OUT).unlink(missing_ok=True)
        return
    # Names need not be UTF-8, and JSON may hold half of an emoji.
    with (
        written(out / LEFT_OUT) as part,
        open(part, "w", encoding="utf-8", errors="backslashreplace", newline="") as file,
    ):
        table = csv.writer(file, delimiter="\t")
        table.writerow(("folder", "name", "label", "reason"))
        table.writerows((one.folder, one.name, one.label, one.reason) for one in left_out)


class OwnAmongRendered:
    """Samples of which every 1/share-th is the next of the user's words; the others are rendered.

    Every epoch sees each word once, in an order of its own. As all samples, one depends on its index alone.
    """

    def __init__(
        self,
        words: Sequence[Word],
        recipe: WordsRecipe,
        seed: int,
        rendered: Samples,
        image_size: tuple[int, int] = (0, 0),
    ) -> None:
        """image_size: (height, width) that the model reads; crops are not shrunk below it."""
        self.words, self.recipe, self.seed, self.rendered = words, recipe, seed, rendered
        self.image_size = image_size
        self._order: tuple[int, list[int]] = (-1, [])

    def sample(self, index: int) -> tuple[npt.NDArray[np.uint8], str]:
        number = int(index * self.recipe.share)
        if int((index + 1) * self.recipe.share) == number:
            return self.rendered.sample(index)
        epoch, place = divmod(number, len(self.words))
        if self._order[0] != epoch:
            order = list(range(len(self.words)))
            random.Random(f"own words {self.seed} {epoch}").shuffle(order)
            self._order = (epoch, order)
        word = self.words[self._order[1][place]]
        crop = word.small_crop(self.image_size)
        if random.Random(f"augment {self.seed} {index}").random() < self.recipe.augment:
            from clip4str_doctr.training.augment import augment

            crop = augment(crop, np.random.default_rng([self.seed, index]))
        return crop, word.label


@dataclass(frozen=True)
class OwnWordsFactory:
    """A SamplesFactory whose training samples are mixed with the user's words. May be pickled, as workers need it."""

    own: OwnWords
    recipe: WordsRecipe
    rendered: SamplesFactory
    image_size: tuple[int, int] = (0, 0)

    def __call__(self, style: str, split: str, seed: int) -> Samples:
        samples = self.rendered(style, split, seed)
        if split == "val":
            return samples
        return OwnAmongRendered(self.own.train, self.recipe, seed, samples, self.image_size)
