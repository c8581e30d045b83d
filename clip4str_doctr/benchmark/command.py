"""`clip4str-doctr bench`: what to measure, with what, and where the report goes.

Only the standard library at the head: the command line's help shall not wait for torch.
"""

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from clip4str_doctr.benchmark.targets import check_file, check_folder, keep_unfinished, unfinished
from clip4str_doctr.config import DEFAULT_ARCH, PRESETS, CrossModal

if TYPE_CHECKING:
    import torch

    from clip4str_doctr.benchmark.recognisers import Recogniser
    from clip4str_doctr.benchmark.tables import Table

__all__ = ["BenchCommandError", "add_arguments", "positive", "run_bench"]

SHAPES = ("straight", "rectified")
REPORTS = Path("docs/benchmarks")
MODELS = (
    "architectures (ours, docTR's), weights folders, .ckpt files, tesseract, tesseract-word, trueocr, rapidocr, "
    "vietocr=CONFIG.yml, onnx=FILE, or module:function; ours with #visual for the visual branch alone"
)

Load = Callable[[], Any]
Device = Callable[[str], "torch.device"]


class BenchCommandError(Exception):
    """Nothing can be measured as asked; the message says why and what to do."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `bench` can measure, each with its options."""
    what = parser.add_subparsers(title="what to measure", required=True, metavar="WHAT")
    _add_accuracy(
        what.add_parser("accuracy", help="words right, on rendered validation suites or on labelled pictures")
    )
    _add_cost(what.add_parser("cost", help="time and memory of the recognisers of a report, measured again"))
    _add_merge(what.add_parser("merge", help="one report of several, of other recognisers or other sets"))
    _add_page(what.add_parser("page", help="words found and read on rendered pages"))
    _add_vintext(what.add_parser("vintext", help="the published comparison, given VinText and the published weights"))
    _add_crops(what.add_parser("crops", help="cut words out of VinText's or ICDAR's pictures"))
    _add_docs(what.add_parser("docs", help="make the page of results from reports"))


def run_bench(args: argparse.Namespace, load: Load, device: Device) -> int:
    """Run what was chosen. load: the model that --arch, --weights and --mclip name. device: a device by its name.

    Returns the exit status. Raises BenchCommandError.
    """
    try:
        status: int = args.measure(args, load, device)
    except ModuleNotFoundError as error:
        raise BenchCommandError(f"{error.name} is not installed; type pip install 'clip4str-doctr[bench]'") from error
    except (OSError, ValueError, RuntimeError, MemoryError) as error:
        raise BenchCommandError(str(error) or "memory does not hold what was asked for") from error
    return status


def _add_accuracy(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Measure word accuracies, CER and 1-NED on the validation suites, whose fonts are held out from training; "
        "needs pip install 'clip4str-doctr[bench]'. Prints a table. With --models, compares "
        "recognisers on the same words, with intervals and tests."
    )
    parser.add_argument("--models", nargs="+", metavar="NAME", help=f"compare these: {MODELS}")
    parser.add_argument("--arch", help=f"{', '.join(PRESETS)}, or another package's (default: {DEFAULT_ARCH})")
    parser.add_argument("--weights", help="published .ckpt, weights folder, or hf://owner/repo (default: looked for)")
    parser.add_argument("--mclip", type=Path, help="published M_clip folder, where --weights is a .ckpt outside of it")
    parser.add_argument("--cross-modal", choices=get_args(CrossModal), help="as of `clip4str-doctr read`")
    parser.add_argument(
        "--suite", action="append", metavar="NAME", help="suite to read, may be repeated (default: all)"
    )
    parser.add_argument("--words", type=positive, default=1000, metavar="N", help="of each suite (default: 1000, all)")
    parser.add_argument(
        "--data",
        type=Path,
        nargs="+",
        metavar="DATA",
        help="labelled pictures instead: labels.json with images, an LMDB, VinText's folder of pictures, ICDAR's zips",
    )
    parser.add_argument("--crops", choices=SHAPES, default=SHAPES[0], help="how words are cut out of whole pictures")
    parser.add_argument("--title", help="with --models: of the report (default: Words)")
    parser.add_argument("--note", help="with --models: what else is to be said of the report")
    parser.add_argument("--no-cost", action="store_true", help="with --models: leave time and memory out")
    _add_device(parser)
    parser.add_argument("-o", "--out", type=Path, metavar="DIR", help="folder for figures (JSON, table) and pictures")
    parser.set_defaults(measure=_accuracy)


def _add_cost(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Measure milliseconds a word and memory of every recogniser of a report of `bench accuracy --models`, each in "
        "a fresh process, and write them into the report. Best on a machine that does nothing else."
    )
    parser.add_argument("report", type=Path, metavar="REPORT.json")
    parser.add_argument("--note", help="what else is to be said of these costs, on which machine, beside what")
    _add_device(parser)
    parser.set_defaults(measure=_cost)


def _add_merge(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Join reports of `bench accuracy --models`: recognisers that read the same sets, or sets that the same "
        "recognisers read. Figures and tests are made anew from the answers; costs are to be measured again."
    )
    parser.add_argument("reports", type=Path, nargs="+", metavar="REPORT.json")
    parser.add_argument("--title", help="of the new report (default: that of the first)")
    parser.add_argument("--note", help="what else is to be said of the report")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR", help="folder for the new report")
    parser.set_defaults(measure=_merge)


def _add_page(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Rendered pages, clean and as if photographed: words found (IoU 0.5), words read, H-mean and CER of every pair "
        "of detector and recogniser; Tesseract on its own beside them where it is one of the detectors."
    )
    parser.add_argument("--detectors", nargs="+", default=["rapidocr", "tesseract"], metavar="NAME")
    parser.add_argument("--models", nargs="+", default=[DEFAULT_ARCH], metavar="NAME", help=MODELS)
    parser.add_argument("--seeds", type=positive, default=3, metavar="N", help="pages of every kind (default: 3)")
    parser.add_argument("--first-seed", type=int, default=0, metavar="N", help="of the first page (default: 0)")
    parser.add_argument("--kinds", nargs="+", metavar="KIND", help="of pages (default: all), as 'table 150 dpi'")
    parser.add_argument(
        "--data", type=Path, metavar="DATA", help="instead: whole pictures, VinText's folder or ICDAR's"
    )
    _add_device(parser)
    parser.add_argument("-o", "--out", type=Path, metavar="FILE", help="JSON file to write")
    parser.set_defaults(measure=_page)


def _add_vintext(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Read VinText's test pictures with the published weights, with both normalisations, tell which one is right, "
        "and put the figures beside the published ones. Neither weights nor pictures come with this package."
    )
    parser.add_argument("--root", type=Path, required=True, metavar="DIR", help="VinText's folder")
    parser.add_argument(
        "--weights", required=True, metavar="WEIGHTS", help="folder with clip4str/ and M_clip/, or a .ckpt"
    )
    parser.add_argument("--mclip", type=Path, help="published M_clip folder, where --weights is a .ckpt outside of it")
    parser.add_argument("--models", nargs="+", default=[], metavar="NAME", help=f"read these too: {MODELS}")
    parser.add_argument("--crops", choices=SHAPES, default=SHAPES[0], help="how words are cut out (default: straight)")
    parser.add_argument("--words", type=positive, metavar="N", help="of each folder of pictures (default: all)")
    _add_device(parser)
    parser.add_argument("-o", "--out", type=Path, metavar="DIR", help="folder for the report, without VinText's labels")
    parser.set_defaults(measure=_vintext)


def _add_crops(parser: argparse.ArgumentParser) -> None:
    parser.description = "Cut the legible words out of VinText's or ICDAR's pictures, into a folder in docTR's format."
    parser.add_argument("data", type=Path, metavar="DATA", help="folder of pictures, or zip")
    parser.add_argument("--crops", choices=SHAPES, default=SHAPES[0], help="how words are cut out (default: straight)")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR")
    parser.set_defaults(measure=_crops)


def _add_docs(parser: argparse.ArgumentParser) -> None:
    parser.description = "Make a page of tables and diagrams from the reports in a folder beside it."
    parser.add_argument("reports", type=Path, nargs="?", default=REPORTS, metavar="DIR", help=f"(default: {REPORTS})")
    parser.add_argument("-o", "--out", type=Path, metavar="FILE", help="page to write (default: DIR.md)")
    parser.set_defaults(measure=_docs)


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, mps, ... (default: cuda if there is one)")


def positive(text: str) -> int:
    """An argument's type: whole numbers from 1 on. Raises argparse.ArgumentTypeError for another."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def _accuracy(args: argparse.Namespace, load: Load, device: Device) -> int:
    if args.models:
        return _compare(args, device)
    from clip4str_doctr.benchmark.accuracy import run_accuracy
    from clip4str_doctr.lookup import find_weights
    from clip4str_doctr.modeling.clip4str import CLIP4STR

    if args.title or args.note or args.no_cost:
        raise BenchCommandError("--title, --note and --no-cost go with --models; leave them out")
    if args.data and len(args.data) > 1:
        raise BenchCommandError("several --data need --models; or measure them one at a time")
    model = load().to(device(args.device)).eval()
    if not isinstance(model, CLIP4STR):
        raise BenchCommandError(f"--arch {args.arch} is no CLIP4STR, both of whose branches are measured; use --models")
    source = args.weights or find_weights(model.config.arch)
    data = args.data[0] if args.data else None
    run_accuracy(
        model, source, suites=args.suite, data=data, words=args.words, shape=args.crops, out=args.out, tell=_print
    )
    return 0


def _compare(args: argparse.Namespace, device: Device) -> int:
    from clip4str_doctr.benchmark.comparison import compare
    from clip4str_doctr.benchmark.cost import cost_words, measure_costs
    from clip4str_doctr.benchmark.labelled import check_labels, open_labelled
    from clip4str_doctr.benchmark.results import write_report
    from clip4str_doctr.benchmark.tables import tables_of
    from clip4str_doctr.benchmark.word_sets import check_names, word_sets
    from clip4str_doctr.training.suites import SUITES

    if args.arch or args.weights or args.mclip or args.cross_modal:
        raise BenchCommandError(
            "--models name weights and options themselves, as NAME=WEIGHTS#auto; leave --arch, --weights, --mclip and "
            "--cross-modal out"
        )
    args.title = args.title or "Words"
    suites, data = args.suite or ([] if args.data else list(SUITES)), args.data or []
    check_names(suites, data)
    for path in data:
        # What is wrong with the last is better known before hours of reading.
        check_labels(open_labelled(path, args.crops))
    name = _file_name(args.title)
    if args.out is not None:
        check_folder(args.out, name)
    where = device(args.device)
    # What costs are of is drawn first: whether the fonts are there is better known before reading than after.
    cost_crops = None if args.no_cost else cost_words()
    read = [_recogniser(spec, where) for spec in args.models]
    sets = word_sets(suites, data, args.words, args.crops)

    def save(report: "dict[str, Any]") -> None:
        report |= {"specs": args.models, **({"note": args.note} if args.note else {})}
        keep_unfinished(report, args.out, name)

    report = compare(read, sets, title=args.title, command=_command(args), device=where, tell=_tell, save=save)
    try:
        if args.out is not None:
            write_report(report, args.out, name)
            unfinished(args.out, name).unlink()
        if cost_crops is not None:
            report["cost"] = measure_costs(args.models, str(where), cost_crops, _tell)
            if args.out is not None:
                write_report(report, args.out, name)
    finally:
        # Reading took hours: it is told, whatever became of the rest.
        _print_tables(tables_of(report))
    return 0


def _print_tables(tables: "Sequence[Table]") -> None:
    for table in tables:
        print(f"{table.title}\n\n{table.markdown()}")


def _recogniser(spec: str, where: "torch.device") -> "Recogniser":
    from clip4str_doctr.benchmark.recognisers import recogniser

    return recogniser(spec, where)


def _command(args: argparse.Namespace) -> str:
    """The command again, as far as it says what was measured; of paths their names."""
    names = [str(Path(spec).name) if Path(spec).exists() else spec for spec in args.models]
    parts = ["clip4str-doctr", "bench", "accuracy", "--models", *names]
    for suite in args.suite or []:
        parts += ["--suite", suite]
    parts += ["--data", *(path.name for path in args.data), "--crops", args.crops] if args.data else []
    parts += ["--words", str(args.words), "--title", args.title]
    return shlex.join(parts)


def _file_name(title: str) -> str:
    return "-".join("".join(letter if letter.isalnum() else " " for letter in title.lower()).split()) or "words"


def _cost(args: argparse.Namespace, load: Load, device: Device) -> int:
    from clip4str_doctr.benchmark.cost import measure_costs
    from clip4str_doctr.benchmark.results import read_report, write_report

    report = read_report(args.report)
    if report["kind"] != "words" or "specs" not in report:
        raise BenchCommandError(f"{args.report} does not say which recognisers it is of; bench accuracy --models does")
    report["cost"] = measure_costs(report["specs"], str(device(args.device)), tell=_print)
    if args.note:
        report["cost"]["note"] = args.note
    write_report(report, args.report.parent, args.report.stem)
    return int(len(report["cost"]["models"]) < len(report["specs"]))


def _merge(args: argparse.Namespace, load: Load, device: Device) -> int:
    from clip4str_doctr.benchmark.comparison import merged
    from clip4str_doctr.benchmark.results import read_report, write_report

    report = merged([read_report(path) for path in args.reports], args.title)
    if args.note:
        report["note"] = args.note
    write_report(report, args.out, _file_name(report["title"]))
    print(args.out / f"{_file_name(report['title'])}.json")
    return 0


def _page(args: argparse.Namespace, load: Load, device: Device) -> int:
    from clip4str_doctr.benchmark.page_tables import page_tables
    from clip4str_doctr.benchmark.pages import KINDS, measure
    from clip4str_doctr.benchmark.report import tell
    from clip4str_doctr.benchmark.scene_text import SceneText

    if args.out is not None:
        check_file(args.out)
    seeds = range(args.first_seed, args.first_seed + args.seeds)
    data = None if args.data is None else SceneText(args.data)
    if data is not None and args.kinds:
        raise BenchCommandError("--kinds are of rendered pages; leave it out where --data has pictures of its own")

    save = partial(keep_unfinished, folder=args.out and args.out.parent, name=args.out and args.out.stem)
    report = measure(args.detectors, seeds, args.kinds or KINDS, args.models, device(args.device), data, save)
    _print_tables(page_tables(report))
    if args.out is not None:
        tell(report, args.out)
        unfinished(args.out.parent, args.out.stem).unlink()
    return 0


def _vintext(args: argparse.Namespace, load: Load, device: Device) -> int:
    from clip4str_doctr.benchmark.crops import NOTICE
    from clip4str_doctr.benchmark.results import write_report
    from clip4str_doctr.benchmark.tables import tables_of
    from clip4str_doctr.benchmark.vintext import run_vintext, without_answers

    name = "vintext"
    if args.out is not None:
        check_folder(args.out, name)
    where = device(args.device)
    print(NOTICE, file=sys.stderr)
    others = [_recogniser(spec, where) for spec in args.models]

    def save(report: "dict[str, Any]") -> None:
        keep_unfinished(without_answers(report), args.out, name)

    options = {"tokenizer": args.mclip, "others": others, "shape": args.crops, "words": args.words, "device": where}
    report, tables = run_vintext(args.root, args.weights, **options, tell=_tell, save=save)
    if args.out is not None:
        write_report(without_answers(report), args.out, name)
        unfinished(args.out, name).unlink()
    _print_tables([*tables_of(report), *tables])
    print(report["vintext"]["normalisation"]["told"])
    return 0


def _crops(args: argparse.Namespace, load: Load, device: Device) -> int:
    from clip4str_doctr.benchmark.crops import NOTICE, write_crops

    counts = write_crops(args.data, args.out, args.crops)
    print(NOTICE, file=sys.stderr)
    print(", ".join(f"{value} {key.replace('_', ' ')}" for key, value in counts.items() if isinstance(value, int)))
    return 0


def _docs(args: argparse.Namespace, load: Load, device: Device) -> int:
    from clip4str_doctr.benchmark.results import write_page

    folder = args.reports.resolve()
    page = args.out or folder.with_name(f"{folder.name}.md")
    write_page(args.reports, page)
    print(page)
    return 0


_print = partial(print, flush=True)


def _tell(line: str) -> None:
    """What is known while tables are not: progress, which is no result."""
    print(line, file=sys.stderr, flush=True)
