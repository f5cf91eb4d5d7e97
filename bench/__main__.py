"""`python -m opensora_fast.bench SUITE [arguments]`: measure, print a table, write results."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from rich.console import Console

from opensora_fast.mistakes import INTERRUPTED, report

from . import arguments as timing_arguments
from . import (
    ceilings,
    compile_table,
    conformance,
    gpu,
    high_compression,
    quality,
    tiny_suite,
    tune,
    whole,
)
from .compare import compare
from .peers import PEERS, version_of, why_missing
from .records import read
from .report import write_report
from .session import LOSS, SUCCESS, run_suite
from .show import print_changes
from .suites import SUITES as TIMINGS
from .suites import Selection, cases_of_suite
from .tables import Results, check_json_path, print_results, write_json

_FILE_WIDTH = 160
_EPILOG = "How we measure, and what the columns and files mean: docs/measuring.md."


@dataclass(frozen=True, kw_only=True, slots=True)
class Verb:
    """Something that the program does.

    Args:
        help: what it is, in one line.
        add_arguments: declares its arguments.
        run: does it; progress goes to the console that it is given; returns the exit status.
    """

    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace, Console], int]


def _timing(name: str) -> Verb:
    return Verb(
        help=TIMINGS[name].help,
        add_arguments=lambda parser: timing_arguments.add_arguments(parser, name),
        run=lambda arguments, console: run_suite(arguments, console, _table_console()),
    )


def _table_console() -> Console:
    """Stdout; as wide as the tables where it is a file, which has no width of its own."""
    return Console(width=None if sys.stdout.isatty() else _FILE_WIDTH)


def _judging(suite: ModuleType, help: str) -> Verb:
    """A suite of qualities: `suite.add_arguments`, `suite.run`, `suite.failures`."""

    def add_arguments(parser: argparse.ArgumentParser) -> None:
        suite.add_arguments(parser)
        parser.add_argument("--json", metavar="FILE", help="also write the results to FILE.json")

    def run(arguments: argparse.Namespace, console: Console) -> int:
        path = check_json_path(arguments.json) if arguments.json is not None else None
        results: Results = suite.run(arguments, console)
        print_results(results, Console())
        if path is not None:
            write_json(arguments.suite, results, path)
        return LOSS if suite.failures(results.rows) else SUCCESS

    return Verb(help=help, add_arguments=add_arguments, run=run)


def _of(module: ModuleType, help: str) -> Verb:
    """A verb with a module of its own: `module.add_arguments`, `module.run`."""
    return Verb(help=help, add_arguments=module.add_arguments, run=module.run)


def _add_list(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("of", nargs="?", choices=tuple(TIMINGS), metavar="SUITE", help="its cases")


def _run_list(arguments: argparse.Namespace, console: Console) -> int:
    out = Console(soft_wrap=True, highlight=False)
    if arguments.of is not None:
        for case in cases_of_suite(arguments.of, Selection(device="cpu", dtypes=("fp32",))):
            out.print(f"{case.name:<44} {case.scale:<6} {' '.join(case.contenders)}")
        return SUCCESS
    for name, verb in VERBS.items():
        out.print(f"{name:<16} {verb.help}")
    out.print("\npeers:")
    for name, peer in PEERS.items():
        reason = why_missing(name, timing_arguments.device_of("auto"))
        state = f"missing: {reason}" if reason is not None else version_of(name) or "found"
        out.print(f"{name:<24} {peer.help} [{state}]", markup=False)
    return SUCCESS


def _add_report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("results", nargs="+", metavar="RESULTS", help="files written with --json")
    parser.add_argument(
        "--out", default="bench-report", metavar="FOLDER", help="default: %(default)s"
    )


def _run_report(arguments: argparse.Namespace, console: Console) -> int:
    runs = [run for name in arguments.results for run in read(Path(name))]
    for line in write_report(runs, Path(arguments.out)):
        console.print(line, highlight=False, soft_wrap=True)
    return SUCCESS


def _add_compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("old", metavar="OLD", help="results to compare with")
    parser.add_argument("new", metavar="NEW", help="newer results")
    parser.add_argument(
        "--fail-on", type=timing_arguments.percent, metavar="PERCENT",
        help="exit status 1 if anything lost more than this, beyond the noise",
    )  # fmt: skip


def _run_compare(arguments: argparse.Namespace, console: Console) -> int:
    changes = compare(read(Path(arguments.old)), read(Path(arguments.new)))
    print_changes(changes, _table_console())
    limit = arguments.fail_on
    return LOSS if limit is not None and any(c.fails(limit) for c in changes) else SUCCESS


VERBS = {
    **{name: _timing(name) for name in TIMINGS},
    "tiny-quality": _judging(
        tiny_suite, "share of the shapes language's held-out sentences that a model's videos show"
    ),
    "high-compression": _judging(
        high_compression, "the same video through the 4x8x8 and the 4x32x32 latent, side by side"
    ),
    "ceilings": _of(
        ceilings, "rates of matrix products, copies and caches: what percentages refer to"
    ),
    "conformance": _of(conformance, "every backend of a device against the definition"),
    "whole": _of(whole, "models of the released sizes on a GPU: decode, step, text to video"),
    "tune": _of(tune, "choose launches of the Triton kernels by measuring them on this GPU"),
    "compile-table": _of(
        compile_table, "registers, shared memory and instructions of all GPU kernels; needs no GPU"
    ),
    "gpu": _of(gpu, "all of it, on a machine with a GPU: what `make gpu` runs"),
    "quality": _judging(quality, "what a lossy tier, or tiling, changes in a video"),
    "list": Verb(help="suites and peers, or the cases of a suite", add_arguments=_add_list,
                 run=_run_list),
    "compare": Verb(help="compare two files of results", add_arguments=_add_compare,
                    run=_run_compare),
    "report": Verb(help="Markdown and plots from files of results", add_arguments=_add_report,
                   run=_run_report),
}  # fmt: skip


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of all arguments."""
    parser = timing_arguments.Parser(
        prog="opensora-fast bench",
        description="Measure ours against peers on this machine: right first, then fast.",
        epilog=_EPILOG,
        allow_abbrev=False,
    )
    verbs = parser.add_subparsers(dest="suite", required=True, metavar="SUITE")
    for name, verb in VERBS.items():
        part = verbs.add_parser(
            name, help=verb.help, description=verb.help, epilog=_EPILOG, allow_abbrev=False
        )
        verb.add_arguments(part)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure.

    Args:
        argv: arguments after the program's name; default: those of the process.

    Returns:
        The exit status: 0 success; 1 ours is wrong somewhere, or slower than `--fail-on` allows;
        2 bad input, with one line on stderr; 130 after Ctrl-C. An internal error is not caught.
    """
    arguments = build_parser().parse_args(argv)
    progress = Console(stderr=True)
    try:
        return VERBS[arguments.suite].run(arguments, progress)
    except KeyboardInterrupt:
        kept = arguments.suite in TIMINGS and arguments.json is not None
        fate = f"{arguments.json} has what was measured, --resume goes on" if kept else ""
        print(f"\ninterrupted: {fate or 'nothing was written'}", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        return report(error)


if __name__ == "__main__":
    raise SystemExit(main())
