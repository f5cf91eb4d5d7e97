"""What the Triton kernels of group_norm_silu can run, and how they are launched.

They see x as batch items of rows by columns, whatever its layout: channels-last, a row is a
position and a column a channel; contiguous, the statistics take a column per group and the rest a
column per channel, with rows along memory.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..common.availability import triton_why_not
from ..common.launch import cdiv, next_power_of_two, share_tiles

MAX_GROUP = 4096  # channels whose partial moments one program reads side by side
MAX_BORDER = 3  # every copy of a border pixel is a store of its own in the kernel
MAX_FRAME = 2**30  # positions of a frame that gets a border are counted in 32 bits
# Statistics are taken about the mean of a program's first tile. The variance of what the program
# reads is at least this share of the mean square about that point: six bits of fp32 may cancel.
_MAX_TILES = 64
# Partial moments that one program of the merge may walk through.
_MAX_PARTIALS = 8192


def why_not(
    x: Tensor, weight: Tensor, bias: Tensor, num_groups: int, eps: float, silu: bool
) -> str | None:
    """Return why the forward kernels cannot serve a call, or None."""
    if x.numel() == 0:
        return "the tensor is empty"
    if x.shape[1] // num_groups > MAX_GROUP:
        return f"groups have {x.shape[1] // num_groups} channels, at most {MAX_GROUP} fit"
    return triton_why_not(x, weight, bias)


def backward_why_not(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    rstd: Tensor,
    num_groups: int,
    eps: float,
    silu: bool,
) -> str | None:
    """Return why the backward kernels cannot serve a call, or None."""
    return why_not(x, weight, bias, num_groups, eps, silu) or triton_why_not(grad, mean, rstd)


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """Sizes of one pass over x: ``batch`` items of ``rows`` by ``columns``.

    ``along_columns``: neighbours in memory are neighbours in a row, as in channels-last layouts;
    else they are neighbours in a column.
    """

    batch: int
    rows: int
    columns: int
    along_columns: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """One program: ``tiles_per_program`` tiles, one below the other, of one block of columns."""

    block_r: int
    block_c: int
    column_blocks: int
    programs_per_item: int  # and block of columns
    tiles_per_program: int
    num_warps: int


def pick_statistics(problem: Problem, num_sms: int) -> Config:
    """Choose the pass that gathers moments: few programs, for each leaves partial results."""
    return _pick(problem, 2048, max_programs=8 * num_sms, max_tiles=_MAX_TILES)


def pick_elementwise(problem: Problem, num_sms: int) -> Config:
    """Choose a pass that writes what it reads: a few tiles reuse the channels' parameters."""
    return _pick(problem, 2048, max_programs=32 * num_sms, max_tiles=8)


def pick_transpose(problem: Problem, num_sms: int) -> Config:
    """Choose a pass that reads along rows and writes along columns: long runs for both."""
    columns = min(64, next_power_of_two(problem.columns))
    rows = min(4096 // columns, 128)
    return _walk(problem, rows, columns, max_programs=32 * num_sms, max_tiles=8, num_warps=8)


def _pick(problem: Problem, elements: int, max_programs: int, max_tiles: int) -> Config:
    if problem.along_columns:
        block_c = min(128, next_power_of_two(problem.columns))
        block_r = elements // block_c
    else:
        block_r = min(elements, max(64, next_power_of_two(problem.rows)))
        block_c = min(elements // block_r, next_power_of_two(problem.columns))
    return _walk(problem, block_r, block_c, max_programs, max_tiles)


def _walk(
    problem: Problem,
    block_r: int,
    block_c: int,
    max_programs: int,
    max_tiles: int,
    num_warps: int = 4,
) -> Config:
    column_blocks = cdiv(problem.columns, block_c)
    walk = share_tiles(
        cdiv(problem.rows, block_r), problem.batch * column_blocks, max_programs, max_tiles
    )
    return Config(
        block_r=block_r,
        block_c=block_c,
        column_blocks=column_blocks,
        programs_per_item=walk.programs,
        tiles_per_program=walk.tiles,
        num_warps=num_warps,
    )


def merge_splits(num_partials: int) -> int:
    """Return how many programs share a group's partial moments; if several, a last one follows."""
    return cdiv(num_partials, _MAX_PARTIALS)
