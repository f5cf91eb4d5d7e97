"""`python -m opensora_fast.bench.profile [options] VERB ...`: run it and see where time goes."""

from __future__ import annotations

import argparse
import json
import runpy
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from opensora_fast.kernels.atomic import replacing
from opensora_fast.mistakes import INTERRUPTED, report
from opensora_fast.output_path import check_output

from ..arguments import Parser, positive
from ..calibrate import calibrate
from ..circumstances import circumstances
from .recorder import Recorder
from .show import print_line_changes, print_profile
from .summary import GROUPINGS, Profile, compare_lines, summarise_calls
from .trace import trace_events

VERBS = ("generate", "encode", "decode", "reconstruct")
_FILE_WIDTH = 160
_DESCRIPTION = """Run a command of opensora-fast, or a Python script, and say where the time goes:
every operator with its backend, rate and percent of this machine's measured peak, every stage with
its peak memory. Timing every call costs a little itself: compare profiles with profiles."""


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of all arguments."""
    parser = Parser(prog="opensora-fast profile", description=_DESCRIPTION, allow_abbrev=False)
    parser.add_argument(
        "--by", choices=tuple(GROUPINGS), default="op", help="what a line is (default: op)"
    )
    parser.add_argument("--top", type=positive, default=20, metavar="N", help="lines (default: 20)")
    parser.add_argument("--json", metavar="FILE", help="write all groupings to FILE.json")
    parser.add_argument(
        "--trace", metavar="FILE", help="write a trace for chrome://tracing to FILE.json"
    )
    parser.add_argument("--diff", metavar="OLD", help="compare with an older --json file")
    parser.add_argument(
        "--no-peaks", action="store_true", help="do not measure the machine: no percent of peak"
    )
    parser.add_argument(
        "--nvtx", action="store_true", help="mark stages and layers for nsys and ncu (CUDA)"
    )
    parser.add_argument(
        "command", nargs=argparse.REMAINDER, metavar="VERB ...",
        help=f"{', '.join(VERBS)}, or a script.py, with its arguments",
    )  # fmt: skip
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Profile.

    Args:
        argv: arguments after the program's name; default: those of the process.

    Returns:
        The exit status of the command; 2 for bad input, with one line on stderr; 130 after Ctrl-C.
    """
    try:
        return _profile(build_parser().parse_args(argv))
    except KeyboardInterrupt:
        print("\ninterrupted: no profile was written", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        return report(error)


def _profile(arguments: argparse.Namespace) -> int:
    command: list[str] = arguments.command
    _check_command(command)
    paths = {
        kind: check_output(value, (".json",))
        for kind in ("json", "trace")
        if (value := getattr(arguments, kind)) is not None
    }
    old = _read_profile(Path(arguments.diff)) if arguments.diff is not None else None
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if arguments.nvtx and device.type != "cuda":
        raise ValueError("--nvtx marks work on a CUDA device, and there is none")
    peaks = {} if arguments.no_peaks else calibrate(device.type, torch.get_num_threads())
    recorder = Recorder(device, mark=arguments.nvtx)
    with recorder:
        status = _run(command)
    if status != 0:
        return status
    calls = recorder.calls()
    profile = Profile(
        command=command,
        circumstances=circumstances(device),
        wall_s=recorder.wall_s,
        recorded_s=sum(call.seconds for call in calls),
        stages=recorder.stages,
        lines={by: summarise_calls(calls, by, peaks) for by in GROUPINGS},
        peaks=peaks,
    )
    console = Console(width=None if sys.stdout.isatty() else _FILE_WIDTH)
    print_profile(profile, arguments.by, arguments.top, console)
    if old is not None:
        changes = compare_lines(old["lines"][arguments.by], profile.lines[arguments.by])
        print_line_changes(changes, arguments.by, arguments.top, console)
    documents: dict[str, Callable[[], Any]] = {
        "json": profile.as_json,
        "trace": lambda: trace_events(calls, recorder.stages),
    }
    for kind, path in paths.items():
        with replacing(path) as partial:
            partial.write_text(json.dumps(documents[kind]()) + "\n", encoding="utf-8")
        console.print(path, highlight=False, soft_wrap=True)
    return status


def _check_command(command: Sequence[str]) -> None:
    accepted = f"accepted are {', '.join(VERBS)} and a Python script"
    if not command:
        raise ValueError(f"profile: nothing to run; {accepted}")
    if command[0] in VERBS:
        return
    if not command[0].endswith(".py"):
        raise ValueError(f"profile: cannot run {command[0]!r}; {accepted}")
    if not Path(command[0]).is_file():
        raise ValueError(f"profile: there is no script {command[0]}")


def _run(command: Sequence[str]) -> int:
    if command[0] in VERBS:
        from opensora_fast.cli import main as door

        return door(command)
    saved = sys.argv
    sys.argv = list(command)
    try:
        runpy.run_path(command[0], run_name="__main__")
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    finally:
        sys.argv = saved
    return 0


def _read_profile(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError):
        document = None
    if not isinstance(document, dict) or set(GROUPINGS) - set(document.get("lines") or ()):
        raise ValueError(f"{path} is no profile: --diff takes a file written with --json")
    return document


if __name__ == "__main__":
    raise SystemExit(main())
