"""What this machine can do: measured first, so that results from different machines compare."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from opensora_fast.kernels.device import device_info

from .timing import Clock
from .worker import clock_of, set_up

# Edges of the square products; the best counts. 16-bit units want larger ones to fill up.
_GEMM_EDGES = {"cpu": (1024, 2048), "cuda": (4096, 8192)}
_COPY_BYTES = {"cpu": 256 << 20, "cuda": 1 << 30}
# Half of a typical level-2 cache, so that source and target stay in it.
_CACHED_COPY_BYTES = {"cpu": 256 << 10, "cuda": 8 << 20}
# The part of a level-2 cache that is read: what two halves of it may both hold. The clock empties
# the cache before each call, so it is read often enough for the first time not to count.
_LEVEL_2_PART = 3
_LEVEL_2_REPEATS = 256
_SECONDS = 0.5
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def calibrate(device: str, threads: int, seconds: float = _SECONDS) -> dict[str, float]:
    """Measure the machine's named peaks.

    Args:
        device: "cpu" or "cuda:n".
        threads: that torch may use.
        seconds: to spend on each figure.

    Returns:
        By name: "gemm.<dtype>" operations per second of the best matrix product, "copy" and
        "copy.cached" bytes per second, read and written, of copies in memory and in cache; on a GPU
        with Triton "l2.read", bytes per second from the level-2 cache to the multiprocessors.
        "registers.<dtype>", if present, is the rate of multiply-adds that touch no memory; it
        then is the roof instead of "gemm.<dtype>".
    """
    set_up(threads)
    place = torch.device(device)
    clock = clock_of(device)
    edges = _GEMM_EDGES[place.type]
    names = ("fp32", "bf16") if place.type == "cpu" else ("fp32", "bf16", "fp16")
    peaks = {
        f"gemm.{name}": max(_gemm(place, _DTYPES[name], edge, clock, seconds) for edge in edges)
        for name in names
    }
    return {
        **peaks,
        "copy": _copy(place, _COPY_BYTES[place.type], clock, seconds),
        "copy.cached": _copy(place, _CACHED_COPY_BYTES[place.type], clock, seconds),
        **_level_2(place, clock, seconds),
    }


@dataclass(frozen=True, kw_only=True, slots=True)
class Roofline:
    """How close a time comes to what the machine allows.

    Args:
        bound: "compute" or "memory": which of the two limits is the tighter one.
        percent: of that limit; above 100 where fewer operations than the direct algorithm's are
            needed, or where caches serve.
        flops_per_s: direct operations per second.
        bytes_per_s: least traffic per second.
    """

    bound: str
    percent: float
    flops_per_s: float
    bytes_per_s: float


def roofline(
    seconds: float, flops: int, traffic: int, dtype: str, peaks: dict[str, float]
) -> Roofline | None:
    """Place a time under the machine's roof.

    Args:
        seconds: of one call.
        flops: operations of the direct algorithm.
        traffic: least bytes moved.
        dtype: whose peak counts.
        peaks: from `calibrate`.

    Returns:
        The place, or None without peaks for the dtype.
    """
    peak = compute_peak(dtype, peaks)
    if peak is None or "copy" not in peaks:
        return None
    compute_s, memory_s = flops / peak, traffic / peaks["copy"]
    return Roofline(
        bound="compute" if compute_s >= memory_s else "memory",
        percent=100 * max(compute_s, memory_s) / seconds,
        flops_per_s=flops / seconds,
        bytes_per_s=traffic / seconds,
    )


def compute_peak(dtype: str, peaks: dict[str, float]) -> float | None:
    """The rate of operations that counts as the roof."""
    return peaks.get(f"registers.{dtype}", peaks.get(f"gemm.{dtype}"))


def _gemm(
    place: torch.device, dtype: torch.dtype, edge: int, clock: Clock, seconds: float
) -> float:
    a, b = (torch.randn(edge, edge, device=place, dtype=dtype) for _ in range(2))
    return 2 * edge**3 / _best(lambda: torch.mm(a, b), clock, seconds)


def _copy(place: torch.device, size: int, clock: Clock, seconds: float) -> float:
    source = torch.ones(size, dtype=torch.uint8, device=place)
    target = torch.empty_like(source)
    return 2 * size / _best(lambda: target.copy_(source), clock, seconds)


def _level_2(place: torch.device, clock: Clock, seconds: float) -> dict[str, float]:
    """The rate of the level-2 cache, where it can be measured."""
    size = device_info(place).l2_bytes if place.type == "cuda" else None
    if size is None or importlib.util.find_spec("triton") is None:
        return {}
    from . import _triton

    num_chunks = size // _LEVEL_2_PART // _triton.CHUNK_BYTES
    source = torch.ones(num_chunks * _triton.CHUNK_BYTES // 4, device=place)
    sums = torch.empty(num_chunks, device=place)
    launch = _triton.plan_read(source, sums, _LEVEL_2_REPEATS)
    fastest = _best(launch.run, clock, seconds)
    read = _LEVEL_2_REPEATS * _triton.CHUNK_BYTES
    if not bool((sums == read // 4).all()):
        raise RuntimeError("the kernel that reads the level-2 cache did not read all of it")
    return {"l2.read": num_chunks * read / fastest}


def _best(run: Callable[[], Any], clock: Clock, seconds: float) -> float:
    run()
    calls = max(1, int(1e-3 / max(clock.seconds(run, 1), 1e-9)))
    best = float("inf")
    until = time.perf_counter() + seconds
    while True:
        best = min(best, clock.seconds(run, calls))
        if time.perf_counter() >= until:
            return best
