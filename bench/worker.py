"""The tasks that a case is made of; each runs in a process of its own (see `processes`)."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import opensora_fast.kernels  # noqa: F401 (imported before diffusers and transformers)
from opensora_fast.kernels.device import device_info
from opensora_fast.kernels.testing import full_precision

from . import gate
from .case import OURS, Case, Run, as_tuple
from .gate import Errors
from .memory import Memory, measure_memory
from .processes import in_one_line
from .timing import Budget, Clock, CpuClock, CudaClock, interleave

SEED, OTHER_SEED = 0, 1
# Contenders that were judged against the oracle may differ from each other by the sum of their
# errors, more or less; results of other inputs differ by about 1.
_AGREEMENT_FACTOR = 3.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Probe:
    """One contender alone: is it right, and how much memory does it take?

    Args:
        errors: against the oracle.
        memory: of the calls.
        first_call_s: seconds of building and of the first two calls: compilation, packed weights.
        facts: what the contender says about itself, e.g. forwards that it ran.
    """

    errors: Errors
    memory: Memory
    first_call_s: float
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Timed:
    """All contenders together.

    Args:
        samples: seconds per call, by contender, one per round.
        broken: by contender, a rule that it broke: changed inputs, stale results.
    """

    samples: dict[str, list[float]]
    broken: dict[str, str]


def oracle(case: Case, path: str, threads: int) -> dict[str, int]:
    """Compute the exact outputs and save them.

    Args:
        case: to solve.
        path: file for the outputs.
        threads: that torch may use.

    Returns:
        Operations and least traffic of the case.
    """
    set_up(threads)
    problem = case.load(case)
    inputs = problem.inputs(SEED)
    with torch.no_grad(), full_precision():
        exact = as_tuple(problem.oracle(*inputs))
    torch.save([out.detach().cpu().clone() for out in exact], path)
    return {"flops": problem.flops, "bytes": problem.bytes}


def probe(case: Case, name: str, path: str, threads: int) -> Probe:
    """Judge one contender and measure its memory.

    Args:
        case: to solve.
        name: of the contender.
        path: of the exact outputs.
        threads: that torch may use.

    Returns:
        See `Probe`.
    """
    set_up(threads)
    problem = case.load(case)
    if name.startswith(OURS) and problem.check is not None:
        problem.check()
    inputs = problem.inputs(SEED)
    with quiet(case):
        began = time.perf_counter()
        run = problem.make[name]()(*inputs)
        outputs, memory = measure_memory(run, torch.device(case.device))
        seconds = time.perf_counter() - began
        facts = dict(getattr(run, "facts", {}))
        found = gate.errors(as_tuple(outputs), torch.load(path))
    return Probe(errors=found, memory=memory, first_call_s=seconds, facts=facts)


@dataclass(frozen=True, kw_only=True, slots=True)
class Together:
    """What one process found out about a whole case.

    Args:
        counts: operations and least traffic.
        probes: by contender.
        failures: of the others, a sentence each.
        timed: those that were sound, or None.
    """

    counts: dict[str, int]
    probes: dict[str, Probe]
    failures: dict[str, str]
    timed: Timed | None


def together(
    case: Case,
    names: Sequence[str],
    sound: Callable[[Case, Mapping[str, Probe]], Mapping[str, Errors]],
    budget: Budget,
    threads: int,
) -> Together:
    """Solve, judge and time a case in this one process.

    Args:
        case: to solve.
        names: of the contenders.
        sound: tells which of them may be timed.
        budget: how long.
        threads: that torch may use.

    Returns:
        See `Together`.
    """
    probes: dict[str, Probe] = {}
    failures: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="opensora-fast-bench-") as folder:
        path = str(Path(folder, "exact.pt"))
        counts = oracle(case, path, threads)
        for name in names:
            try:
                probes[name] = probe(case, name, path, threads)
            except Exception as error:
                failures[name] = in_one_line(error)
    chosen = sound(case, probes)
    timed = measure(case, chosen, budget, threads) if chosen else None
    return Together(counts=counts, probes=probes, failures=failures, timed=timed)


def measure(case: Case, found: Mapping[str, Errors], budget: Budget, threads: int) -> Timed:
    """Time contenders against each other, then see whether they kept the rules.

    Args:
        case: to solve.
        found: by contender, its errors against the oracle; ours or the baseline first.
        budget: how long.
        threads: that torch may use.

    Returns:
        See `Timed`.
    """
    set_up(threads)
    problem = case.load(case)
    inputs = problem.inputs(SEED)
    before = _copies(inputs)
    with quiet(case):
        made = {name: problem.make[name]() for name in found}
        runs = {name: bind(*inputs) for name, bind in made.items()}
        samples = interleave(runs, clock_of(case.device), budget)
        broken = find_changed_inputs(runs, inputs, before)
        if case.direction == "fwd":
            fresh = problem.inputs(OTHER_SEED)
            rebound = _overwrite(inputs, fresh)
            if rebound:
                runs = {name: bind(*inputs) for name, bind in made.items()}
                broken |= find_stale_results(runs, found)
    return Timed(samples=samples, broken=broken)


def find_changed_inputs(
    runs: Mapping[str, Run], inputs: Sequence[Any], before: Sequence[Any]
) -> dict[str, str]:
    """Which contenders write into their inputs.

    Args:
        runs: the contenders, bound to the inputs.
        inputs: as they are after the timing.
        before: copies from before the timing.

    Returns:
        By contender, a sentence.
    """
    changed = not _equal(inputs, before)
    broken = {}
    # One call each, from the same start: changes of several calls may cancel.
    for name, run in runs.items():
        _overwrite(inputs, before)
        run()
        if not _equal(inputs, before):
            broken[name] = "wrong: it changes its inputs"
    _overwrite(inputs, before)
    if changed and not broken:
        return dict.fromkeys(runs, "wrong: the inputs changed during the timing")
    return broken


def find_stale_results(runs: Mapping[str, Run], found: Mapping[str, Errors]) -> dict[str, str]:
    """Which contenders do not follow inputs that were overwritten in place.

    A result that is kept from an earlier run looks infinitely fast. All contenders were right
    about the first inputs, so about new ones the majority is taken to be right.

    Args:
        runs: the contenders, bound to the overwritten inputs.
        found: their errors on the first inputs.

    Returns:
        By contender, a sentence.
    """
    if len(runs) < 2:
        return {}
    results = {name: as_tuple(run()) for name, run in runs.items()}
    agreeing = {
        name: sum(
            _agree(results[name], results[other], found[name], found[other])
            for other in runs
            if other != name
        )
        for name in runs
    }
    most = max(agreeing.values())
    # Of two that disagree the peer is believed.
    suspects = [name for name in runs if agreeing[name] < most]
    if most == 0:
        suspects = [name for name in runs if name.startswith(OURS)]
    return dict.fromkeys(suspects, "wrong: its result does not follow its inputs")


def set_up(threads: int) -> None:
    """Settle what holds for the whole life of a process."""
    torch.set_num_threads(threads)
    torch.manual_seed(SEED)


def clock_of(device: str) -> Clock:
    """The clock for a device."""
    place = torch.device(device)
    if place.type == "cuda":
        return CudaClock(place, device_info(place).l2_bytes or 64 << 20)
    return CpuClock()


@contextlib.contextmanager
def quiet(case: Case) -> Iterator[None]:
    """Without autograd, except where a peer's backward needs it."""
    with torch.inference_mode() if case.direction == "fwd" else torch.no_grad():
        yield


def _agree(a: Sequence[Tensor], b: Sequence[Tensor], error_a: Errors, error_b: Errors) -> bool:
    distance = gate.errors(a[: len(b)], b[: len(a)]).rel_l2
    return distance <= _AGREEMENT_FACTOR * (error_a.rel_l2 + error_b.rel_l2) + 1e-5


def _copies(inputs: Sequence[Any]) -> list[Any]:
    return [value.clone() if isinstance(value, Tensor) else value for value in inputs]


def _equal(inputs: Sequence[Any], before: Sequence[Any]) -> bool:
    pairs = zip(inputs, before, strict=True)
    return all(torch.equal(a, b) for a, b in pairs if isinstance(a, Tensor))


def _overwrite(inputs: Sequence[Any], values: Sequence[Any]) -> bool:
    """Write other values into the floating-point inputs; whether there was one."""
    wrote = False
    for old, new in zip(inputs, values, strict=True):
        if isinstance(old, Tensor) and old.is_floating_point() and old.numel() > 0:
            with torch.no_grad():
                old.copy_(new)
            wrote = True
    return wrote
