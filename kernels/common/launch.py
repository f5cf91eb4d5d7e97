"""A kernel launch as data: it can be inspected, compiled for another device, or run."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass(frozen=True, kw_only=True, slots=True)
class Launch:
    """A Triton kernel with everything it needs to start.

    The arguments are given by name. Tensors may live on the meta device as long as the launch is
    only compiled (see ``opensora_fast.kernels.common.compile``), not run. ``fp_fusion`` lets the
    compiler contract a product and a sum into one rounding.
    """

    kernel: Any
    grid: tuple[int, ...]
    arguments: Mapping[str, Any]
    constants: Mapping[str, Any] = field(default_factory=dict)
    num_warps: int = 4
    num_stages: int = 3
    fp_fusion: bool = True

    @property
    def options(self) -> dict[str, Any]:
        """Compiler options. FMA contraction is stated: its default differs between versions."""
        return {
            "num_warps": self.num_warps,
            "num_stages": self.num_stages,
            "enable_fp_fusion": self.fp_fusion,
        }

    def run(self) -> None:
        """Start the kernel on the device of its tensors; an empty grid starts nothing."""
        if 0 in self.grid:
            return
        device = next(a.device for a in self.arguments.values() if isinstance(a, torch.Tensor))
        # Triton launches on the current device, which need not be the one that holds the tensors.
        guard = torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()
        with guard:
            self.kernel[self.grid](**self.arguments, **self.constants, **self.options)


@functools.cache
def multiprocessors(device: torch.device) -> int:
    """Return the number of multiprocessors to fill; one stands for a CPU's interpreter."""
    if device.type != "cuda":
        return 1
    return torch.cuda.get_device_properties(device).multi_processor_count


def strides(name: str, tensor: torch.Tensor, axes: str) -> dict[str, int]:
    """Name the strides of ``tensor`` as kernel arguments, "q_stride_b" and so on."""
    return {f"{name}_stride_{axis}": tensor.stride(i) for i, axis in enumerate(axes)}


def next_power_of_two(n: int) -> int:
    """Return the smallest power of two that is at least ``n`` (1 for n < 2)."""
    return 1 << max(n - 1, 0).bit_length()


def cdiv(a: int, b: int) -> int:
    """Return ``a / b`` rounded up."""
    return -(-a // b)


@dataclass(frozen=True, kw_only=True, slots=True)
class Walk:
    """How programs share a batch item's row tiles: each walks ``tiles`` neighbours in order."""

    programs: int
    tiles: int


def share_tiles(
    num_tiles: int, batch: int, max_programs: int, max_tiles: int | None = None
) -> Walk:
    """Split ``num_tiles`` tiles per batch item among at most ``max_programs`` programs in all.

    ``max_tiles`` bounds the tiles of one program and wins over ``max_programs``.
    """
    tiles = max(1, cdiv(num_tiles * max(batch, 1), max(max_programs, 1)))
    if max_tiles is not None:
        tiles = min(tiles, max_tiles)
    tiles = min(tiles, max(num_tiles, 1))
    return Walk(programs=cdiv(num_tiles, tiles), tiles=tiles)
