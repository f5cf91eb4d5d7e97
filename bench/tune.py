"""Measure the launches that an op's launch.py offers, and keep the best for this device.

A candidate counts only if its result is as accurate as that of the default launch, and replaces it
only if it is faster beyond the noise.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from rich.console import Console

import opensora_fast.kernels
from opensora_fast.kernels import cache
from opensora_fast.kernels.common import tune
from opensora_fast.kernels.registry import OPS, BackendError, use_backend
from opensora_fast.kernels.testing import cases_of, operator_arguments

from . import gate
from .arguments import device_of, seconds
from .case import DTYPES, Run, as_tuple, widened
from .kernels import BACKWARD
from .processes import in_one_line
from .timing import Budget, Clock, interleave
from .worker import clock_of, set_up

SUCCESS = 0
# Gains below this may be noise, and a table of noise helps nobody.
LEAST_GAIN = 0.02
_BACKEND = "triton"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the verb takes."""
    parser.add_argument("ops", nargs="*", metavar="OP", help="forward or backward; default: all")
    parser.add_argument("--device", default="auto", help="auto or cuda[:n]")
    parser.add_argument("--dtype", choices=tuple(DTYPES), default="bf16", help="default: bf16")
    parser.add_argument(
        "--case", default="", metavar="TEXT", help="only bench cases with this in their name"
    )
    parser.add_argument(
        "--seconds", type=seconds, default=2.0, metavar="S", help="for each problem (default: 2)"
    )


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Tune ops one bench case after the other.

    Args:
        arguments: see `add_arguments`.
        console: told what came out.

    Returns:
        0.

    Raises:
        ValueError: an unknown op, or no CUDA device.
    """
    device = device_of(arguments.device)
    if not device.startswith("cuda"):
        raise ValueError("bench tune needs a CUDA device: launches are measured where they run")
    names = arguments.ops or _all_ops()
    unknown = [name for name in names if name not in OPS]
    if unknown:
        raise ValueError(f"there is no op {unknown[0]!r}; ops are {', '.join(sorted(OPS))}")
    set_up(torch.get_num_threads())
    budget = Budget(rounds=5, seconds=arguments.seconds)
    entries: list[tune.Entry] = []
    for name in names:
        for case in cases_of(name).BENCH:
            if arguments.case not in case.name:
                continue
            try:
                found = tune_case(name, case, device, arguments.dtype, clock_of(device), budget)
            except (BackendError, torch.OutOfMemoryError) as error:
                console.print(f"{name}/{case.name}: {in_one_line(error)}", markup=False)
                continue
            for result in found:
                console.print(f"{name}/{case.name}: {result}", markup=False, highlight=False)
            entries += [result.entry for result in found if result.entry is not None]
    place = torch.device(device)
    if entries:
        tune.remember(entries, place)
    print(f"{len(entries)} launches better than the default: {cache.file_of(tune.KIND, place)}")
    return SUCCESS


@dataclass(frozen=True, kw_only=True, slots=True)
class Tuned:
    """What measuring one question brought."""

    question: tune.Question
    default_s: float
    best: Any
    best_s: float
    dropped: Mapping[str, str]
    entry: tune.Entry | None

    def __str__(self) -> str:
        kept = f"{self.best}, {self.default_s / self.best_s:.2f} times as fast as the default"
        what = kept if self.entry is not None else "the default is best"
        return f"{what} ({self.default_s * 1e6:.1f} us, {len(self.dropped)} candidates dropped)"


def tune_case(
    name: str, case: Any, device: str, dtype: str, clock: Clock, budget: Budget
) -> list[Tuned]:
    """Answer every question that one call of an op asks.

    Args:
        name: of a forward or backward op.
        case: one of its cases.
        device: where to measure.
        dtype: of the inputs.
        clock: times the calls.
        budget: of each question.

    Returns:
        One result per question that had candidates.

    Raises:
        BackendError: Triton cannot run the case.
    """
    args = operator_arguments(name, case, device=device, dtype=DTYPES[dtype])

    def call() -> Any:
        with use_backend(_BACKEND), torch.no_grad():
            return OPS[name](*args)

    with tune.asking() as asked:
        call()
    questions = {(q.op, q.problem): q for q in asked if q.candidates}
    if not questions:
        return []
    wide = [widened(arg, dtype) for arg in args]
    exact = as_tuple(OPS[name].reference(*wide))
    allowed = gate.ours_allowed(gate.errors(as_tuple(call()), exact), dtype)

    def why_wrong() -> str | None:
        return gate.why_wrong(gate.errors(as_tuple(call()), exact), allowed)

    return [answer(q, call, why_wrong, clock, budget) for q in questions.values()]


def answer(
    question: tune.Question,
    call: Run,
    why_wrong: Callable[[], str | None],
    clock: Clock,
    budget: Budget,
) -> Tuned:
    """Measure the candidates of one question against its default.

    Args:
        question: to answer.
        call: runs the op.
        why_wrong: judges the op's result under the launch in force.
        clock: times the calls.
        budget: for all candidates together.

    Returns:
        The best of those that run and are right.
    """
    dropped: dict[str, str] = {}
    runs: dict[str, Callable[[], Any]] = {}
    configs = {str(config): config for config in (question.default, *question.candidates)}
    for label, config in configs.items():
        with tune.trying(question, config):
            try:
                reason = why_wrong()
            except Exception as error:  # more shared memory or registers than there are, mostly
                reason = in_one_line(error)
        if reason is None:
            runs[label] = _under(question, config, call)
        else:
            dropped[label] = reason
    default = str(question.default)
    if default not in runs:
        raise RuntimeError(f"{question.op}: the default launch is wrong: {dropped[default]}")
    medians = {
        label: statistics.median(samples)
        for label, samples in interleave(runs, clock, budget).items()
    }
    best = min(medians, key=lambda label: medians[label])
    better = medians[best] < (1 - LEAST_GAIN) * medians[default]
    made = tune.entry(question, configs[best], medians[best], medians[default]) if better else None
    return Tuned(
        question=question,
        default_s=medians[default],
        best=configs[best],
        best_s=medians[best],
        dropped=dropped,
        entry=made,
    )


def _under(question: tune.Question, config: Any, call: Run) -> Callable[[], Any]:
    def run() -> Any:
        with tune.trying(question, config):
            return call()

    return run


def _all_ops() -> Sequence[str]:
    forward = list(opensora_fast.kernels.__all__)
    both = [name for op in forward for name in (op, op + BACKWARD) if name in OPS]
    return [name for name in both if any(row.name == _BACKEND for row in OPS[name].backends)]
