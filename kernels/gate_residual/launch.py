"""What the Triton kernels of gate_residual can run, and how they are launched."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..common.availability import triton_why_not
from ..common.launch import cdiv, next_power_of_two, share_tiles

_ELEMENTS_PER_TILE = 2048
_MAX_BLOCK_M = 1024


def why_not(x: Tensor, gate: Tensor, branch: Tensor) -> str | None:
    """Return why the forward kernel cannot serve a call, or None."""
    return triton_why_not(x, gate, branch)


def backward_why_not(grad: Tensor, gate: Tensor, branch: Tensor) -> str | None:
    """Return why the backward kernel cannot serve a call, or None."""
    return triton_why_not(grad, gate, branch)


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """Sizes of one call: x is [batch, length, width]."""

    batch: int
    length: int
    width: int
    backward: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """One program: ``tiles_per_program`` tiles of rows, one after the other, in one column tile."""

    block_l: int
    block_m: int
    num_warps: int
    column_tiles: int
    programs_per_item: int
    tiles_per_program: int


def pick(problem: Problem, num_sms: int) -> Config:
    """Choose the launch for a device with ``num_sms`` multiprocessors.

    A thread holds 16 elements of each tensor: two 16-byte loads of half precision in flight.
    """
    block_m = min(next_power_of_two(problem.width), _MAX_BLOCK_M)
    block_l = min(max(1, _ELEMENTS_PER_TILE // block_m), next_power_of_two(problem.length))
    column_tiles = cdiv(problem.width, block_m)
    num_tiles = cdiv(problem.length, block_l)
    columns = problem.batch * column_tiles
    if problem.backward:
        # Every program writes a row of partial sums: few programs, but enough to fill the device.
        walk = share_tiles(num_tiles, columns, max_programs=8 * num_sms)
    else:
        # A few tiles per program reuse the gate, if the device still has waves to balance.
        walk = share_tiles(num_tiles, columns, max_programs=32 * num_sms, max_tiles=4)
    return Config(
        block_l=block_l,
        block_m=block_m,
        num_warps=max(1, block_l * block_m // 512),
        column_tiles=column_tiles,
        programs_per_item=walk.programs,
        tiles_per_program=walk.tiles,
    )
