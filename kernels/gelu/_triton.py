"""Triton kernels of gelu: y = x * sigmoid(2 u), u = sqrt(2 / pi) (x + 0.044715 x^3).

That is the tanh form, x / 2 * (1 + tanh u), without the cancellation for very negative x.
Layout: matrices [rows, width] of any strides (see ``launch.as_rows``); outputs keep the layout of
the op's contract.
Parallel: one program per tile.
Bytes: the forward reads x and writes y; the backward reads dy and x and writes dx. All in fp32.

    dx = dy * (s + x * s * (1 - s) * 2 u'),  s = sigmoid(2 u),  u' = sqrt(2/pi) (1 + 0.134145 x^2).
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ..common.launch import Launch, strides
from ..contract import layout_of
from .launch import Config, Problem, as_rows, in_layout, num_tiles, pick


@triton.jit
def minus_2u(b_x):
    # 2 sqrt(2 / pi) = 1.5957691216057308
    return -1.5957691216057308 * (b_x + 0.044715 * b_x * b_x * b_x)


@triton.jit
def gelu_tanh(b_x):
    """The activation of fp32 values. For very negative x exp is infinite and the result zero."""
    return b_x / (1.0 + tl.exp(minus_2u(b_x)))


@triton.jit
def gelu_tanh_slope(b_x):
    """The derivative of the activation at fp32 values.

    1 - s is taken as s * exp(-2u), which cancels nothing. Beyond 9.5 the derivative is 0 or 1 up to
    1e-30, and the exponential would come to overflow.
    """
    b_exp = tl.exp(minus_2u(b_x))
    b_s = 1.0 / (1.0 + b_exp)
    b_inner = 1.5957691216057308 * (1.0 + 0.134145 * b_x * b_x)
    b_slope = b_s + b_x * b_s * (b_exp * b_s) * b_inner
    b_slope = tl.where(b_x > 9.5, 1.0, b_slope)
    return tl.where(b_x < -9.5, 0.0, b_slope)


@triton.jit
def forward_kernel(
    x_ptr, y_ptr, rows, width,
    x_stride_r, x_stride_w, y_stride_r, y_stride_w,
    BLOCK_R: tl.constexpr, BLOCK_W: tl.constexpr,
):  # fmt: skip
    pid = tl.program_id(0).to(tl.int64)
    column_tiles = tl.cdiv(width, BLOCK_W)
    offs_r = pid // column_tiles * BLOCK_R + tl.arange(0, BLOCK_R)
    offs_w = pid % column_tiles * BLOCK_W + tl.arange(0, BLOCK_W)
    mask = (offs_r < rows)[:, None] & (offs_w < width)[None, :]
    at_x = offs_r[:, None] * x_stride_r + offs_w[None, :] * x_stride_w
    b_x = tl.load(x_ptr + at_x, mask=mask, other=0.0).to(tl.float32)
    at_y = offs_r[:, None] * y_stride_r + offs_w[None, :] * y_stride_w
    tl.store(y_ptr + at_y, gelu_tanh(b_x).to(y_ptr.dtype.element_ty), mask=mask)


@triton.jit
def backward_kernel(
    dy_ptr, x_ptr, dx_ptr, rows, width,
    dy_stride_r, dy_stride_w, x_stride_r, x_stride_w, dx_stride_r, dx_stride_w,
    BLOCK_R: tl.constexpr, BLOCK_W: tl.constexpr,
):  # fmt: skip
    pid = tl.program_id(0).to(tl.int64)
    column_tiles = tl.cdiv(width, BLOCK_W)
    offs_r = pid // column_tiles * BLOCK_R + tl.arange(0, BLOCK_R)
    offs_w = pid % column_tiles * BLOCK_W + tl.arange(0, BLOCK_W)
    mask = (offs_r < rows)[:, None] & (offs_w < width)[None, :]
    at_x = offs_r[:, None] * x_stride_r + offs_w[None, :] * x_stride_w
    at_dy = offs_r[:, None] * dy_stride_r + offs_w[None, :] * dy_stride_w
    b_x = tl.load(x_ptr + at_x, mask=mask, other=0.0).to(tl.float32)
    b_dy = tl.load(dy_ptr + at_dy, mask=mask, other=0.0).to(tl.float32)
    at_dx = offs_r[:, None] * dx_stride_r + offs_w[None, :] * dx_stride_w
    b_dx = b_dy * gelu_tanh_slope(b_x)
    tl.store(dx_ptr + at_dx, b_dx.to(dx_ptr.dtype.element_ty), mask=mask)


def forward(x: torch.Tensor) -> torch.Tensor:
    """Run the forward as the op's schema has it."""
    layout = layout_of(x)
    y = torch.empty_like(x, memory_format=layout)
    whole = in_layout(layout, x)
    plan_forward(*(as_rows(t, layout, whole=whole) for t in (x, y))).run()
    return y


def backward(grad: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Run the backward as the op's schema has it: the gradient of x."""
    layout = layout_of(x)
    dx = torch.empty_like(x, memory_format=layout)
    whole = in_layout(layout, grad, x)
    plan_backward(*(as_rows(t, layout, whole=whole) for t in (grad, x, dx))).run()
    return dx


def plan_forward(x: torch.Tensor, y: torch.Tensor) -> Launch:
    """Plan y = gelu(x), both [rows, width]."""
    arguments = {"x_ptr": x, "y_ptr": y}
    return _launch(forward_kernel, arguments | strides("x", x, "rw") | strides("y", y, "rw"), x)


def plan_backward(grad: torch.Tensor, x: torch.Tensor, dx: torch.Tensor) -> Launch:
    """Plan dx, the gradient of x, all [rows, width]."""
    arguments = {"dy_ptr": grad, "x_ptr": x, "dx_ptr": dx}
    arguments |= strides("dy", grad, "rw") | strides("x", x, "rw") | strides("dx", dx, "rw")
    return _launch(backward_kernel, arguments, x)


def _launch(kernel, arguments, x: torch.Tensor) -> Launch:
    problem = Problem(rows=x.shape[0], width=x.shape[1])
    config: Config = pick(problem)
    return Launch(
        kernel=kernel,
        grid=(num_tiles(problem, config),),
        arguments=arguments | {"rows": problem.rows, "width": problem.width},
        constants={"BLOCK_R": config.block_r, "BLOCK_W": config.block_w},
        num_warps=config.num_warps,
    )
