"""Triton kernels for the mean and 1 / deviation of groups of channels; how others read them.

Layout: x is batch items of rows by columns with any strides (see launch.py); what is gathered is
[2, B, S, C] fp32: of S runs of rows and C columns the mean and the sum of squared deviations from
it, or, where a convolution's epilogue gathered them, the sum and the sum of squares.
Parallel: one program per (batch item, run of row tiles, block of columns), then one per (batch
item, group), in two stages where there is very much to merge.
Bytes: reads x once. Every sum is taken in a fixed order and without atomics.

Numerics: a program sums x - p and its square, p the mean of its first tile, in fp32. If the tile is
the f-th part of what the program reads, the variance is at least f times the mean square about p:
cancellation costs log2(1 / f) bits of fp32, and launch.py bounds 1 / f. The merge is in fp64, where
E[x^2] - E[x]^2 of such moments loses nothing that fp32 had.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ..common.launch import Launch, cdiv, multiprocessors, next_power_of_two
from ..contract import layout_of
from .launch import Config, Problem, merge_splits, pick_statistics


@triton.jit
def moments_kernel(
    x_ptr, partial_ptr, R, C, stride_b, stride_r, stride_c, stride_which,
    column_blocks, programs_per_item, tiles_per_program,
    BLOCK_R: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Mean, and squared deviations from it, of a run of rows in each of a block of columns."""
    pid = tl.program_id(0).to(tl.int64)
    pid_c = pid % column_blocks
    pid_s = pid // column_blocks  # of all batch items together
    pid_b = pid_s // programs_per_item
    first = (pid_s % programs_per_item) * tiles_per_program * BLOCK_R
    offs_c = pid_c * BLOCK_C + tl.arange(0, BLOCK_C)
    offs_r = first + tl.arange(0, BLOCK_R)
    mask_c = offs_c < C
    base = x_ptr + pid_b * stride_b + offs_c[None, :] * stride_c
    mask = (offs_r < R)[:, None] & mask_c[None, :]
    b_x = tl.load(base + offs_r[:, None] * stride_r, mask=mask, other=0.0).to(tl.float32)
    # R - first is positive: no program is idle.
    b_point = (tl.sum(b_x, axis=0) / tl.minimum(R - first, BLOCK_R))[None, :]
    b_sum = tl.zeros([BLOCK_R, BLOCK_C], dtype=tl.float32)
    b_square = tl.zeros([BLOCK_R, BLOCK_C], dtype=tl.float32)
    for tile in range(0, tiles_per_program):
        # The first tile comes from the cache the second time.
        offs_r = first + tile * BLOCK_R + tl.arange(0, BLOCK_R)
        mask = (offs_r < R)[:, None] & mask_c[None, :]
        b_x = tl.load(base + offs_r[:, None] * stride_r, mask=mask, other=0.0).to(tl.float32)
        b_apart = tl.where(mask, b_x - b_point, 0.0)
        b_sum += b_apart
        b_square += b_apart * b_apart
    num_rows = tl.minimum(R - first, tiles_per_program * BLOCK_R)
    b_total = tl.sum(b_sum, axis=0)
    b_mean = b_total / num_rows
    b_deviations = tl.sum(b_square, axis=0) - b_total * b_mean
    at = pid_s * C + offs_c
    tl.store(partial_ptr + at, tl.sum(b_point, axis=0) + b_mean, mask=mask_c)
    tl.store(partial_ptr + stride_which + at, tl.maximum(b_deviations, 0.0), mask=mask_c)


@triton.jit
def merge_kernel(
    partial_ptr, first_ptr, second_ptr, S, groups, width, R, rows_per_partial, count, eps,
    stride_which, stride_b, stride_s, stride_c, partials_per_program, splits,
    MOMENTS: tl.constexpr, LAST: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Add up a group's partials: to mean and 1 / deviation if LAST, else to sum and square sum."""
    pid = tl.program_id(0).to(tl.int64)
    pid_s = pid % splits
    pid_group = pid // splits
    pid_b = pid_group // groups
    pid_g = pid_group % groups
    offs_c = tl.arange(0, BLOCK_C).to(tl.int64)
    base = partial_ptr + pid_b * stride_b + (pid_g * width + offs_c)[None, :] * stride_c
    first = pid_s * partials_per_program
    last = tl.minimum(first + partials_per_program, S)
    b_sum = tl.zeros([BLOCK_S, BLOCK_C], dtype=tl.float64)
    b_square = tl.zeros([BLOCK_S, BLOCK_C], dtype=tl.float64)
    for start in range(0, partials_per_program, BLOCK_S):
        offs_s = first + start + tl.arange(0, BLOCK_S)
        mask = (offs_s < last)[:, None] & (offs_c < width)[None, :]
        at = offs_s[:, None] * stride_s
        b_first = tl.load(base + at, mask=mask, other=0.0).to(tl.float64)
        b_second = tl.load(base + stride_which + at, mask=mask, other=0.0).to(tl.float64)
        if MOMENTS:
            num_rows = tl.minimum(R - offs_s * rows_per_partial, rows_per_partial)
            b_second += b_first * b_first * num_rows.to(tl.float64)[:, None]
            b_first *= num_rows.to(tl.float64)[:, None]
        b_sum += b_first
        b_square += b_second
    b_total = tl.sum(tl.sum(b_sum, axis=1), axis=0)
    b_total_square = tl.sum(tl.sum(b_square, axis=1), axis=0)
    if LAST:
        b_mean = b_total / count
        b_variance = tl.maximum(b_total_square / count - b_mean * b_mean, 0.0)
        tl.store(first_ptr + pid_group, b_mean.to(tl.float32))
        tl.store(second_ptr + pid_group, (1.0 / tl.sqrt(b_variance + eps)).to(tl.float32))
    else:
        at_out = (pid_b * splits + pid_s) * groups + pid_g
        tl.store(first_ptr + at_out, b_total)
        tl.store(second_ptr + at_out, b_total_square)


@triton.jit
def load_parameters(mean_ptr, rstd_ptr, weight_ptr, bias_ptr, pid_b, offs_c, mask_c, groups, width):
    """Mean, 1 / deviation, weight and bias of a block of channels: fp32 [1, BLOCK_C] each."""
    at = pid_b * groups + offs_c // width
    b_mean = tl.load(mean_ptr + at, mask=mask_c, other=0.0)
    b_rstd = tl.load(rstd_ptr + at, mask=mask_c, other=0.0)
    b_weight = tl.load(weight_ptr + offs_c, mask=mask_c, other=0.0).to(tl.float32)
    b_bias = tl.load(bias_ptr + offs_c, mask=mask_c, other=0.0).to(tl.float32)
    return b_mean[None, :], b_rstd[None, :], b_weight[None, :], b_bias[None, :]


def statistics(x: torch.Tensor, num_groups: int, eps: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return each group's mean and 1 / deviation, fp32 [B, G] both.

    Args:
        x: [B, C, ...], not empty; dense or channels-last, else a copy is read.
        num_groups: divides C.
        eps: added to the variance.
    """
    x = x.contiguous(memory_format=layout_of(x))
    problem = statistics_problem(x, num_groups)
    config = pick_statistics(problem, multiprocessors(x.device))
    partial = new_partial(x, problem, config)
    plan_moments(x, problem, partial, config).run()
    rows_per_partial = config.tiles_per_program * config.block_r
    return _merged(
        partial, num_groups, x[0].numel() // num_groups, eps, problem.rows, rows_per_partial
    )


def merge_partials(
    partial: torch.Tensor, num_groups: int, count: int, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Turn sums that the kernel before left behind into each group's mean and 1 / deviation.

    The error of the variance is that of the partial sums of squares: each good to a few fp32
    roundings of itself, so the sums should be short (256 rows) and the mean no great multiple of
    the deviation.

    Args:
        partial: fp32 [2, B, S, C], any strides: S sums of each channel over disjoint sets of
            positions that are all positions together, and S sums of squares.
        num_groups: divides C.
        count: values in a group: positions times channels per group.
        eps: added to the variance.

    Returns:
        fp32 [B, G] both.
    """
    return _merged(partial, num_groups, count, eps, None, 1)


def _merged(
    partial: torch.Tensor, num_groups: int, count: int, eps: float,
    rows: int | None, rows_per_partial: int,
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    _, batch, splits, columns = partial.shape
    stages = merge_splits(splits * (columns // num_groups))
    if stages > 1:
        sums = partial.new_empty((2, batch, stages, num_groups), dtype=torch.float64)
        plan_merge(partial, sums[0], sums[1], count, eps, rows, rows_per_partial).run()
        partial, rows = sums, None
    mean = partial.new_empty((batch, num_groups), dtype=torch.float32)
    rstd = torch.empty_like(mean)
    plan_merge(partial, mean, rstd, count, eps, rows, rows_per_partial).run()
    return mean, rstd


def statistics_problem(x: torch.Tensor, num_groups: int) -> Problem:
    """How the statistics see a dense or channels-last x."""
    batch, channels = x.shape[:2]
    if layout_of(x) is torch.channels_last_3d:
        rows = x[0, 0].numel()
        return Problem(batch=batch, rows=rows, columns=channels, along_columns=True)
    rows = x[0].numel() // num_groups
    return Problem(batch=batch, rows=rows, columns=num_groups, along_columns=False)


def new_partial(x: torch.Tensor, problem: Problem, config: Config) -> torch.Tensor:
    """The buffer between the two stages: [2, B, programs_per_item, columns] fp32."""
    shape = (2, problem.batch, config.programs_per_item, problem.columns)
    return torch.empty(shape, dtype=torch.float32, device=x.device)


def plan_moments(
    x: torch.Tensor, problem: Problem, partial: torch.Tensor, config: Config
) -> Launch:
    """Plan the partial moments of a dense or channels-last x: see ``new_partial``."""
    columns = problem.columns
    return Launch(
        kernel=moments_kernel,
        grid=(problem.batch * config.programs_per_item * config.column_blocks,),
        arguments={
            "x_ptr": x,
            "partial_ptr": partial,
            "R": problem.rows,
            "C": columns,
            "stride_b": problem.rows * columns,
            "stride_r": columns if problem.along_columns else 1,
            "stride_c": 1 if problem.along_columns else problem.rows,
            "stride_which": partial.stride(0),
            "column_blocks": config.column_blocks,
            "programs_per_item": config.programs_per_item,
            "tiles_per_program": config.tiles_per_program,
        },
        constants={"BLOCK_R": config.block_r, "BLOCK_C": config.block_c},
        num_warps=config.num_warps,
    )


def plan_merge(
    partial: torch.Tensor, first: torch.Tensor, second: torch.Tensor, count: int, eps: float,
    rows: int | None, rows_per_partial: int,
) -> Launch:  # fmt: skip
    """Plan a stage of the merge of partial [2, B, S, C].

    With ``first`` and ``second`` fp32 [B, G], the last: to mean and 1 / deviation. With fp64
    [B, splits, G], a stage before it: to sums and sums of squares. ``rows`` says that ``partial``
    holds means and squared deviations, each of ``rows_per_partial`` rows (the last of fewer); else
    it holds sums and sums of squares.
    """
    _, batch, num_partials, columns = partial.shape
    num_groups = first.shape[-1]
    last = first.dim() == 2
    splits = 1 if last else first.shape[1]
    block_c = next_power_of_two(columns // num_groups)
    return Launch(
        kernel=merge_kernel,
        grid=(batch * num_groups * splits,),
        arguments={
            "partial_ptr": partial,
            "first_ptr": first,
            "second_ptr": second,
            "S": num_partials,
            "groups": num_groups,
            "width": columns // num_groups,
            "R": rows or 0,
            "rows_per_partial": rows_per_partial,
            "count": count,
            "eps": eps,
            "stride_which": partial.stride(0),
            "stride_b": partial.stride(1),
            "stride_s": partial.stride(2),
            "stride_c": partial.stride(3),
            "partials_per_program": cdiv(num_partials, splits),
            "splits": splits,
        },
        constants={
            "MOMENTS": rows is not None,
            "LAST": last,
            "BLOCK_S": max(1, 512 // block_c),
            "BLOCK_C": block_c,
        },
        num_warps=4,
    )
