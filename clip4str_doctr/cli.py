"""The command line: `clip4str-doctr read | page | convert | weights | train | bench`.

Results go to stdout, everything else to stderr. Exit status: 0 when all went well, 1 when some inputs failed, 2 when
nothing could be done as asked. torch is imported only once there is work for it.
"""

import argparse
import errno
import json
import logging
import os
import sys
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from clip4str_doctr import __version__
from clip4str_doctr.benchmark.command import BenchCommandError, positive, run_bench
from clip4str_doctr.benchmark.command import add_arguments as add_bench_arguments
from clip4str_doctr.config import DEFAULT_ARCH, PRESETS, CrossModal
from clip4str_doctr.file_types import IMAGE_SUFFIXES, listed, overlooked, present
from clip4str_doctr.pages.command import PageCommandError, read_pages
from clip4str_doctr.pages.command import add_arguments as add_page_arguments

if TYPE_CHECKING:
    import torch


__all__ = ["main"]

DTYPES = ("float16", "bfloat16", "float32")


class CommandError(Exception):
    """What was asked for cannot be done; the message says why and what to do."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    for stream in (sys.stdout, sys.stderr):
        # Vietnamese must come out under any locale, and so must file names that are no valid UTF-8.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    # Pillow warns from half of its limit on, of pictures that are read all the same. Once for the whole process, not
    # around each picture: `catch_warnings` in several threads would leave its filters behind.
    warnings.filterwarnings("ignore", message="Image size .* could be decompression bomb")
    args = _parser().parse_args(argv)
    try:
        status: int = args.run(args)
        sys.stdout.flush()
    except CommandError as error:
        print(f"clip4str-doctr: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output (head, less) has left.
        _close_output()
        return 1
    except OSError as error:
        if error.errno != errno.ENOSPC or error.filename is not None:
            raise
        print(f"clip4str-doctr: error: standard output cannot be written: {error.strerror}", file=sys.stderr)
        _close_output()
        return 2
    return status


def _close_output() -> None:
    """What was not written is given up; Python would complain once more when it closes stdout."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="clip4str-doctr", description="Read Vietnamese words in pictures.")
    parser.add_argument("--version", action="version", version=f"clip4str-doctr {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_read(commands.add_parser("read", help="read pictures of single words"))
    _add_page(commands.add_parser("page", help="find and read the words of whole pages"))
    _add_convert(commands.add_parser("convert", help="turn the published checkpoint into a weights folder"))
    _add_weights(commands.add_parser("weights", help="list the weights that are found, and where they are looked for"))
    _add_train(commands.add_parser("train", help="train a model from a recipe"))
    _add_bench(commands.add_parser("bench", help="measure how well a model reads"))
    return parser


def _add_read(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Read pictures of single words; prints one line 'NAME: TEXT' for each. Of a folder its "
        f"{listed(IMAGE_SUFFIXES)} files are read in natural order, subfolders are not."
    )
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="image file or folder of images")
    parser.add_argument("--json", action="store_true", help='print an array of {"path", "text", "confidence"}')
    _add_model(parser)
    _add_batch_size(parser)
    parser.set_defaults(run=_read)


def _add_page(parser: argparse.ArgumentParser) -> None:
    add_page_arguments(parser)
    _add_model(parser)
    _add_batch_size(parser)
    parser.set_defaults(run=_page)


def _add_model(parser: argparse.ArgumentParser) -> None:
    names = ", ".join(PRESETS)
    parser.add_argument("--arch", help=f"{names}, or one another package adds (default: {DEFAULT_ARCH})")
    parser.add_argument("--weights", help="published .ckpt, weights folder, or hf://owner/repo (default: looked for)")
    parser.add_argument("--mclip", type=Path, help="published M_clip folder, where --weights is a .ckpt outside of it")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, mps, ... (default: cuda if there is one)")
    parser.add_argument(
        "--cross-modal",
        choices=get_args(CrossModal),
        help="auto leaves words at the visual branch's draft where it is certain: faster (default: always)",
    )


def _add_batch_size(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--batch-size", type=positive, default=32, metavar="N", help="words at once (default: 32)")


def _add_convert(parser: argparse.ArgumentParser) -> None:
    parser.description = "Turn the published checkpoint into a folder with config, safetensors, tokenizer and card."
    parser.add_argument("checkpoint", type=Path, metavar="CKPT", help="published .ckpt file")
    parser.add_argument("--mclip", type=Path, required=True, metavar="DIR", help="published M_clip folder")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="OUT", help="folder to write")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="of the written weights (default: float32)")
    parser.add_argument("--overwrite", action="store_true", help="write into a folder that holds other files, too")
    parser.set_defaults(run=_convert)


def _add_weights(parser: argparse.ArgumentParser) -> None:
    parser.description = "List where weights are looked for, in order, and which are there."
    parser.set_defaults(run=_weights)


def _add_train(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Train a model from a recipe; needs pip install 'clip4str-doctr[train]'. Stopped with Ctrl-C, "
        "the same command goes on where it was."
    )
    parser.add_argument(
        "recipe",
        nargs="?",
        metavar="CONFIG",
        help="YAML recipe, or the name of one that comes with the package (default with --data: fine-tuning of --init)",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for everything (default: runs/CONFIG)")
    parser.add_argument(
        "--init",
        metavar="WEIGHTS",
        help="start from these weights instead of random ones: clip4str_vn_tiny, clip4str_vn, a weights folder, "
        "hf://owner/repo, a published .ckpt, or the checkpoint.pt of another run",
    )
    parser.add_argument(
        "--data",
        action="append",
        metavar="DIR",
        help="words of your own to train on: a folder with images/ and labels.json, or an LMDB; may be given again",
    )
    parser.add_argument("--val", action="append", metavar="DIR", help="words to watch (default: some of --data)")
    parser.add_argument("--strict-labels", action="store_true", help="stop if any word of --data cannot be used")
    parser.add_argument("--mclip", type=Path, help="published M_clip folder, where --init is a .ckpt outside of it")
    parser.set_defaults(run=_train)


def _add_bench(parser: argparse.ArgumentParser) -> None:
    add_bench_arguments(parser)
    parser.set_defaults(run=_bench)


def _read(args: argparse.Namespace) -> int:
    from clip4str_doctr.batches import is_out_of_memory, reason_of
    from clip4str_doctr.images import find_images
    from clip4str_doctr.pictures import read_pictures

    try:
        given = present(args.paths)
        for complaint in overlooked(given, IMAGE_SUFFIXES):
            print(complaint, file=sys.stderr)
        paths = find_images(given)
    except OSError as error:
        raise CommandError(str(error)) from error
    if not paths:
        raise CommandError(f"no image in {', '.join(map(str, args.paths))}; read --help lists the types")
    model = _on_device(args)

    results: list[dict[str, Any]] = []
    names = Counter(path.name for path in paths)
    try:
        for path, text, confidence in read_pictures(model, paths, args.batch_size):
            results.append({"path": str(path), "text": text, "confidence": confidence})
            if not args.json:
                # A name that stands twice needs its folder to be told apart.
                print(f"{path.name if names[path.name] == 1 else path}: {text}", flush=True)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise CommandError(f"there is no memory to read one picture: {reason_of(error)}. Try --device cpu") from error
    finally:
        # What was read is not lost for what comes after it.
        if args.json:
            json.dump(results, sys.stdout, ensure_ascii=False, indent=2)
            print()
    return 0 if len(results) == len(paths) and len(given) == len(args.paths) else 1


def _page(args: argparse.Namespace) -> int:
    try:
        return read_pages(args, lambda: _on_device(args))
    except PageCommandError as error:
        raise CommandError(str(error)) from error


def _device(name: str) -> "torch.device":
    import torch

    from clip4str_doctr.batches import reason_of

    wanted = name if name != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(wanted)
        # A device may be well spelled and still not be there, or be in use, or be of a make that torch has left.
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        if name == "auto":
            logging.getLogger(__name__).warning("the GPU cannot be used (%s); going on on the CPU", reason_of(error))
            return torch.device("cpu")
        raise CommandError(f"cannot use --device {name}: {reason_of(error)}. Try --device cpu") from error
    return device


def _on_device(args: argparse.Namespace) -> Any:
    """The model, ready to read where --device says."""
    from clip4str_doctr.batches import is_out_of_memory, reason_of

    device = _device(args.device)
    model = _load(args).eval()
    try:
        return model.to(device)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise CommandError(
            f"--device {device} has no room for the model: {reason_of(error)}. Try --device cpu"
        ) from error


def _load(args: argparse.Namespace) -> Any:
    from clip4str_doctr import CLIP4STR

    model = _weighted(args)
    if args.cross_modal is not None:
        if not isinstance(model, CLIP4STR):
            raise CommandError(f"--arch {args.arch} is no CLIP4STR, which alone has --cross-modal; leave it out")
        model.config = model.config.with_decode(cross_modal=args.cross_modal)
    return model


def _weighted(args: argparse.Namespace) -> Any:
    from clip4str_doctr.plugin import factories
    from clip4str_doctr.weights import load_model

    if args.mclip is not None and args.weights is None:
        raise CommandError("--mclip goes with --weights CKPT; leave it out, or say which checkpoint it belongs to")
    try:
        if args.weights is None:
            known = factories()
            arch = args.arch or DEFAULT_ARCH
            if arch not in known:
                raise CommandError(f"unknown --arch {arch}; installed: {', '.join(known) or 'none'}")
            return known[arch].load()(pretrained=True)
        model = load_model(args.weights, tokenizer=args.mclip)
    except (OSError, ValueError) as error:
        raise CommandError(str(error)) from error
    if args.arch not in (None, model.config.arch):
        raise CommandError(f"{args.weights} holds a {model.config.arch}, not a {args.arch}; leave --arch out")
    return model


def _convert(args: argparse.Namespace) -> int:
    import torch

    from clip4str_doctr.convert import convert_checkpoint

    try:
        dtype = getattr(torch, args.dtype)
        convert_checkpoint(args.checkpoint, args.mclip, args.out, dtype, progress=True, overwrite=args.overwrite)
    except (OSError, ValueError) as error:
        raise CommandError(str(error)) from error
    print(args.out)
    return 0


def _weights(args: argparse.Namespace) -> int:
    from clip4str_doctr.lookup import find_all

    for name, places in find_all().items():
        print(f"{name}:")
        for place, state in places:
            print(f"  {place}: {state}")
    return 0


def _train(args: argparse.Namespace) -> int:
    from clip4str_doctr.training.recipe_files import find_recipe, finetuning_recipe, tell_of_start

    try:
        path = find_recipe(args.recipe or finetuning_recipe(args.init, args.data))
    except ValueError as error:
        raise CommandError(str(error)) from error
    # The loop before anything else that imports torch: it sets how OpenMP waits.
    from clip4str_doctr.training.loop import train  # isort: split
    from clip4str_doctr.batches import is_out_of_memory, reason_of
    from clip4str_doctr.training.datasets import DatasetError
    from clip4str_doctr.training.recipe import RecipeError, load_recipe, speaks_of_words
    from clip4str_doctr.training.start import model_config
    from clip4str_doctr.training.synth.fonts import MissingFontsError, fonts_installed
    from clip4str_doctr.training.validate import watched_styles
    from clip4str_doctr.weight_card import WeightsError

    if args.mclip is not None and args.init is None:
        raise CommandError("--mclip goes with --init CKPT; leave it out, or say which checkpoint it belongs to")
    try:
        recipe = load_recipe(path, _instead(args))
        model_config(recipe.model)
    except (OSError, ValueError) as error:
        raise CommandError(str(error)) from error
    if not recipe.words.train and (args.strict_labels or speaks_of_words(path)):
        what = "--strict-labels is" if args.strict_labels else f"{path.name} is a recipe"
        raise CommandError(f"{what} for words of your own; say where they lie with --data DIR")
    tell_of_start(recipe, path)
    if watched_styles(recipe) and not fonts_installed():
        raise CommandError("there are no fonts to render words with; type pip install 'clip4str-doctr[train]'")
    logging.getLogger().setLevel(logging.INFO)
    try:
        complete = train(
            recipe, args.out or Path("runs") / path.stem, tokenizer=args.mclip, strict_labels=args.strict_labels
        )
    except (RecipeError, DatasetError, WeightsError, MissingFontsError, FloatingPointError, OSError) as error:
        raise CommandError(str(error)) from error
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise CommandError(
            f"there is no memory for a step: {reason_of(error)}. Set run.recompute to true, or run.accumulate to twice "
            "what it is, which takes a new --out folder (--init OUT/checkpoint.pt goes on from this one's)"
        ) from error
    if not complete:
        print("stopped; the same command goes on from here", file=sys.stderr)
    return 0 if complete else 1


def _bench(args: argparse.Namespace) -> int:
    try:
        return run_bench(args, lambda: _load(args), _device)
    except BenchCommandError as error:
        raise CommandError(str(error)) from error


def _instead(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """What the command line says in place of a recipe: section -> key -> value."""
    words = {"train": args.data, "val": args.val}
    given = {"model": {"init": args.init}, "words": words}
    return {
        part: said
        for part, keys in given.items()
        if (said := {key: value for key, value in keys.items() if value is not None})
    }


if __name__ == "__main__":
    sys.exit(main())
