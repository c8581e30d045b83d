"""What importing costs, and that imports point one way."""

import ast
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import clip4str_doctr

PACKAGE = Path(clip4str_doctr.__file__).parent

# From the ground up: a room may import, when it is imported itself, from its own floor and those before it.
FLOORS = (
    ("atomic", "batches", "charset", "eager", "file_types", "weight_state"),
    ("config",),
    (
        "preprocess",
        "postprocess",
        "decoding",
        "caption_cache",
        "images",
        "weight_card",
        "tokenizer",
        "boxes",
    ),
    ("fast_decoding", "ink", "gaps", "leaders", "long_pages"),
    ("lines", "finders"),
    ("wide_crops", "modeling"),
    ("checkpoint", "lookup", "published", "state_dict", "tensor_file", "weight_folder", "weights"),
    ("convert", "factories", "plugin", "predictor", "detection"),
    ("pages", "pictures"),
    ("training",),
    ("benchmark",),
    ("cli", "_autoload", ""),
)
FLOOR_OF = {room: number for number, floor in enumerate(FLOORS) for room in floor}

# External packages that only some rooms may know at all.
KNOWN_ONLY_TO = {
    # State dicts are downloaded as docTR does; training teaches docTR's PARSeq, too, to compare with.
    "doctr": {"plugin", "predictor", "detection", "state_dict", "pages", "training", "benchmark"},
    "rapidocr": {"finders"},
    "onnxruntime": {"finders", "benchmark"},
    "onnx": {"benchmark"},
    "scipy": {"benchmark"},
    "pypdfium2": {"pages"},
    "open_clip": {"modeling"},
    "transformers": {"modeling"},
    "pickle": {"checkpoint"},
}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return "" if first == "__init__" else first


def imports(nodes: list[ast.stmt], *, anywhere: bool) -> Iterator[str]:
    """Modules that are imported when these statements are executed, or anywhere within them."""
    tree = ast.Module(nodes, [])
    for node in ast.walk(tree) if anywhere else nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "absolute imports only"
            yield node.module or ""
        elif isinstance(node, ast.Try) and not anywhere:
            yield from imports(node.body, anywhere=False)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path: Path) -> None:
    room = room_of(path)
    assert room in FLOOR_OF, f"say in FLOORS where {room} stands"
    body = ast.parse(path.read_text(encoding="utf-8")).body
    for name in imports(body, anywhere=False):
        top, _, rest = name.partition(".")
        if top == "clip4str_doctr":
            other = rest.split(".")[0]
            # The package itself holds nothing but the version and lazy names.
            assert not other or FLOOR_OF[other] <= FLOOR_OF[room], f"{room or '__init__'} imports {name}"
    for name in imports(body, anywhere=True):
        rooms = KNOWN_ONLY_TO.get(name.partition(".")[0])
        assert rooms is None or room in rooms, f"{room or '__init__'} imports {name}"


def test_two_imports_inside_functions_point_up() -> None:
    """Those that CONTRIBUTING names: the loss, and the weights, of a model as docTR's contract has it."""
    upwards = set()
    for path in modules():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        for name in (name for function in functions for name in imports(function.body, anywhere=True)):
            top, _, rest = name.partition(".")
            other = rest.split(".")[0]
            if top == "clip4str_doctr" and other and FLOOR_OF[other] > FLOOR_OF[room_of(path)]:
                upwards.add((str(path.relative_to(PACKAGE)), other))
    assert upwards == {("modeling/clip4str.py", "training"), ("modeling/clip4str.py", "weights")}


def test_modules_are_short() -> None:
    for path in modules():
        lines = path.read_text(encoding="utf-8").count("\n")
        assert lines <= 400, f"{path.name} has {lines} lines"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                assert (node.end_lineno or 0) - node.lineno < 60, f"{path.name}: {node.name} is too long"


def imported_by(*code: str) -> set[str]:
    """Top-level names of all modules that a fresh process has after running the code."""
    script = "\n".join([*code, "import sys", "print(*{name.partition('.')[0] for name in sys.modules})"])
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, encoding="utf-8", check=True, timeout=120
    )
    return set(done.stdout.splitlines()[-1].split())


HEAVY = {"torch", "torchvision", "doctr", "transformers", "open_clip", "numpy", "PIL", "huggingface_hub", "yaml"}


def test_importing_us_imports_nothing_heavy() -> None:
    assert not HEAVY & imported_by("import clip4str_doctr, clip4str_doctr._autoload")


@pytest.mark.parametrize("command", ["read", "page", "bench"])
def test_help_imports_nothing_heavy(command: str) -> None:
    code = f"from clip4str_doctr.cli import main\ntry: main(['{command}', '--help'])\nexcept SystemExit: pass"
    assert not HEAVY & imported_by(code)


def test_weights_are_listed_without_torch() -> None:
    assert not {"torch", "doctr", "transformers"} & imported_by(
        "from clip4str_doctr.cli import main", "main(['weights'])"
    )


def test_reading_imports_what_it_needs_only() -> None:
    """The command line and the small model: neither docTR, nor what the big towers need, nor torch's compiler."""
    script = "\n".join(
        [
            "import sys, clip4str_doctr, torch, numpy as np",
            "from clip4str_doctr.cli import main",
            "from PIL import Image",
            "Image.fromarray(np.full((32, 90, 3), 200, np.uint8)).save(sys.argv[1])",
            "assert main(['read', sys.argv[1]]) == 0",
            "print([name for name in sys.argv[2].split() if name in sys.modules])",
        ]
    )
    names = "doctr torchvision transformers open_clip torch._dynamo matplotlib cv2"
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", script, str(Path(folder) / "word.png"), names],
            capture_output=True,
            encoding="utf-8",
            timeout=120,
        )
    assert done.stdout.splitlines()[-1:] == ["[]"], done.stdout + done.stderr


def test_public_names() -> None:
    assert set(clip4str_doctr.__all__) <= set(dir(clip4str_doctr))
    for name in clip4str_doctr.__all__:
        assert getattr(clip4str_doctr, name) is not None
    with pytest.raises(AttributeError, match="load_modell.*load_model"):
        clip4str_doctr.load_modell  # noqa: B018
