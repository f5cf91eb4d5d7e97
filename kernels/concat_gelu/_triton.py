"""Triton kernel of concat_gelu: y = [a, gelu(x)], written once.

Layout: a and x matrices [rows, A] and [rows, X] of any strides, so that x may be columns of the
product that made it; y contiguous [rows, A + X], what the next product reads.
Parallel: one program per tile of rows and columns; its columns are all copied or all activated.
Bytes: reads a and x once, writes y once. The backward is gelu's, on the part of dy that is x's.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ..common.launch import Launch, cdiv, strides
from ..gelu import _triton as gelu
from ..gelu._triton import gelu_tanh
from ..gelu.launch import as_rows, in_layout
from .launch import Problem, pick
from .reference import part_of_x


@triton.jit
def forward_kernel(
    a_ptr, x_ptr, y_ptr, rows, first, second, first_tiles, column_tiles,
    a_stride_r, a_stride_w, x_stride_r, x_stride_w,
    BLOCK_R: tl.constexpr, BLOCK_W: tl.constexpr,
):  # fmt: skip
    pid = tl.program_id(0).to(tl.int64)
    offs_r = pid // column_tiles * BLOCK_R + tl.arange(0, BLOCK_R)
    tile = pid % column_tiles
    mask_r = (offs_r < rows)[:, None]
    at_y = offs_r[:, None] * (first + second)
    if tile < first_tiles:
        offs_w = tile * BLOCK_W + tl.arange(0, BLOCK_W)
        mask = mask_r & (offs_w < first)[None, :]
        at_a = offs_r[:, None] * a_stride_r + offs_w[None, :] * a_stride_w
        tl.store(y_ptr + at_y + offs_w[None, :], tl.load(a_ptr + at_a, mask=mask), mask=mask)
    else:
        offs_w = (tile - first_tiles) * BLOCK_W + tl.arange(0, BLOCK_W)
        mask = mask_r & (offs_w < second)[None, :]
        at_x = offs_r[:, None] * x_stride_r + offs_w[None, :] * x_stride_w
        b_y = gelu_tanh(tl.load(x_ptr + at_x, mask=mask, other=0.0).to(tl.float32))
        b_y = b_y.to(y_ptr.dtype.element_ty)
        tl.store(y_ptr + at_y + first + offs_w[None, :], b_y, mask=mask)


def forward(a: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Run the forward as the op's schema has it."""
    y = torch.empty((*a.shape[:-1], a.shape[-1] + x.shape[-1]), dtype=a.dtype, device=a.device)
    if y.numel():
        layout = torch.contiguous_format
        plan_forward(*(as_rows(t, layout, whole=False) for t in (a, x, y))).run()
    return y


def backward(grad: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Run the backward as the op's schema has it: the gradient of x."""
    layout = torch.contiguous_format
    dx = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    grad = part_of_x(grad, x)
    whole = in_layout(layout, grad, x)
    gelu.plan_backward(*(as_rows(t, layout, whole=whole) for t in (grad, x, dx))).run()
    return dx


def plan_forward(a: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> Launch:
    """Plan y = [a, gelu(x)]: a [rows, A], x [rows, X], y [rows, A + X] and contiguous."""
    problem = Problem(rows=y.shape[0], first=a.shape[1], second=x.shape[1])
    config = pick(problem)
    column_tiles = config.first_tiles + config.second_tiles
    arguments = {
        "a_ptr": a, "x_ptr": x, "y_ptr": y,
        "rows": problem.rows, "first": problem.first, "second": problem.second,
        "first_tiles": config.first_tiles, "column_tiles": column_tiles,
    }  # fmt: skip
    return Launch(
        kernel=forward_kernel,
        grid=(cdiv(problem.rows, config.block_r) * column_tiles,),
        arguments=arguments | strides("a", a, "rw") | strides("x", x, "rw"),
        constants={"BLOCK_R": config.block_r, "BLOCK_W": config.block_w},
        num_warps=config.num_warps,
    )
