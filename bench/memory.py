"""Peak memory of a call: resident set of the process on a CPU, allocator statistics on a GPU."""

from __future__ import annotations

import ctypes
import gc
import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

_STATUS, _CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # see proc(5)


@dataclass(frozen=True, kw_only=True, slots=True)
class Memory:
    """Bytes around the calls of one contender in a process of its own.

    Args:
        before: before the first call: interpreter, inputs and weights.
        kept: more than before after the first call, result freed: packed weights, pools.
        peak: highest of the whole process during the second call.
        activations: highest of the second call above what was there when it began.
    """

    before: int
    kept: int
    peak: int
    activations: int


def measure_memory(run: Callable[[], Any], device: torch.device) -> tuple[Any, Memory]:
    """Call twice and watch the memory.

    Args:
        run: what to call.
        device: whose memory.

    Returns:
        The result of the second call, and the bytes.
    """
    gauge = gauge_of(device)
    before = gauge.now()
    result = run()
    del result
    settled = gauge.now()
    gauge.reset()
    result = run()
    peak = gauge.peak()
    return result, Memory(
        before=before, kept=settled - before, peak=peak, activations=max(0, peak - settled)
    )


class Gauge(Protocol):
    """Bytes in use: now, and at most since the last reset."""

    def now(self) -> int:
        """Bytes in use."""

    def reset(self) -> None:
        """Forget the highest."""

    def peak(self) -> int:
        """Highest since the last reset."""


def gauge_of(device: torch.device) -> Gauge:
    """The gauge for a device's memory."""
    return _CudaGauge(device) if device.type == "cuda" else _RssGauge()


class _RssGauge:
    """Resident set of this process."""

    def now(self) -> int:
        gc.collect()
        if sys.platform == "linux":
            # Freed memory that the C library holds back is no use of the contender's.
            trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
            if trim is not None:
                trim(0)
        return _status_bytes("VmRSS") or self.peak()

    def reset(self) -> None:
        try:
            _CLEAR_REFS.write_text(_RESET_PEAK)
        except OSError:
            # Then the peak is that of the whole life of the process, which includes the first call.
            return

    def peak(self) -> int:
        unit = 1 if sys.platform == "darwin" else 1024
        return _status_bytes("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


class _CudaGauge:
    """What torch's allocator has handed out on a GPU."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def now(self) -> int:
        torch.cuda.synchronize(self._device)
        return torch.cuda.memory_allocated(self._device)

    def reset(self) -> None:
        torch.cuda.reset_peak_memory_stats(self._device)

    def peak(self) -> int:
        torch.cuda.synchronize(self._device)
        return torch.cuda.max_memory_allocated(self._device)


def _status_bytes(field: str) -> int | None:
    """A field of /proc/self/status, None where there is no such file."""
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return None
    found = next((line.split() for line in lines if line.startswith(field + ":")), None)
    return int(found[1]) * 1024 if found is not None else None
