"""The weights in the wheel: small, complete, and they read."""

import json
import re
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from doctr.models import recognition_predictor

from clip4str_doctr import CLIP4STR, load_model
from clip4str_doctr.cli import main
from clip4str_doctr.images import open_image
from clip4str_doctr.training.suites import SUITES
from clip4str_doctr.training.synth import Renderer
from clip4str_doctr.training.validate import score
from clip4str_doctr.weight_card import read_card

REPO = Path(__file__).parents[2]
FOLDER = REPO / "pretrained" / "clip4str_vn_tiny"
PHOTOS = REPO.parent / "shared" / "testset"


@pytest.fixture(scope="module")
def model() -> CLIP4STR:
    return load_model(FOLDER)


def test_it_fits_a_wheel_and_its_card_is_complete() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 15e6
    card = read_card(FOLDER)
    assert (card.arch, card.licence, card.dtype) == ("clip4str_vn_tiny", "Apache-2.0", "float16")
    assert card.data and card.recipe and card.training
    assert card.commit is not None and re.fullmatch("[0-9a-f]{7,40}", card.commit)
    assert set(card.metrics["suites"]) == set(SUITES)
    assert all(one["n"] == 1000 and one["as_defined"] for one in card.metrics["suites"].values())
    assert card.metrics["suites"]["photo"]["cased"] >= 0.6


def test_the_example_of_the_readme(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["read", str(REPO / "examples" / "pho.png"), "--weights", str(FOLDER)]) == 0
    assert capsys.readouterr().out == "pho.png: PHỞ\n"
    predictor = recognition_predictor(load_model(FOLDER), batch_size=4)
    assert predictor([open_image(REPO / "examples" / "pho.png")])[0][0] == "PHỞ"


# The seventeenth run's weights read 95 and 78 of these 100 words, the same at each run and not those of the frozen
# suites, of which the card says 98.8 and 79.5 %. As good weights of another training differ in some of them,
# worse in more: of five such hundreds these read 90 to 95 and 75 to 81.
@pytest.mark.parametrize(("suite", "least"), [("clean", 0.88), ("photo", 0.68)])
def test_it_reads_unseen_fonts_and_words(model: CLIP4STR, suite: str, least: float) -> None:
    samples = Renderer(suite, "val", seed=4)  # type: ignore[arg-type]
    drawn = [samples.sample(index) for index in range(100)]
    scores = score(model, [crop for crop, _ in drawn], [label for _, label in drawn])
    print(f"{suite}: {json.dumps(asdict(scores))}")
    assert scores.cased >= least


def test_a_batch_reads_as_its_members_do(model: CLIP4STR) -> None:
    samples = Renderer("photo", "val", seed=5)
    predictor = recognition_predictor(model, batch_size=16)
    crops = [samples.sample(index)[0] for index in range(16)]
    together = predictor(crops)
    alone = [predictor([crop])[0] for crop in crops]
    assert [text for text, _ in together] == [text for text, _ in alone]
    np.testing.assert_allclose([one for _, one in together], [one for _, one in alone], atol=1e-5)


def test_real_photographs(model: CLIP4STR) -> None:
    if not PHOTOS.is_dir():
        pytest.skip("the five photographs may not be copied into the repository and do not lie beside this checkout")
    labels: dict[str, str] = json.loads((PHOTOS / "labels.json").read_text(encoding="utf-8"))
    read = recognition_predictor(model)([open_image(PHOTOS / name) for name in labels])
    answers = dict(zip(labels, (text for text, _ in read), strict=True))
    print(answers)
    assert sum(answers[name] == label for name, label in labels.items()) >= 3
