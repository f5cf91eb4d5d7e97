"""What the Triton kernels of rms_norm3d can run, and how they are launched."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..common.availability import triton_why_not
from ..common.launch import cdiv, next_power_of_two, share_tiles

# Elements of the largest tile: its programs have 16 warps, a thread 16 elements.
_MAX_TILE = 8192
# Channels of the largest tile: with 8192 the backward in fp32 spills a few registers.
_MAX_WIDTH = 4096
# Contiguous, a program takes runs of this many positions: two sectors of half precision.
_RUN = 32
# Channels at a time of a position too long for one tile.
_PIECE = 128


def why_not(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    eps: float,
    activation: str,
    residual: Tensor | None = None,
) -> str | None:
    """Return why the forward kernel cannot serve a call, or None."""
    if x.numel() == 0:
        return "the tensor is empty"
    return triton_why_not(x, weight, *(t for t in (bias, residual) if t is not None))


def backward_why_not(
    grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, eps: float, activation: str
) -> str | None:
    """Return why the backward kernels cannot serve a call, or None."""
    return why_not(x, weight, bias, eps, activation) or triton_why_not(grad)


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """Sizes of one call: ``batch`` items of ``positions`` with ``channels`` each."""

    batch: int
    positions: int
    channels: int
    channels_last: bool
    backward: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """One program: ``tiles_per_program`` tiles of ``block_p`` positions, one after the other.

    ``whole``: a tile holds all channels, and memory is read once; else it holds ``block_c`` of
    them at a time, and what is read again comes from the caches.
    """

    whole: bool
    block_p: int
    block_c: int
    programs_per_item: int
    tiles_per_program: int
    num_warps: int


def pick(problem: Problem, num_sms: int) -> Config:
    """Choose the launch: whole positions where a tile of them fits the registers."""
    block_c = next_power_of_two(problem.channels)
    least = 1 if problem.channels_last else _RUN
    whole = block_c <= _MAX_WIDTH and least * block_c <= _MAX_TILE
    if not whole:
        block_c = _PIECE if problem.channels_last else _PIECE // 2
    block_p = max(least, 2048 // block_c)
    num_tiles = cdiv(problem.positions, block_p)
    if not whole and problem.backward:
        # The partial sums of a tile's pieces have no registers to wait in for the next tile.
        walk = share_tiles(num_tiles, problem.batch, 1, max_tiles=1)
    elif problem.backward:
        # Every program writes a row of partial sums: few programs, but enough to fill the device.
        walk = share_tiles(num_tiles, problem.batch, max_programs=8 * num_sms)
    else:
        # A few tiles per program reuse weight and bias.
        walk = share_tiles(num_tiles, problem.batch, max_programs=32 * num_sms, max_tiles=8)
    # Backwards eight values live for every element of a tile; forwards, four.
    per_warp = 32 * (8 if problem.backward else 16)
    return Config(
        whole=whole,
        block_p=block_p,
        block_c=block_c,
        programs_per_item=walk.programs,
        tiles_per_program=walk.tiles,
        num_warps=min(max(1, block_p * block_c // per_warp), 16),
    )
