"""Triton kernels of nearest_upsample3d: y[t, h, w] = x[ceil(t / sT), h // sH, w // sW].

Layout: x [B, C, T, H, W] of any strides; y channels-last-3d where x is, else contiguous.
Parallel: one program per tile of one plane (see ``launch.Problem``) of the smaller video. It reads
each pixel of x once (sW lanes ask for the same one where they are neighbours in y) and writes all
its copies; the backward reads all copies of dy and writes their sum, added in fp32 in one order.
Bytes: the smaller video once, the larger video once.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl

from ..common.launch import Launch
from ..contract import layout_of
from .launch import Config, Problem, pick, problem_of, strides_of


@triton.jit
def locate(
    planes_per_batch, T, rows, columns, width, row_tiles, column_tiles,
    BLOCK_R: tl.constexpr, BLOCK_W: tl.constexpr,
):  # fmt: skip
    """Batch item, channel (or 0) and frame of this program; rows and columns of its tile's rows."""
    pid = tl.program_id(0).to(tl.int64)
    tiles = row_tiles * column_tiles
    plane = pid // tiles
    pid_r = (pid % tiles // column_tiles).to(tl.int32)
    pid_w = pid % column_tiles
    offs_r = pid_r * BLOCK_R + tl.arange(0, BLOCK_R)
    offs_i = pid_w * BLOCK_W + tl.arange(0, BLOCK_W)
    mask = (offs_r < rows)[:, None] & (offs_i < width)[None, :]
    frame = plane % T
    item = plane // planes_per_batch
    channel = plane % planes_per_batch // T
    offs_h = (offs_r // columns).to(tl.int64)[:, None]
    offs_w = (offs_r % columns).to(tl.int64)[:, None]
    return item, channel, frame, offs_h, offs_w, offs_i[None, :], mask


@triton.jit
def forward_kernel(
    x_ptr, y_ptr, planes_per_batch, T, rows, columns, width, row_tiles, column_tiles,
    x_stride_b, x_stride_p, x_stride_t, x_stride_h, x_stride_w, x_stride_i,
    y_stride_b, y_stride_p, y_stride_t, y_stride_h, y_stride_w, y_stride_i,
    TIMES: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, WITHIN: tl.constexpr,
    BLOCK_R: tl.constexpr, BLOCK_W: tl.constexpr,
):  # fmt: skip
    """WITHIN: copies of a pixel that are neighbours in a row of y; COLUMNS: rows of y apart."""
    item, channel, frame, offs_h, offs_w, offs_i, mask = locate(
        planes_per_batch, T, rows, columns, width * WITHIN, row_tiles, column_tiles,
        BLOCK_R, BLOCK_W,
    )  # fmt: skip
    x_ptr += item * x_stride_b + channel * x_stride_p + frame * x_stride_t
    at_x = offs_h * x_stride_h + offs_w * x_stride_w + offs_i // WITHIN * x_stride_i
    b_x = tl.load(x_ptr + at_x, mask=mask, other=0.0)
    y_ptr += item * y_stride_b + channel * y_stride_p
    first = tl.where(frame == 0, 0, 1 + TIMES * (frame - 1))
    num_frames = tl.where(frame == 0, 1, TIMES)
    for time in range(0, num_frames):
        for row in range(0, ROWS):
            for column in range(0, COLUMNS):
                at_h = (offs_h * ROWS + row) * y_stride_h
                at_w = (offs_w * COLUMNS + column) * y_stride_w
                at_y = (first + time) * y_stride_t + at_h + at_w + offs_i * y_stride_i
                tl.store(y_ptr + at_y, b_x, mask=mask)


@triton.jit
def backward_kernel(
    dy_ptr, dx_ptr, planes_per_batch, T, rows, columns, width, row_tiles, column_tiles,
    dy_stride_b, dy_stride_p, dy_stride_t, dy_stride_h, dy_stride_w, dy_stride_i,
    dx_stride_b, dx_stride_p, dx_stride_t, dx_stride_h, dx_stride_w, dx_stride_i,
    TIMES: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, WITHIN: tl.constexpr,
    BLOCK_R: tl.constexpr, BLOCK_W: tl.constexpr,
):  # fmt: skip
    """One of WITHIN and COLUMNS is 1: see forward_kernel."""
    item, channel, frame, offs_h, offs_w, offs_i, mask = locate(
        planes_per_batch, T, rows, columns, width, row_tiles, column_tiles, BLOCK_R, BLOCK_W
    )
    dy_ptr += item * dy_stride_b + channel * dy_stride_p
    first = tl.where(frame == 0, 0, 1 + TIMES * (frame - 1))
    num_frames = tl.where(frame == 0, 1, TIMES)
    b_dx = tl.zeros([BLOCK_R, BLOCK_W], dtype=tl.float32)
    for time in range(0, num_frames):
        for row in range(0, ROWS):
            for column in range(0, COLUMNS * WITHIN):
                at_h = (offs_h * ROWS + row) * dy_stride_h
                if WITHIN > 1:
                    at_i = (offs_i * WITHIN + column) * dy_stride_i
                else:
                    at_i = (offs_w * COLUMNS + column) * dy_stride_w + offs_i * dy_stride_i
                at_dy = (first + time) * dy_stride_t + at_h + at_i
                b_dx += tl.load(dy_ptr + at_dy, mask=mask, other=0.0).to(tl.float32)
    dx_ptr += item * dx_stride_b + channel * dx_stride_p + frame * dx_stride_t
    at_dx = offs_h * dx_stride_h + offs_w * dx_stride_w + offs_i * dx_stride_i
    tl.store(dx_ptr + at_dx, b_dx.to(dx_ptr.dtype.element_ty), mask=mask)


def forward(x: torch.Tensor, scale: Sequence[int]) -> torch.Tensor:
    """Run the forward as the op's schema has it."""
    batch, channels, frames, height, width = x.shape
    shape = (batch, channels, 1 + scale[0] * (frames - 1), scale[1] * height, scale[2] * width)
    y = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=layout_of(x))
    plan_forward(x, y, scale).run()
    return y


def backward(grad: torch.Tensor, scale: Sequence[int]) -> torch.Tensor:
    """Run the backward as the op's schema has it: the gradient of x."""
    batch, channels, frames, height, width = grad.shape
    shape = (
        batch, channels, 1 + (frames - 1) // scale[0], height // scale[1], width // scale[2]
    )  # fmt: skip
    dx = torch.empty(shape, dtype=grad.dtype, device=grad.device, memory_format=layout_of(grad))
    plan_backward(grad, dx, scale).run()
    return dx


def plan_forward(x: torch.Tensor, y: torch.Tensor, scale: Sequence[int]) -> Launch:
    """Plan y, in the layout of the op's contract, from x."""
    layout = layout_of(x)
    arguments = {"x_ptr": x, "y_ptr": y} | _strides("x", x, layout) | _strides("y", y, layout)
    problem = problem_of(x, scale, layout)
    return _launch(forward_kernel, arguments, x, problem, pick(problem, backward=False))


def plan_backward(grad: torch.Tensor, dx: torch.Tensor, scale: Sequence[int]) -> Launch:
    """Plan dx, in the layout of the op's contract, from the gradient of y."""
    layout = layout_of(grad)
    arguments = {"dy_ptr": grad, "dx_ptr": dx}
    arguments |= _strides("dy", grad, layout) | _strides("dx", dx, layout)
    problem = problem_of(dx, scale, layout)
    return _launch(backward_kernel, arguments, dx, problem, pick(problem, backward=True))


def _strides(name: str, x: torch.Tensor, layout: torch.memory_format) -> dict[str, int]:
    return {f"{name}_stride_{axis}": step for axis, step in strides_of(x, layout).items()}


def _launch(kernel, arguments, small: torch.Tensor, problem: Problem, config: Config) -> Launch:
    times, rows, columns = problem.scale
    arguments |= {
        "planes_per_batch": problem.planes // max(1, small.shape[0]),
        "T": small.shape[2],
        "rows": problem.rows,
        "columns": small.shape[4] if problem.channels_last else 1,
        "width": problem.width,
        "row_tiles": config.row_tiles,
        "column_tiles": config.column_tiles,
    }
    return Launch(
        kernel=kernel,
        grid=(problem.planes * config.row_tiles * config.column_tiles,),
        arguments=arguments,
        constants={
            "TIMES": times,
            "ROWS": rows,
            "COLUMNS": columns if problem.channels_last else 1,
            "WITHIN": 1 if problem.channels_last else columns,
            "BLOCK_R": config.block_r,
            "BLOCK_W": config.block_w,
        },
        num_warps=config.num_warps,
    )
