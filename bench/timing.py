"""Interleaved timing: ours, peer, ours, peer, in one process and in alternating order."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch

# A sample much shorter than this would measure the clock and the call as well.
MIN_SAMPLE_S = 1e-3
MAX_ROUNDS = 1000
_FLUSH_FACTOR = 2


class Clock(Protocol):
    """Times a number of calls."""

    def seconds(self, run: Callable[[], Any], calls: int) -> float:
        """Seconds per call."""


class CpuClock:
    """Wall time; caches stay as the calls leave them."""

    def seconds(self, run: Callable[[], Any], calls: int) -> float:
        """Seconds per call."""
        began = time.perf_counter()
        for _ in range(calls):
            run()
        return (time.perf_counter() - began) / calls


class CudaClock:
    """CUDA events around each call, after the level-2 cache was overwritten.

    Args:
        device: a CUDA device.
        l2_bytes: size of its level-2 cache.
    """

    def __init__(self, device: torch.device, l2_bytes: int) -> None:
        self._device = device
        self._flush = torch.empty(_FLUSH_FACTOR * l2_bytes, dtype=torch.uint8, device=device)

    def seconds(self, run: Callable[[], Any], calls: int) -> float:
        """Seconds per call."""
        pairs = []
        with torch.cuda.device(self._device):
            for _ in range(calls):
                self._flush.zero_()
                begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                begin.record()
                run()
                end.record()
                pairs.append((begin, end))
            torch.cuda.synchronize()
        total_ms: float = sum(begin.elapsed_time(end) for begin, end in pairs)
        return total_ms / calls / 1e3


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """How long to measure.

    Args:
        rounds: at least so many rounds; a round runs every contender once.
        seconds: go on with rounds for so long.
    """

    rounds: int = 5
    seconds: float = 5.0


def interleave(
    runs: Mapping[str, Callable[[], Any]], clock: Clock, budget: Budget
) -> dict[str, list[float]]:
    """Time contenders in rounds, each once a round, every second round in reverse order.

    Neighbours in time meet the same disturbances, and neither always comes after the other.

    Args:
        runs: what to call, by name.
        clock: measures.
        budget: see `Budget`.

    Returns:
        Seconds per call, one entry per round and contender.
    """
    calls: dict[str, int] = {}
    for name, run in runs.items():
        # The first call pays for caches, packed weights and memory pools; the second tells how
        # many calls make a sample.
        run()
        calls[name] = max(1, math.ceil(MIN_SAMPLE_S / max(clock.seconds(run, 1), 1e-9)))
    samples: dict[str, list[float]] = {name: [] for name in runs}
    names = list(runs)
    began = time.perf_counter()
    for number in range(MAX_ROUNDS):
        if number >= budget.rounds and time.perf_counter() - began >= budget.seconds:
            break
        for name in names if number % 2 == 0 else reversed(names):
            samples[name].append(clock.seconds(runs[name], calls[name]))
    return samples
