"""`python -m opensora_fast.bench SUITE [arguments]`: measure, print a table, write JSON."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

from rich.console import Console

from opensora_fast.mistakes import INTERRUPTED, USAGE_ERROR, users_mistake

from . import tiny_suite
from .report import Results, check_json_path, print_results, write_json


@dataclass(frozen=True, kw_only=True, slots=True)
class Suite:
    """Something that can be measured.

    Args:
        help: what it measures, in one line.
        add_arguments: declares the suite's own arguments.
        run: measures; progress goes to the console that it is given.
    """

    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace, Console], Results]


SUITES = {
    "tiny-quality": Suite(
        help="share of the shapes language's held-out sentences that a model's videos show",
        add_arguments=tiny_suite.add_arguments,
        run=tiny_suite.run,
    ),
}


class _Parser(argparse.ArgumentParser):
    """Answers a mistake with one sentence instead of the whole usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE_ERROR, f"error: {' '.join(message.split())}; see {self.prog} --help\n")


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of all suites' arguments."""
    parser = _Parser(prog="opensora-fast bench", description="Measure.", allow_abbrev=False)
    suites = parser.add_subparsers(dest="suite", required=True, metavar="SUITE")
    for name, suite in SUITES.items():
        part = suites.add_parser(name, help=suite.help, description=suite.help, allow_abbrev=False)
        suite.add_arguments(part)
        part.add_argument("--json", metavar="FILE", help="also write the results to FILE.json")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure.

    Args:
        argv: arguments after the program's name; default: those of the process.

    Returns:
        The exit status: 0 success; 2 bad input, with one line on stderr; 130 after Ctrl-C. An
        internal error is not caught.
    """
    arguments = build_parser().parse_args(argv)
    progress = Console(stderr=True)
    try:
        path = check_json_path(arguments.json) if arguments.json is not None else None
        results = SUITES[arguments.suite].run(arguments, progress)
        print_results(results, Console())
        if path is not None:
            write_json(arguments.suite, results, path)
    except KeyboardInterrupt:
        print("\ninterrupted: nothing was written", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        sentence = users_mistake(error)
        if sentence is None:
            raise
        print(f"error: {sentence}", file=sys.stderr)
        return USAGE_ERROR
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
