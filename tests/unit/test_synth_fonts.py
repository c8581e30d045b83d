"""Fonts of the styles sign and page: which there are, fetched and of one's own, and what their faces lack."""

import json
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from clip4str_doctr.training.synth import Renderer, Selection, fonts_installed
from clip4str_doctr.training.synth.families import FONTS_VARIABLE, letters_of_file, own_fonts, street_families
from clip4str_doctr.training.synth.fonts import VAL_FAMILIES, Face, family_files, load_face, not_thin, usable_faces

pytestmark = pytest.mark.skipif(
    not fonts_installed(), reason="no fonts to render with: pip install clip4str-doctr[train]"
)


@pytest.fixture(autouse=True)
def no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FONTS_VARIABLE, raising=False)


def test_more_than_120_families_come_with_the_extra() -> None:
    train, val = street_families("train"), street_families("val")
    assert len(train) + len(val) >= 120
    assert set(val) <= VAL_FAMILIES and not set(train) & VAL_FAMILIES
    assert {"indie-flower", "dancing-script", "titan-one"} < set(val)
    kinds = [family.kind for family in train.values()]
    assert all(kinds.count(kind) >= 4 for kind in ("text", "display", "script", "hand"))
    assert train["bebas-neue"].capitals_only and not train["montserrat"].capitals_only
    assert {family.name for family in train.values() if family.faces[0].drawn_marks} >= {
        "stix-general",
        "abril-fatface",
    }


def test_a_folder_of_fonts_is_used_and_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for family, package in (("my-sign-font", "fontpkg-anton"), ("patrick-hand", "fontpkg-lobster"), ("empty", "")):
        (tmp_path / family).mkdir()
        for path in family_files(package) if package else []:
            (tmp_path / family / Path(path).name).write_bytes(Path(path).read_bytes())
    monkeypatch.setenv(FONTS_VARIABLE, str(tmp_path))
    assert "my-sign-font" in street_families("train") and "patrick-hand" not in street_families("train")
    assert "patrick-hand" in street_families("val") and "empty" not in street_families("train")
    before = len(street_families("train"))
    monkeypatch.delenv(FONTS_VARIABLE)
    assert len(street_families("train")) == before - 1
    monkeypatch.setenv(FONTS_VARIABLE, str(tmp_path / "nothing"))
    with pytest.raises(RuntimeError, match=r"no folder; unset it, or fill the folder with: python -m .*fetch_fonts"):
        own_fonts()


def test_table_of_fetched_families() -> None:
    from clip4str_doctr.training.synth.fetch_fonts import wanted_families

    rows = wanted_families()
    names = [row[1] if row[0] == "npm" else row[2] for row in rows]
    assert len(set(names)) == len(names) > 60 and {"patrick-hand", "paytone-one", "tinos", "tex-gyre-termes"} < set(
        names
    )
    assert all(len(row) == {"npm": 3, "deb": 4}[row[0]] for row in rows)


def test_fetching_keeps_only_whole_alphabets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from clip4str_doctr.training.synth import fetch_fonts

    good, marks = family_files("fontpkg-anton")[0], family_files("fontpkg-titan-one")[0]

    def npm(command: list[str], work: Path) -> None:
        family = command[-1].removeprefix("@expo-google-fonts/").split("@")[0]
        package = work / "package" / "400Regular"
        package.mkdir(parents=True)
        (work / "package" / "LICENSE_FONT").write_text("SIL Open Font License")
        if family != "empty":
            source = good if family == "whole" else marks
            (package / "Font_400Regular.ttf").write_bytes(Path(source).read_bytes())
        with tarfile.open(work / "x.tgz", "w:gz") as archive:
            archive.add(work / "package", "package")
            archive.addfile(tarfile.TarInfo("../outside"))

    monkeypatch.setattr(fetch_fonts, "_run", npm)
    rows = [["npm", name, "1.0.0"] for name in ("whole", "plain", "empty")]
    record = fetch_fonts.fetch(tmp_path, rows)
    assert not (tmp_path / "outside").exists()
    assert {name: one["letters"] for name, one in record.items()} == {"whole": "all", "plain": "plain"}
    assert json.loads((tmp_path / "fonts.json").read_text()) == record
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fonts.json", "plain", "whole"]
    assert "Open Font License" in record["whole"]["licence"] and len(record["whole"]["sha256"]) == 2
    monkeypatch.setattr(fetch_fonts, "_run", None)  # nothing is fetched twice
    assert fetch_fonts.fetch(tmp_path, rows[:2]) == record


def test_a_missing_tool_is_named(tmp_path: Path) -> None:
    from clip4str_doctr.training.synth import fetch_fonts

    with pytest.raises(RuntimeError, match="there-is-no-such-tool is not installed"):
        fetch_fonts._run(["there-is-no-such-tool"], tmp_path)
    with pytest.raises(RuntimeError, match=r"failed \(1\)"):
        fetch_fonts._run(["false"], tmp_path)


def test_letters_of_files() -> None:
    assert letters_of_file(family_files("fontpkg-montserrat")[0]) == "all"
    assert letters_of_file(family_files("fontpkg-righteous")[0]) == "plain"


def drawn_with(
    face: Face, split: Literal["train", "val"], labels: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> list[tuple[str, bool]]:
    """(label, whether its marks are drawn by us) of pages whose words are all set in that face."""
    from clip4str_doctr.training.synth import engine

    used: list[tuple[str, bool]] = []
    monkeypatch.setattr(engine, "_face", lambda rng, family, share: face)
    monkeypatch.setattr(engine, "render_page", lambda rng, label, face, *rest: used.append((label, face.drawn_marks)))
    renderer = Renderer("page", split, 5, Selection(labels))
    for index in range(len(labels)):
        renderer.sample(index)
    return used


def test_faint_dots_are_drawn_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    from clip4str_doctr.training.synth.legibility import has_faint_dots

    thin = street_families("val")["work-sans"].faces[0]
    assert thin.weight < 300 and has_faint_dots(thin, "Họp") and not has_faint_dots(thin, "Góp")
    assert not any(
        has_faint_dots(face, "ọ") for face in street_families("train")["montserrat"].faces if face.weight >= 400
    )
    assert drawn_with(thin, "val", ("ọ", "ó"), monkeypatch) == [("ọ", True), ("ó", False)]


def test_letters_that_a_face_draws_without_their_hat_are_drawn_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    from clip4str_doctr.training.synth.legibility import lacks_marks

    italic = next(face for face in street_families("train")["chivo"].faces if face.italic)
    assert lacks_marks(italic, "BỘ") and lacks_marks(italic, "Ặ") and not lacks_marks(italic, "bộ ÔẤ")
    assert drawn_with(italic, "train", ("BỘ", "bộ"), monkeypatch) == [("BỘ", True), ("bộ", False)]
    # The older styles draw no marks: they take another face.
    older = Renderer("clean", "train", 5)
    older._load()
    monkeypatch.setattr(older, "_face", lambda rng, clean: upright)
    upright = next(face for face in street_families("train")["chivo"].faces if not face.italic)
    assert older._legible(np.random.default_rng(1), italic, "BỘ", True) is upright
    assert older._legible(np.random.default_rng(1), italic, "bộ", True) is italic


def test_families_without_small_letters_say_so() -> None:
    """Their a, e, g, r and q are their A, E, G, R and Q, but for size."""

    def shape(face: Face, letter: str) -> npt.NDArray[np.float64]:
        mask = load_face(face, 60).getmask(letter)
        picture = Image.frombytes("L", mask.size, bytes(mask))
        return np.asarray(picture.resize((24, 24)), np.float64) / 255

    for name, family in street_families("train").items():
        face = next((one for one in family.faces if not one.italic and 400 <= one.weight < 800), family.faces[0])
        alike = [float(np.abs(shape(face, one) - shape(face, one.upper())).mean()) for one in "aegrq"]
        # Thin strokes differ little wherever they run.
        ink = float(np.mean([shape(face, one).mean() for one in "AEGRQ"]))
        assert (max(alike) > 0.25 * ink) or family.capitals_only, f"{name}: {max(alike):.3f}, ink {ink:.3f}"


def test_faces_of_plots_know_their_weight_and_slant() -> None:
    faces = {Path(face.path).stem: face for face in street_families("train")["stix-general"].faces}
    assert {stem: (face.weight, face.italic) for stem, face in faces.items()} == {
        "STIXGeneral": (400, False),
        "STIXGeneralBol": (700, False),
        "STIXGeneralItalic": (400, True),
        "STIXGeneralBolIta": (700, True),
    }


def test_pages_are_set_in_all_kinds_of_faces(monkeypatch: pytest.MonkeyPatch) -> None:
    from clip4str_doctr.training.synth.engine import Engine

    engine = Engine("page", "train", 1, Selection())
    rng = np.random.default_rng(3)
    families = [engine._page_family(rng) for _ in range(4000)]
    tills = np.mean([family.faces[0].fixed_pitch for family in families])
    display = np.mean([family.kind == "display" and not family.faces[0].fixed_pitch for family in families])
    assert 0.05 < tills < 0.08 and 0.02 < display < 0.04
    assert not {family.name for family in families if family.faces[0].fixed_pitch} & {"rubik-mono-one"}


def test_nothing_thinner_than_light_is_taught() -> None:
    faces = next(faces for faces in usable_faces("train").values() if min(face.weight for face in faces) < 300)
    assert {face.weight for face in not_thin(faces)} == {face.weight for face in faces if face.weight >= 300}
    thin = replace(faces[0], weight=100), replace(faces[0], weight=200)
    assert not_thin(thin) == thin[1:]
    renderer = Renderer("clean", "train", 1)
    renderer.sample(0)
    taught = [faces for families in renderer._families.values() for faces in families]
    assert all(min(face.weight for face in faces) >= 300 or len(faces) == 1 for faces in taught)
