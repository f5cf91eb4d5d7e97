"""What the Triton kernels of layer_norm_modulate can run, and how they are launched."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..common.availability import triton_why_not
from ..common.launch import Walk, cdiv, next_power_of_two, share_tiles

MAX_WIDTH = 8192  # a row lives in the registers of one program


def why_not(x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> str | None:
    """Return why the forward kernel cannot serve a call, or None."""
    if x.shape[2] > MAX_WIDTH:
        return f"rows have {x.shape[2]} channels, at most {MAX_WIDTH} fit"
    return triton_why_not(x, shift, scale)


def backward_why_not(
    grad: Tensor, x: Tensor, shift: Tensor, scale: Tensor, eps: float
) -> str | None:
    """Return why the backward kernel cannot serve a call, or None."""
    return why_not(x, shift, scale, eps) or triton_why_not(grad)


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """Sizes of one call: x is [batch, length, width]."""

    batch: int
    length: int
    width: int
    backward: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """One program: ``tiles_per_program`` tiles of ``block_l`` whole rows, one after the other."""

    block_l: int
    block_m: int
    num_warps: int
    programs_per_item: int
    tiles_per_program: int


def pick(problem: Problem, num_sms: int) -> Config:
    """Choose the launch for a device with ``num_sms`` multiprocessors.

    A tile holds at least 2048 elements and a thread 16 of them: two 16-byte loads of half precision
    in flight, and few enough live values (six per element in the backward) to stay clear of spills.
    """
    block_m = next_power_of_two(problem.width)
    block_l = min(max(1, 2048 // block_m), next_power_of_two(problem.length))
    num_warps = min(max(1, block_l * block_m // 512), 16)
    num_tiles = cdiv(problem.length, block_l)
    if problem.backward:
        # Every program writes a row of partial sums: few programs, but enough to fill the device.
        walk = share_tiles(num_tiles, problem.batch, max_programs=4 * num_sms)
    else:
        # A few tiles per program reuse shift and scale, if the device still has waves to balance.
        walk = share_tiles(num_tiles, problem.batch, max_programs=16 * num_sms, max_tiles=4)
    return _config(block_l, block_m, num_warps, walk)


def candidates(problem: Problem, num_sms: int) -> list[Config]:
    """Launches worth measuring: other rows a tile, warps and programs."""
    default = pick(problem, num_sms)
    found = []
    for rows in (1, 2, 4, 8):
        block_l = min(rows, next_power_of_two(problem.length))
        num_tiles = cdiv(problem.length, block_l)
        for per_sm in (2, 4, 8, 16):
            walk = share_tiles(num_tiles, problem.batch, max_programs=per_sm * num_sms)
            for num_warps in (4, 8, 16):
                # At most 32 elements a thread: more would be spilled.
                if block_l * default.block_m <= 32 * 32 * num_warps:
                    found.append(_config(block_l, default.block_m, num_warps, walk))
    return list(dict.fromkeys(found))


def _config(block_l: int, block_m: int, num_warps: int, walk: Walk) -> Config:
    return Config(
        block_l=block_l,
        block_m=block_m,
        num_warps=num_warps,
        programs_per_item=walk.programs,
        tiles_per_program=walk.tiles,
    )
