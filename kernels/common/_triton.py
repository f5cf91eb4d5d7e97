"""Row statistics and the second stage of column sums, for kernels that walk over rows.

Column sums over many rows (gradients of scales and shifts) go in two stages: each program adds its
rows in order and writes one partial row; ``sum_partials_kernel`` adds the partial rows in order.
No atomics: equal inputs on equal devices give equal bits.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from .launch import Launch, cdiv


@triton.jit
def reciprocal_root(b_mean_square, eps):
    # One value per row, so correctly rounded root and division cost nothing against the row itself.
    return tl.div_rn(1.0, tl.sqrt_rn(b_mean_square + eps))


@triton.jit
def layer_statistics(b_x, mask, width, eps):
    """Of rows that are zero where masked: the rows minus their mean (again so), and 1 / deviation.

    The variance is a second pass over registers: E[x^2] - E[x]^2 would cancel. The divisions by the
    width are good to 2 ulp, less than the error of the sums.
    """
    b_mean = tl.sum(b_x, axis=1) / width
    b_centred = tl.where(mask, b_x - b_mean[:, None], 0.0)
    b_variance = tl.sum(b_centred * b_centred, axis=1) / width
    return b_centred, reciprocal_root(b_variance, eps)


@triton.jit
def sum_partials_kernel(
    partial_ptr, first_ptr, second_ptr, S, C,
    stride_which, stride_g,
    BLOCK_S: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """out[g, c] = sum over s of partial[which, g, s, c]; the grid's axis 2 chooses the output."""
    pid_c = tl.program_id(0).to(tl.int64)
    pid_g = tl.program_id(1).to(tl.int64)
    pid_which = tl.program_id(2).to(tl.int64)
    offs_c = pid_c * BLOCK_C + tl.arange(0, BLOCK_C)
    mask_c = offs_c < C
    base = partial_ptr + pid_which * stride_which + pid_g * stride_g
    b_sum = tl.zeros([BLOCK_S, BLOCK_C], dtype=tl.float32)
    for start in range(0, S, BLOCK_S):
        offs_s = start + tl.arange(0, BLOCK_S).to(tl.int64)
        mask = (offs_s < S)[:, None] & mask_c[None, :]
        b_sum += tl.load(base + offs_s[:, None] * C + offs_c[None, :], mask=mask, other=0.0)
    b_out = tl.sum(b_sum, axis=0)
    at = pid_g * C + offs_c
    if pid_which == 0:
        tl.store(first_ptr + at, b_out.to(first_ptr.dtype.element_ty), mask=mask_c)
    else:
        tl.store(second_ptr + at, b_out.to(second_ptr.dtype.element_ty), mask=mask_c)


def plan_sum_partials(
    partial: torch.Tensor, first: torch.Tensor, second: torch.Tensor | None = None
) -> Launch:
    """Plan first[g, c] = sum_s partial[0, g, s, c] and, if given, second likewise from partial[1].

    partial: fp32 [1 or 2, G, S, C], contiguous; first, second: [G, C], contiguous, any float dtype.
    """
    sums, groups, splits, columns = partial.shape
    block_s, block_c = 16, 64
    return Launch(
        kernel=sum_partials_kernel,
        grid=(cdiv(columns, block_c), groups, sums),
        arguments={
            "partial_ptr": partial,
            "first_ptr": first,
            "second_ptr": first if second is None else second,
            "S": splits,
            "C": columns,
            "stride_which": partial.stride(0),
            "stride_g": partial.stride(1),
        },
        constants={"BLOCK_S": block_s, "BLOCK_C": block_c},
        num_warps=4,
    )
