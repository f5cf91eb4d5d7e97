"""How arguments are parsed and refused; those of the suites of timings."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import NoReturn

import torch

from opensora_fast.kernels.registry import BACKEND_NAMES
from opensora_fast.mistakes import USAGE_ERROR
from opensora_fast.output_path import check_output

from .case import DTYPES, SCALES
from .peers import PEERS
from .records import SUFFIX
from .runner import Options
from .suites import SUITES, Selection
from .timing import Budget


class Parser(argparse.ArgumentParser):
    """Answers a mistake with one sentence instead of the whole usage."""

    def error(self, message: str) -> NoReturn:
        """Say what was wrong and end the program."""
        self.exit(USAGE_ERROR, f"error: {' '.join(message.split())}; see {self.prog} --help\n")


def add_arguments(parser: argparse.ArgumentParser, suite: str) -> None:
    """Declare what a suite of timings takes."""
    if "kernels" in SUITES[suite].parts:
        if suite == "kernels":
            parser.add_argument("ops", nargs="*", metavar="OP", help="only these ops")
        parser.add_argument(
            "--direction", nargs="+", choices=("fwd", "bwd"), default=["fwd"], metavar="DIRECTION",
            help="fwd, bwd or both (default: fwd)",
        )  # fmt: skip
        parser.add_argument(
            "--backend", nargs="+", choices=BACKEND_NAMES[1:], default=[], metavar="NAME",
            help="also measure these rows of our own tables: " + ", ".join(BACKEND_NAMES[1:]),
        )  # fmt: skip
    which = parser.add_argument_group("what is measured")
    which.add_argument("--device", default="auto", help="auto, cpu or cuda[:n]")
    which.add_argument(
        "--dtype", nargs="+", choices=tuple(DTYPES), default=list(SUITES[suite].dtypes),
        metavar="DTYPE", help=f"{', '.join(DTYPES)} (default: {' '.join(SUITES[suite].dtypes)})",
    )  # fmt: skip
    which.add_argument(
        "--case", action="append", default=[], metavar="PATTERN",
        help="only cases whose name has this part; * and ? match; may be given several times",
    )  # fmt: skip
    which.add_argument(
        "--peers", nargs="+", choices=tuple(PEERS), metavar="NAME",
        help="only these peers: " + ", ".join(PEERS),
    )  # fmt: skip
    which.add_argument(
        "--scale", choices=SCALES,
        help="smoke: the smallest cases only; cpu: what a few cores can do (default without a GPU);"
        " full: also the sizes of the released model (default on a GPU)",
    )  # fmt: skip
    which.add_argument(
        "--full", dest="scale", action="store_const", const="full", help="the same as --scale full"
    )
    _add_how(parser.add_argument_group("how"))
    _add_results(parser.add_argument_group("results"))


def _add_how(how: argparse._ArgumentGroup) -> None:
    how.add_argument(
        "--repeat", type=positive, metavar="N", help="rounds at least; each runs every contender"
    )
    how.add_argument(
        "--seconds", type=seconds, metavar="S", help="go on with rounds for so long in each case"
    )
    how.add_argument(
        "--timeout", type=seconds, default=1800.0, metavar="S",
        help="end a process that takes longer (default: 1800)",
    )  # fmt: skip
    how.add_argument(
        "--compile-timeout", type=seconds, default=300.0, metavar="S",
        help="the same for processes that compile (default: 300)",
    )  # fmt: skip
    how.add_argument(
        "--together",
        action="store_true",
        help="one process per case instead of one per contender: quicker, and a crash costs more",
    )
    how.add_argument(
        "--threads", type=positive, default=os.cpu_count() or 1, metavar="N",
        help="that torch may use (default: %(default)s)",
    )  # fmt: skip


def _add_results(results: argparse._ArgumentGroup) -> None:
    results.add_argument(
        "--json", metavar="FILE", help="write the results to FILE.jsonl, line by line"
    )
    results.add_argument(
        "--resume", action="store_true", help="go on in the file: leave out what it has"
    )
    results.add_argument("--compare", metavar="OLD", help="compare with the results in OLD.jsonl")
    results.add_argument(
        "--fail-on", type=percent, metavar="PERCENT",
        help="with --compare: exit status 1 if anything lost more than this, beyond the noise",
    )  # fmt: skip


def selection_of(arguments: argparse.Namespace) -> Selection:
    """Which cases the arguments ask for.

    Raises:
        ValueError: there is no such device.
    """
    device = device_of(arguments.device)
    return Selection(
        device=device,
        dtypes=tuple(dict.fromkeys(arguments.dtype)),
        scale=arguments.scale or ("full" if device.startswith("cuda") else "cpu"),
        ops=tuple(getattr(arguments, "ops", ())),
        directions=tuple(getattr(arguments, "direction", ("fwd",))),
        backends=tuple(getattr(arguments, "backend", ())),
        patterns=tuple(arguments.case),
    )


def options_of(arguments: argparse.Namespace, selection: Selection, run: str) -> Options:
    """How the arguments ask to measure."""
    suite = SUITES[arguments.suite]
    budget = Budget(
        rounds=arguments.repeat or suite.budget.rounds,
        seconds=suite.budget.seconds if arguments.seconds is None else arguments.seconds,
    )
    scales = selection.scales
    return Options(
        run=run,
        # The suite that takes a minute takes small cases of both kinds.
        scales=("smoke", *scales) if arguments.suite == "cpu-smoke" else scales,
        threads=arguments.threads,
        budget=budget,
        timeout_s=arguments.timeout,
        compile_timeout_s=arguments.compile_timeout,
        peers=suite.peers if arguments.peers is None else frozenset(arguments.peers),
        together=arguments.together,
    )


def device_of(name: str) -> str:
    """Resolve a device by its name.

    Raises:
        ValueError: it is neither auto, cpu nor a CUDA device of this machine.
    """
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return "cpu"
    kind, _, index = name.partition(":")
    if kind not in ("auto", "cuda") or not (index.isdigit() or not index):
        raise ValueError(f"device must be auto, cpu or cuda[:n], got {name!r}")
    number = int(index or 0)
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if number >= count:
        raise ValueError(f"there is no device cuda:{number}: torch sees {count} CUDA devices")
    return f"cuda:{number}"


def results_path(name: str) -> Path:
    """Check that results can be written to a file.

    Raises:
        ValueError: the name does not end in .jsonl, or is a folder's.
        OSError: the folder cannot be written to.
    """
    return check_output(name, (SUFFIX,))


def positive(text: str) -> int:
    """A whole number from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, got {text!r}")
    return int(text)


def seconds(text: str) -> float:
    """A positive number of seconds."""
    return _number(text, "a number of seconds above 0", least=1e-9)


def percent(text: str) -> float:
    """A percentage from 0."""
    return _number(text, "a percentage from 0", least=0.0)


def _number(text: str, expected: str, *, least: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not least <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}")
    return value
