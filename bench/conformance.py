"""Every backend of a device against the definition: the ops' own cases, and a few large ones.

The same checks as the tests', several processes at a time, since most of it is compilation. What
passes is remembered on the device (`kernels/verification.py`), so that later runs need not ask.
"""

from __future__ import annotations

import argparse
import os
import secrets
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import Any

import torch
from rich.console import Console

from opensora_fast.kernels import verification
from opensora_fast.kernels.registry import OPS, BackendError
from opensora_fast.kernels.testing import LAYOUTS, cases_of, check_op

from . import processes
from .arguments import device_of, positive, results_path, seconds
from .case import DTYPES
from .circumstances import circumstances, state_of
from .far import NotSeparableError, check_far_end
from .kernels import BACKWARD
from .records import FAILED, OK, SKIP, Row, Run, Writer
from .worker import set_up

SUITE = "conformance"
SUCCESS, LOSS = 0, 1
# What the definition in fp64 can do in a second or two, and hold.
_LARGE_FLOPS, _LARGE_BYTES, _LARGE_SCORES = 2e12, 5e8, 2.5e8
_NUM_LARGE = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """One row of an op's table on one device: what a process is sent."""

    op: str
    backend: str
    device: str
    dtypes: tuple[str, ...]
    large: bool
    huge: bool = False


@dataclass(kw_only=True, slots=True)
class Checked:
    """What became of the cases of a row in one dtype; cases by name."""

    passed: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    declined: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the verb takes."""
    parser.add_argument("ops", nargs="*", metavar="OP", help="only these ops and their backwards")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda[:n]")
    parser.add_argument(
        "--backend", nargs="+", default=[], metavar="NAME", help="only rows of these names"
    )
    parser.add_argument(
        "--dtype", nargs="+", choices=tuple(DTYPES), default=list(DTYPES), metavar="DTYPE",
        help=f"default: {' '.join(DTYPES)}",
    )  # fmt: skip
    parser.add_argument(
        "--large", action="store_true", help="also the largest bench cases that fp64 can judge"
    )
    parser.add_argument(
        "--huge",
        action="store_true",
        help="only tensors of more than 2^31 elements, one after the other: is the far end right?",
    )
    parser.add_argument(
        "--jobs",
        type=positive,
        default=os.cpu_count() or 1,
        metavar="N",
        help="processes at a time (default: %(default)s)",
    )
    parser.add_argument(
        "--timeout", type=seconds, default=300.0, metavar="S", help="of each row (default: 300)"
    )
    parser.add_argument("--json", metavar="FILE", help="write one line per row and dtype")


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Check the rows and print what failed.

    Args:
        arguments: see `add_arguments`.
        console: shows the progress.

    Returns:
        1 if a row failed, else 0.

    Raises:
        ValueError: an unknown op, or nothing to check.
    """
    device = device_of(arguments.device)
    path = results_path(arguments.json) if arguments.json is not None else None
    tasks = tasks_for(
        device, arguments.ops, arguments.backend, arguments.dtype, large=arguments.large,
        huge=arguments.huge,
    )  # fmt: skip
    if not tasks:
        raise ValueError(f"no backend of these names can run on {device}")
    place = torch.device(device)
    result = Run(
        id=secrets.token_hex(4),
        facts={"suite": SUITE, **circumstances(place), "peaks": {}, "state": state_of(place)},
    )
    writer = Writer(path, append=False)
    writer.run(result)
    began = time.monotonic()
    try:
        # One of these fills a device.
        jobs = 1 if arguments.huge else min(arguments.jobs, len(tasks))
        with ThreadPoolExecutor(jobs) as pool:
            waiting = {
                pool.submit(processes.run_apart, check_row, task, timeout_s=arguments.timeout): task
                for task in tasks
            }
            for done in as_completed(waiting):
                task, outcome = waiting[done], done.result()
                for row in _rows(task, outcome, result.id):
                    result.rows.append(row)
                    writer.row(row)
                    console.print(_line(row), highlight=False, soft_wrap=True, markup=False)
                _remember(task, outcome)
        writer.end(result, {"seconds": round(time.monotonic() - began, 1)})
    finally:
        writer.close()
    counts = Counter(row.status for row in result.rows)
    print(", ".join(f"{counts[status]} {status}" for status in (OK, FAILED, SKIP)))
    return LOSS if counts[FAILED] else SUCCESS


def tasks_for(
    device: str,
    ops: Sequence[str] = (),
    backends: Sequence[str] = (),
    dtypes: Sequence[str] = tuple(DTYPES),
    large: bool = False,
    huge: bool = False,
) -> list[Task]:
    """Every row that a device might run, Triton's first: they take longest.

    Args:
        device: "cpu" or "cuda:n".
        ops: names of forward ops; default: all.
        backends: names of rows; default: all but the reference.
        dtypes: to check in.
        large: bench cases too.
        huge: only the cases of more than 2^31 elements, of forward ops.

    Returns:
        One task a row.

    Raises:
        ValueError: there is no such op.
    """
    unknown = sorted(set(ops) - set(OPS))
    if unknown:
        raise ValueError(f"there is no op {unknown[0]!r}; ops are {', '.join(sorted(OPS))}")
    kind = torch.device(device).type
    found = []
    for name, op in sorted(OPS.items()):
        if (ops and name.removesuffix(BACKWARD) not in ops) or (huge and op.is_backward):
            continue
        rows = {row.name for row in op.backends if row.device_type in ("any", kind)}
        found += [
            Task(op=name, backend=row, device=device, dtypes=tuple(dtypes), large=large, huge=huge)
            for row in sorted(rows - {"reference"})
            if not backends or row in backends
        ]
    return sorted(found, key=lambda task: task.backend != "triton")


def check_row(task: Task) -> dict[str, Checked]:
    """Check one row; runs in a process of its own.

    Args:
        task: which, and how.

    Returns:
        By dtype, what became of the cases.
    """
    set_up(1)
    return {dtype: _check(task, dtype) for dtype in task.dtypes}


def _check(task: Task, dtype: str) -> Checked:
    checked = Checked()
    began = time.perf_counter()
    where: dict[str, Any] = {"device": task.device, "dtype": DTYPES[dtype]}
    for name, case, layout in _cases(task, dtype):
        try:
            if task.huge:
                check_far_end(task.op, case, backend=task.backend, **where)
            else:
                check_op(task.op, case, backend=task.backend, layout=layout, **where)
            checked.passed.append(name)
        except (NotSeparableError, torch.OutOfMemoryError) as error:
            checked.declined[name] = processes.in_one_line(error)
        except BackendError as error:
            checked.declined[name] = verification.own_line(error, task.backend)
        except Exception as error:
            checked.failed[name] = processes.in_one_line(error)
            if "CUDA error" in str(error):  # of those that the whole process does not survive
                break
    checked.seconds = round(time.perf_counter() - began, 2)
    return checked


def _cases(task: Task, dtype: str) -> Iterator[tuple[str, Any, str]]:
    """Name, case, layout."""
    module = cases_of(task.op)
    if task.huge:
        yield module.HUGE.name, module.HUGE, LAYOUTS[0]
        return
    for number, case in enumerate(module.CHECK):
        for layout in LAYOUTS if number == 0 else LAYOUTS[:1]:
            name = case.name if layout == LAYOUTS[0] else f"{case.name}.{layout}"
            yield name, case, layout
    if task.large and dtype == "bf16":
        for case in large_cases(task.op):
            yield case.name, case, "channels_last"


def large_cases(op: str) -> list[Any]:
    """The largest bench cases whose definition in fp64 takes no more than seconds and gigabytes."""
    module = cases_of(op)
    backward = op.endswith(BACKWARD)

    def fits(case: Any) -> bool:
        tokens = getattr(case, "length", 0) if "attention" in op else 0
        scores = tokens**2 * getattr(case, "num_heads", 1) * getattr(case, "batch", 1)
        frames = getattr(case, "num_frames", 0)
        scores = max(scores, (frames * getattr(case, "tokens", 0)) ** 2 if frames else 0)
        return (
            module.flops(case, backward) <= _LARGE_FLOPS
            and module.bytes(case, 4, backward) <= _LARGE_BYTES
            and scores <= _LARGE_SCORES
        )

    found = sorted(filter(fits, module.BENCH), key=lambda case: int(module.bytes(case)))
    return found[-_NUM_LARGE:]


def _rows(task: Task, outcome: processes.Outcome, run_id: str) -> Iterator[Row]:
    for dtype in task.dtypes:
        checked = outcome.result[dtype] if outcome.result is not None else None
        status, reason = _verdict(checked, outcome.failure)
        facts = {} if checked is None else {
            "passed": len(checked.passed), "failed": checked.failed,
            "declined": checked.declined, "seconds": checked.seconds,
        }  # fmt: skip
        yield Row(
            run=run_id,
            suite=SUITE,
            case=task.op.removesuffix(BACKWARD),
            direction="bwd" if task.op.endswith(BACKWARD) else "fwd",
            dtype=dtype,
            device=task.device,
            scale="full" if task.large or task.huge else "smoke",
            contender=task.backend,
            status=status,
            reason=reason,
            facts=facts,
        )


def _verdict(checked: Checked | None, failure: str | None) -> tuple[str, str | None]:
    if checked is None:
        return FAILED, failure
    if checked.failed:
        name, reason = next(iter(checked.failed.items()))
        return FAILED, f"{len(checked.failed)} cases failed; {name}: {reason}"
    if not checked.passed:
        return SKIP, next(iter(checked.declined.values()), "there are no cases")
    return OK, None


def _remember(task: Task, outcome: processes.Outcome) -> None:
    """Tell the registry about a row that it would have to check itself."""
    op, place = OPS[task.op], torch.device(task.device)
    row = next(row for row in op.backends if row.name == task.backend)
    if place.type != "cuda" or row.verified is not None or task.huge:
        return
    findings = []
    for dtype in task.dtypes:
        checked = outcome.result[dtype] if outcome.result is not None else None
        status, reason = _verdict(checked, outcome.failure)
        declined = status == SKIP
        if declined:
            reason = f"none of its conformance cases in {dtype} can run on it: {reason}"
        cases = len(checked.passed) if checked is not None else 0
        took = checked.seconds if checked is not None else 0.0
        findings.append(verification.finding(op, row, dtype, reason, cases, took, declined))
    verification.remember(findings, place)


def _line(row: Row) -> str:
    where = f"{row.case}/{row.direction}/{row.contender}/{row.dtype}"
    reason = f"; {row.reason}" if row.reason else ""
    return f"{where}: {row.status}, {row.facts.get('passed', 0)} cases passed{reason}"
