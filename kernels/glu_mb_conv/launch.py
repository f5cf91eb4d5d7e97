"""What the Triton row of glu_mb_conv can run, and how its kernels are launched."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..common.availability import triton_why_not
from ..common.launch import next_power_of_two

# A product of this many positions fills a device; the ring of the Video DC-AE is then 256 MiB.
SLAB = 8192
STRIP = 16384
# Channels of a chunk: all of the Video DC-AE's, for the fewest launches.
CHANNELS = 4096

_WIDEST = 64


def why_not(x: Tensor, *parameters: Tensor) -> str | None:
    """Return why the kernels cannot serve a call, or None."""
    return "the tensor is empty" if x.numel() == 0 else triton_why_not(x, *parameters)


def backward_why_not(grad: Tensor, x: Tensor, *parameters: Tensor) -> str | None:
    """Return why the kernels cannot serve the gradients, or None."""
    return why_not(x, grad, *parameters)


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """One program: one tile of ``block_p`` positions of ``block_c`` channels."""

    block_p: int
    block_c: int
    num_warps: int


def pick(channels: int) -> Config:
    """Choose the launch: a thread holds 16 elements of each half, two 16-byte vectors."""
    block_c = min(next_power_of_two(channels), _WIDEST)
    return Config(block_p=2048 // block_c, block_c=block_c, num_warps=4)
