"""From cases to rows: the exact result, each contender alone, then all of them together."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from . import gate, worker
from .calibrate import roofline
from .case import OURS, Case
from .gate import Errors
from .peers import version_of, why_missing
from .processes import run_apart
from .records import FAILED, OK, SKIP, Row
from .stats import speed_up, summarise
from .timing import Budget
from .worker import Probe, Timed

# Nothing that is right beats the machine's own matrix product by so much: the transforms that save
# most multiplications save a factor of eight.
IMPOSSIBLE_FLOPS = 10.0
# Bandwidth of a small cache over that of the copy that was measured there.
IMPOSSIBLE_BYTES = 3.0
SUSPICIOUS_SPEED_UP = 10.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """How cases are measured.

    Args:
        run: id of the run.
        scales: cases of other scales are skipped.
        threads: that torch may use.
        budget: rounds and seconds.
        timeout_s: of each process.
        compile_timeout_s: of each process that compiles.
        peers: only these, or all.
        peaks: of the machine.
        together: one process per case instead of one per contender: quicker where processes are
            slow to start; a crash then costs the case.
    """

    run: str
    scales: tuple[str, ...]
    threads: int
    budget: Budget = field(default_factory=Budget)
    timeout_s: float = 1800.0
    compile_timeout_s: float = 300.0
    peers: frozenset[str] | None = None
    peaks: dict[str, float] = field(default_factory=dict)
    together: bool = False


@dataclass(kw_only=True, slots=True)
class _State:
    """What is known about a case so far."""

    reasons: dict[str, tuple[str, str]] = field(default_factory=dict)  # status and sentence
    probes: dict[str, Probe] = field(default_factory=dict)
    allowed: dict[str, Errors] = field(default_factory=dict)
    baseline: str | None = None
    timed: Timed | None = None
    counts: dict[str, int] = field(default_factory=dict)


def run_case(case: Case, options: Options, say: Callable[[str], None]) -> list[Row]:
    """Measure one case.

    Args:
        case: to measure.
        options: how.
        say: told what is being done.

    Returns:
        One row per contender that was asked for; one for the case if it is not for this machine.
    """
    if case.scale not in options.scales:
        reason = "a size of the released model: needs a GPU, or --full and patience"
        return [_row(case, OURS, options, status=SKIP, reason=reason)]
    wanted = [
        name
        for name in case.contenders
        if options.peers is None or name.startswith(OURS) or name in options.peers
    ]
    if options.together:
        return _run_together(case, wanted, options, say)
    state = _State()
    with tempfile.TemporaryDirectory(prefix="opensora-fast-bench-") as folder:
        path = str(Path(folder, "exact.pt"))
        say("exact result")
        outcome = run_apart(worker.oracle, case, path, options.threads, timeout_s=options.timeout_s)
        if outcome.failure is not None:
            reason = f"there is no exact result to compare with: {outcome.failure}"
            return [_row(case, name, options, status=FAILED, reason=reason) for name in wanted]
        state.counts = outcome.result
        for name in wanted:
            say(name)
            _probe(case, name, path, options, state)
    _judge(case, state)
    sound = {
        name: probe.errors for name, probe in state.probes.items() if name not in state.reasons
    }
    if sound:
        say("timing " + ", ".join(sound))
        _measure(case, sound, options, state)
    return [_finished_row(case, name, options, state) for name in wanted]


def _run_together(
    case: Case, wanted: Sequence[str], options: Options, say: Callable[[str], None]
) -> list[Row]:
    """Measure one case in one process."""
    state = _State()
    for name in wanted:
        reason = why_missing(name, case.device)
        if reason is not None:
            state.reasons[name] = (SKIP, reason)
    names = [name for name in wanted if name not in state.reasons]
    say(", ".join(names))
    outcome = run_apart(
        worker.together, case, names, _sound, options.budget, options.threads,
        timeout_s=options.timeout_s,
    )  # fmt: skip
    if outcome.failure is not None:
        for name in names:
            status = FAILED if name.startswith(OURS) else SKIP
            state.reasons[name] = (status, outcome.failure)
        reasons = state.reasons.items()
        return [_row(case, name, options, status=s, reason=r) for name, (s, r) in reasons]
    found: worker.Together = outcome.result
    state.counts, state.probes, state.timed = found.counts, found.probes, found.timed
    for name, reason in found.failures.items():
        state.reasons[name] = (FAILED if name.startswith(OURS) else SKIP, reason)
    _judge(case, state)
    for name, reason in (found.timed.broken if found.timed is not None else {}).items():
        state.reasons[name] = (FAILED, reason)
    return [_finished_row(case, name, options, state) for name in wanted]


def _sound(case: Case, probes: Mapping[str, Probe]) -> dict[str, Errors]:
    """The contenders that the gate lets pass, with their errors."""
    state = _State(probes=dict(probes))
    _judge(case, state)
    return {name: probe.errors for name, probe in probes.items() if name not in state.reasons}


def _probe(case: Case, name: str, path: str, options: Options, state: _State) -> None:
    reason = why_missing(name, case.device)
    if reason is not None:
        state.reasons[name] = (SKIP, reason)
        return
    timeout_s = options.timeout_s
    if name.endswith("compile"):
        timeout_s = min(timeout_s, options.compile_timeout_s)
    outcome = run_apart(worker.probe, case, name, path, options.threads, timeout_s=timeout_s)
    if outcome.failure is None:
        state.probes[name] = outcome.result
    else:
        state.reasons[name] = (FAILED if name.startswith(OURS) else SKIP, outcome.failure)


def _judge(case: Case, state: _State) -> None:
    """Sort out what is wrong; the first sound peer is the baseline."""
    limit = gate.peer_allowed(case.dtype)
    for name, probe in state.probes.items():
        if name.startswith(OURS):
            continue
        state.allowed[name] = limit
        reason = gate.why_wrong(probe.errors, limit)
        if reason is not None:
            state.reasons[name] = (FAILED, reason)
        elif state.baseline is None:
            state.baseline = name
    baseline = state.probes[state.baseline].errors if state.baseline is not None else None
    allowed = gate.ours_allowed(baseline, case.dtype)
    for name, probe in state.probes.items():
        if name.startswith(OURS):
            state.allowed[name] = allowed
            reason = gate.why_wrong(probe.errors, allowed)
            if reason is not None:
                state.reasons[name] = (FAILED, reason)


def _measure(case: Case, sound: Mapping[str, Errors], options: Options, state: _State) -> None:
    """Time the sound contenders; if that breaks down, the first two of them."""
    groups = [dict(sound)]
    if len(sound) > 2:
        groups.append(dict(list(sound.items())[:2]))
    failure = ""
    for group in groups:
        outcome = run_apart(
            worker.measure, case, group, options.budget, options.threads,
            timeout_s=options.timeout_s,
        )  # fmt: skip
        if outcome.failure is None:
            timed: Timed = outcome.result
            state.timed = timed
            for name, reason in timed.broken.items():
                state.reasons[name] = (FAILED, reason)
            for name in sound.keys() - group.keys():
                state.reasons[name] = (SKIP, f"the timing of all together failed: {failure}")
            return
        failure = outcome.failure
    for name in sound:
        status = FAILED if name.startswith(OURS) else SKIP
        state.reasons[name] = (status, f"the timing failed: {failure}")


def _finished_row(case: Case, name: str, options: Options, state: _State) -> Row:
    """Everything that is known about one contender."""
    status, reason = state.reasons.get(name, (OK, None))
    row = _row(case, name, options, status=status, reason=reason)
    row = dataclasses.replace(
        row, baseline=state.baseline, flops=state.counts["flops"], bytes=state.counts["bytes"]
    )
    probe = state.probes.get(name)
    if probe is not None:
        row = dataclasses.replace(
            row,
            oracle="fp64" if case.dtype == "fp32" else "fp32",
            rel_l2=probe.errors.rel_l2,
            largest=probe.errors.largest,
            allowed_rel_l2=state.allowed[name].rel_l2,
            first_call_s=probe.first_call_s,
            memory_before=probe.memory.before,
            memory_kept=probe.memory.kept,
            memory_peak=probe.memory.peak,
            memory_activations=probe.memory.activations,
            facts=probe.facts,
        )
    if status != OK or state.timed is None:
        return row
    return _with_times(row, case, state.timed, options.peaks, state.reasons)


def _with_times(
    row: Row,
    case: Case,
    timed: Timed,
    peaks: dict[str, float],
    reasons: Mapping[str, tuple[str, str]],
) -> Row:
    samples = timed.samples[row.contender]
    summary = summarise(samples)
    assert row.flops is not None and row.bytes is not None
    row = dataclasses.replace(
        row,
        n=summary.n,
        median_s=summary.median_s,
        min_s=summary.min_s,
        p20_s=summary.p20_s,
        p80_s=summary.p80_s,
        spread=summary.spread,
        smallest_difference=summary.smallest_difference,
        gflops_per_s=row.flops / summary.median_s / 1e9,
        gbytes_per_s=row.bytes / summary.median_s / 1e9,
    )
    place = roofline(summary.median_s, row.flops or 0, row.bytes or 0, case.dtype, peaks)
    if place is not None:
        row = dataclasses.replace(row, percent_of_peak=place.percent, bound=place.bound)
    ratios = {}
    if row.contender.startswith(OURS):
        for peer, theirs in timed.samples.items():
            if peer.startswith(OURS) or peer in reasons:
                continue
            median, (low, high), least = speed_up(samples, theirs)
            ratios[peer] = {"median": median, "low": low, "high": high, "min": least}
    warnings = distrust(row, peaks, [ratio["median"] for ratio in ratios.values()])
    return dataclasses.replace(row, speed_up=ratios, warnings=warnings)


def distrust(row: Row, peaks: Mapping[str, float], ratios: Sequence[float]) -> tuple[str, ...]:
    """Sentences about figures that are too good.

    Args:
        row: with its times.
        peaks: of the machine.
        ratios: speed-ups over peers.

    Returns:
        The sentences; none if nothing is strange.
    """
    found = []
    flops, traffic = peaks.get(f"gemm.{row.dtype}"), peaks.get("copy.cached")
    if flops is not None and (row.gflops_per_s or 0) * 1e9 > IMPOSSIBLE_FLOPS * flops:
        found.append(
            f"impossible: more than {IMPOSSIBLE_FLOPS:g} times the rate of the matrix product"
        )
    if traffic is not None and (row.gbytes_per_s or 0) * 1e9 > IMPOSSIBLE_BYTES * traffic:
        found.append(f"impossible: more than {IMPOSSIBLE_BYTES:g} times the rate of the cache")
    if ratios and min(ratios) > SUSPICIOUS_SPEED_UP:
        found.append(f"suspicious: more than {SUSPICIOUS_SPEED_UP:g} times as fast as every peer")
    return tuple(found)


def _row(case: Case, name: str, options: Options, *, status: str, reason: str | None = None) -> Row:
    return Row(
        run=options.run,
        suite=case.suite,
        case=case.name,
        direction=case.direction,
        dtype=case.dtype,
        device=case.device,
        scale=case.scale,
        contender=name,
        version=version_of(name),
        status=status,
        reason=reason,
    )
