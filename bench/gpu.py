"""Everything that a machine with a GPU is asked, in the order in which minutes tell most.

Each step is a process with a time limit and a file for its output. A step that fails or runs out of
time does not stop the rest; what a machine lacks is named and left out.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from rich.console import Console

from .arguments import seconds
from .case import OURS
from .records import read
from .show import cells

OK, FAILED, SKIP, TIMEOUT = "OK", "FAILED", "SKIP", "TIMEOUT"
SUCCESS, LOSS = 0, 1
ROOT = Path(__file__).resolve().parent.parent
_BENCH = ("-m", "opensora_fast.bench")
_SANITIZER, _SANITIZED = "compute-sanitizer", "tests/gpu_sanitizer.py"
_SANITIZER_FOUND_ERRORS = 86
_MINUTES = 10.0
_LEAST_S = 5.0  # with less time left a step is not begun
_GRACE_S = 5.0
_TAIL_LINES = 12
_REMARKS = 160  # letters of what else a row has to say


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """Something to run.

    Args:
        name: of the step and of its files.
        what: it does, in a few words.
        command: arguments of a process, started in the checkout.
        limit_s: it is ended after so long, or when the time of all is over.
        environment: variables on top of this process's.
        why_skip: what it lacks on this machine.
    """

    name: str
    what: str
    command: tuple[str, ...]
    limit_s: float
    environment: Mapping[str, str] = field(default_factory=dict)
    why_skip: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Done:
    """What became of a step."""

    name: str
    status: str
    reason: str | None
    seconds: float
    command: tuple[str, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the verb takes."""
    parser.add_argument(
        "--out", metavar="FOLDER",
        help="for results and output; default: bench/results/gpu_DEVICE_DATE",
    )  # fmt: skip
    parser.add_argument(
        "--step", nargs="+", default=[], metavar="NAME", help="only these; --rehearse lists them"
    )
    parser.add_argument(
        "--minutes", type=seconds, default=_MINUTES, metavar="M",
        help=f"for all steps together (default: {_MINUTES:g})",
    )  # fmt: skip
    parser.add_argument(
        "--rehearse", action="store_true", help="print the steps, with or without a GPU; run none"
    )


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Run the steps one after the other.

    Args:
        arguments: see `add_arguments`.
        console: told what begins and what came out.

    Returns:
        1 if a step failed or ran out of its time, else 0.

    Raises:
        ValueError: there is no CUDA device, or no such step.
    """
    found = torch.cuda.is_available()
    if not found and not arguments.rehearse:
        raise ValueError(
            f"bench gpu needs a CUDA device, torch {torch.__version__} sees none "
            "(--rehearse prints what would run)"
        )
    capability = torch.cuda.get_device_capability() if found else (9, 0)
    out = Path(arguments.out) if arguments.out is not None else _default_folder(found)
    wanted = _chosen(steps(out.resolve(), capability), arguments.step)
    if arguments.rehearse:
        for step in wanted:
            state = f"left out: {step.why_skip}" if step.why_skip else f"{step.limit_s:.0f} s"
            print(f"{step.name:<12} {step.what} [{state}]\n             {_shown(step)}")
        return SUCCESS
    out.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + 60 * arguments.minutes
    done: list[Done] = []
    for step in wanted:
        console.print(f"{step.name}: {step.what}", highlight=False)
        one = run_step(step, out, deadline - time.monotonic())
        done.append(one)
        reason = f": {one.reason}" if one.reason else ""
        console.print(f"{step.name}: {one.status} after {one.seconds:.0f} s{reason}", markup=False)
        if one.status in (FAILED, TIMEOUT):
            console.print(_tail(out / f"{step.name}.txt"), markup=False, highlight=False)
        lines = [json.dumps(dataclasses.asdict(entry)) + "\n" for entry in done]
        (out / "steps.jsonl").write_text("".join(lines), encoding="utf-8")
    print("\n".join(line for step in wanted for line in results(out / f"{step.name}.jsonl")))
    print("\n".join(f"{one.name:<12} {one.status:<8} {one.seconds:6.1f} s" for one in done))
    print(f"output and results: {out}")
    return LOSS if any(one.status in (FAILED, TIMEOUT) for one in done) else SUCCESS


def steps(out: Path, capability: tuple[int, int]) -> list[Step]:
    """All steps, most telling first.

    Args:
        out: folder of the results, absolute.
        capability: compute capability of the GPU.

    Returns:
        The steps; what this machine lacks is said in `why_skip`.
    """
    checkout = (ROOT / "setup.py").is_file()
    no_checkout = None if checkout else "this is an installed package, not a checkout"
    # Kernels for Hopper use instructions that only its own target has.
    architecture = "90a-real" if capability == (9, 0) else "{}{}-real".format(*capability)
    python = sys.executable
    return [
        Step(
            name="build", what="compile the extension for this GPU",
            command=(python, "setup.py", "-q", "build_ext", "--inplace"), limit_s=240,
            environment={"OPENSORA_FAST_CUDA_ARCHITECTURES": architecture},
            why_skip=no_checkout or _lacking("setuptools", "pybind11"),
        ),
        Step(
            name="doctor", what="what this machine can do",
            command=(python, "-m", "opensora_fast.cli", "doctor"), limit_s=60,
        ),
        _bench("ceilings", "rates of matrix products, copies and caches", out, 60, "ceilings"),
        _bench(
            "conformance", "every backend against the definition, small and large", out, 240,
            "conformance", "--large", "--timeout", "150",
        ),
        _sanitizer("sanitizer", "memcheck", no_checkout),
        _bench("decode-768", "decode 129x768x768", out, 90, "whole", "decode-768"),
        _bench("decode-dcae-768", "decode 128x768x768", out, 60, "whole", "decode-dcae-768"),
        _bench("step-256", "one step of the transformer, 256px", out, 60, "whole", "step-256"),
        _bench("step-768", "one step of the transformer, 768px", out, 90, "whole", "step-768"),
        _bench("t2v-256", "text to video, 256px", out, 150, "whole", "t2v-256"),
        # Case by case, as many as the time allows.
        _bench(
            "kernels", "the ops at their shapes in 256px and 768px videos, bf16", out, 300,
            "kernels", "--dtype", "bf16", "--case", "256px", "--case", "768px", "--repeat", "5",
            "--seconds", "0.3", "--timeout", "60", "--together", "--peers", "eager", "flash-attn",
            "sageattention", "liger",
        ),
        Step(
            name="tests", what="the tests that need a GPU", limit_s=60,
            command=(
                python, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider",
                "--ignore=tests/kernels/test_conformance.py",
            ),
            why_skip=no_checkout or _lacking("pytest", "hypothesis"),
        ),
        _bench(
            "far", "the far end of tensors of more than 2^31 elements", out, 120, "conformance",
            "--huge", "--dtype", "bf16", "--backend", "cuda", "triton", "--timeout", "60",
        ),
        _sanitizer("races", "racecheck", no_checkout),
    ]  # fmt: skip


def run_step(step: Step, out: Path, left_s: float) -> Done:
    """Run one step, its output going to `out`/NAME.txt.

    Args:
        step: to run.
        out: folder, existing.
        left_s: seconds until the time of all steps is over.

    Returns:
        What became of it.
    """
    if step.why_skip is not None:
        return _done(step, SKIP, step.why_skip)
    if left_s < _LEAST_S:
        return _done(step, SKIP, "no time is left")
    limit_s = min(step.limit_s, left_s)
    environment = {**os.environ, **step.environment, "PYTHONUNBUFFERED": "1"}
    if (ROOT / "setup.py").is_file():
        environment["PYTHONPATH"] = os.pathsep.join(
            filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])
        )
    began = time.monotonic()
    with (out / f"{step.name}.txt").open("wb") as log:
        try:
            process = subprocess.Popen(
                step.command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            return _done(step, FAILED, str(error))
        try:
            code = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            _end(process)
            late = f"ended after {limit_s:.0f} s; what it wrote until then is kept"
            return _done(step, TIMEOUT, late, time.monotonic() - began)
        except BaseException:
            _end(process)
            raise
    reason = None if code == 0 else f"exit status {code}, see {step.name}.txt"
    return _done(step, OK if code == 0 else FAILED, reason, time.monotonic() - began)


def results(path: Path) -> list[str]:
    """What a file of results holds, in lines: rates of the machine, ours, and what failed.

    Args:
        path: of the file; a missing one has nothing to say.

    Returns:
        The lines.
    """
    if not path.is_file() or not path.stat().st_size:
        return []
    lines = []
    for run in read(path):
        if not run.rows and run.peaks:
            rates = (f"{name} {value / 1e12:.2f} T/s" for name, value in run.peaks.items())
            lines.append("ceilings: " + ", ".join(rates))
        for row in run.rows:
            if row.contender == OURS or row.status == FAILED:
                name, contender, took, _, ratio, error, *_, peak, memory, remarks = cells(row)
                found = (name, contender, took, ratio, error, peak, memory, remarks[:_REMARKS])
                lines.append(f"{row.suite}/" + "  ".join(filter(None, found)))
    return lines


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a step and what it started: as Ctrl-C does first, so that it can tidy up."""
    for sign in (signal.SIGINT, signal.SIGKILL):
        try:
            os.killpg(process.pid, sign)
        except ProcessLookupError:
            return
        try:
            process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            continue


def _bench(name: str, what: str, out: Path, limit_s: float, *command: str) -> Step:
    return Step(
        name=name,
        what=what,
        command=(sys.executable, *_BENCH, *command, "--json", str(out / f"{name}.jsonl")),
        limit_s=limit_s,
    )


def _sanitizer(name: str, tool: str, no_checkout: str | None) -> Step:
    why_skip = no_checkout
    if why_skip is None and not (ROOT / _SANITIZED).is_file():
        why_skip = f"there is no {_SANITIZED}"
    if why_skip is None and shutil.which(_SANITIZER) is None:
        why_skip = f"{_SANITIZER} is not installed"
    return Step(
        name=name,
        what=f"the CUDA kernels under {tool}",
        command=(
            _SANITIZER, "--tool", tool, "--error-exitcode", str(_SANITIZER_FOUND_ERRORS),
            sys.executable, _SANITIZED,
        ),
        limit_s=60,
        # Out of bounds of a tensor, not of the pool that it lies in.
        environment={"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"},
        why_skip=why_skip,
    )  # fmt: skip


def _chosen(known: Sequence[Step], names: Sequence[str]) -> list[Step]:
    unknown = sorted(set(names) - {step.name for step in known})
    if unknown:
        listed = ", ".join(step.name for step in known)
        raise ValueError(f"there is no step {unknown[0]!r}; steps are {listed}")
    return [step for step in known if not names or step.name in names]


def _default_folder(found: bool) -> Path:
    name = torch.cuda.get_device_name() if found else "rehearsal"
    words = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    return ROOT / "bench" / "results" / f"gpu_{words}_{today}"


def _lacking(*modules: str) -> str | None:
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    return f"{missing[0]} is not installed" if missing else None


def _done(step: Step, status: str, reason: str | None = None, took_s: float = 0.0) -> Done:
    return Done(
        name=step.name, status=status, reason=reason, seconds=round(took_s, 1), command=step.command
    )


def _shown(step: Step) -> str:
    variables = [f"{name}={value}" for name, value in step.environment.items()]
    return " ".join([*variables, *step.command])


def _tail(path: Path) -> str:
    if not path.is_file():
        return ""
    return "\n".join(path.read_text(errors="replace").splitlines()[-_TAIL_LINES:])
