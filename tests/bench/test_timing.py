"""Rounds alternate their order, and a budget ends them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from opensora_fast.bench.calibrate import calibrate, compute_peak, roofline
from opensora_fast.bench.memory import measure_memory
from opensora_fast.bench.timing import Budget, CpuClock, interleave


class Ticks:
    """A clock that says what each contender was written to take."""

    def __init__(self, costs: dict[str, float]) -> None:
        self.costs, self.order = costs, []

    def seconds(self, run: Callable[[], Any], calls: int) -> float:
        name = run()
        self.order.append(name)
        return self.costs[name]


def test_every_second_round_runs_backwards() -> None:
    clock = Ticks({"a": 1.0, "b": 2.0})
    runs = {"a": lambda: "a", "b": lambda: "b"}
    samples = interleave(runs, clock, Budget(rounds=3, seconds=0.0))
    assert samples == {"a": [1.0] * 3, "b": [2.0] * 3}
    assert "".join(clock.order) == "ab" + "ab" + "ba" + "ab"


def test_short_calls_are_bundled() -> None:
    calls = 0

    def short() -> None:
        nonlocal calls
        calls += 1

    samples = interleave({"short": short}, CpuClock(), Budget(rounds=4, seconds=0.0))
    assert len(samples["short"]) == 4
    assert calls > 400


def test_rounds_go_on_until_the_seconds_are_over() -> None:
    clock = Ticks({"a": 1.0})
    samples = interleave({"a": lambda: "a"}, clock, Budget(rounds=1, seconds=0.05))
    assert len(samples["a"]) > 10


def test_memory_is_that_of_the_call() -> None:
    size = 64 << 20

    def run() -> torch.Tensor:
        return torch.ones(size, dtype=torch.uint8)[:1].clone()

    result, memory = measure_memory(run, torch.device("cpu"))
    assert result.tolist() == [1]
    assert 0.9 * size < memory.activations < 1.5 * size
    assert memory.kept < size / 2


def test_peaks_are_measured_and_place_a_time() -> None:
    peaks = calibrate("cpu", 1, seconds=0.01)
    assert set(peaks) == {"gemm.fp32", "gemm.bf16", "copy", "copy.cached"}
    assert all(value > 1e8 for value in peaks.values())


def test_the_tighter_limit_bounds() -> None:
    peaks = {"gemm.fp32": 100.0, "copy": 10.0}
    place = roofline(2.0, 100, 5, "fp32", peaks)
    assert place is not None
    assert (place.bound, place.percent) == ("compute", 50.0)
    place = roofline(2.0, 10, 15, "fp32", peaks)
    assert place is not None
    assert (place.bound, place.percent) == ("memory", 75.0)
    assert roofline(2.0, 10, 15, "bf16", peaks) is None
    assert compute_peak("fp32", {**peaks, "registers.fp32": 120.0}) == 120.0
