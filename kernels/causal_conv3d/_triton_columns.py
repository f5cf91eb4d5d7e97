"""Triton kernel that ends a convolution to few channels: taps in time and width are columns of z.

    z[f, h, w, (j, k), o] = sum over taps i in height, channels c of weight[o, c, j, i, k] * x
    y[t, h, w, o] = bias + residual + sum over j, k of z[max(t + j - front, 0), h, w + k, (j, k), o]

or, between zeros, over those frames t + j - front only that are there.

The first is a convolution with a kernel of kH x 1 to kT * kW * O channels: x is read kH times
instead of kT * kH * kW times, and a matrix product is not mostly padding.
Layout: x as for the plane form; z [frames, H, W + kW - 1, columns] fp32, dense, columns padded with
zeros to a power of two; y [B, T, H, W, O] dense.
Parallel: one program per run of pixels of a row. z is made for some frames at a time, which bounds
its memory.
Bytes: z is written and read once in fp32; nothing else but the residual and y.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..common.launch import Launch, cdiv, next_power_of_two

MAX_BYTES = 2**31  # of z
# Sizes change from video to video; the kernel is the same for all of them.
_SIZES = ("first_z", "end_z", "first_t", "H", "W", "plane_w", "front")


@triton.jit(do_not_specialize=_SIZES)
def sum_columns_kernel(
    z_ptr, y_ptr, bias_ptr, residual_ptr, first_z, end_z, first_t, H, W, plane_w, front,
    O: tl.constexpr, COLUMNS: tl.constexpr, KT: tl.constexpr, KW: tl.constexpr,
    ZEROS: tl.constexpr, BLOCK_W: tl.constexpr, BLOCK_O: tl.constexpr,
):  # fmt: skip
    """Frames [first_z, end_z) of x are those of z, and the grid begins at frame first_t of y."""
    pid = tl.program_id(0)
    num_blocks = tl.cdiv(W, BLOCK_W)
    offs_w = pid % num_blocks * BLOCK_W + tl.arange(0, BLOCK_W)
    offs_o = tl.arange(0, BLOCK_O)
    row = pid // num_blocks
    t = first_t + row // H
    mask_o = offs_o < O
    b_y = tl.zeros([BLOCK_W, BLOCK_O], dtype=tl.float32)
    at_z = offs_w[:, None] * COLUMNS + offs_o[None, :]
    for tap_t in tl.static_range(KT):
        frame = t + tap_t - front
        z_row = (tl.maximum(frame, 0) - first_z).to(tl.int64) * H + row % H
        z_tap = z_ptr + z_row * plane_w * COLUMNS
        end = W
        if ZEROS:
            end = tl.where((frame >= 0) & (frame < end_z), W, 0)
        mask = (offs_w < end)[:, None] & mask_o[None, :]
        for tap_w in tl.static_range(KW):
            z_column = z_tap + (tap_w * COLUMNS + (tap_t * KW + tap_w) * O)
            b_y += tl.load(z_column + at_z, mask=mask, other=0.0)
    if bias_ptr is not None:
        b_y += tl.load(bias_ptr + offs_o, mask=mask_o, other=0.0).to(tl.float32)[None, :]
    at_y = (t.to(tl.int64) * H + row % H) * W * O + offs_w[:, None] * O + offs_o[None, :]
    mask = (offs_w < W)[:, None] & mask_o[None, :]
    if residual_ptr is not None:
        b_y += tl.load(residual_ptr + at_y, mask=mask, other=0.0).to(tl.float32)
    tl.store(y_ptr + at_y, b_y.to(y_ptr.dtype.element_ty), mask=mask)


def columns_weight(weight: Tensor) -> Tensor:
    """The weight [columns, C, 1, kH, 1] of z, zero for the columns that are padding."""
    out_channels, channels, depth, height, width = weight.shape
    columns = depth * width * out_channels
    taps = weight.detach().permute(2, 4, 0, 1, 3).reshape(columns, channels, 1, height, 1)
    padded = taps.new_zeros((next_power_of_two(columns), *taps.shape[1:]))
    padded[:columns] = taps
    return padded


def frames_at_once(plane: Tensor, height: int, columns: int, front: int) -> int:
    """Output frames whose z, with the frames in front, stays within `MAX_BYTES`."""
    frame_bytes = height * plane.shape[3] * columns * 4
    return max(1, MAX_BYTES // frame_bytes - front)


def plan_sum_columns(
    z: Tensor, bias: Tensor | None, residual: Tensor | None, y: Tensor,
    kernel: Sequence[int], frames: tuple[int, int], first_z: int, front: int, zeros: bool,
) -> Launch:  # fmt: skip
    """Plan frames [first, last) of y [T, H, W, O] from z [frames, H, plane_w, columns]."""
    _, height, width, out_channels = y.shape
    arguments = {
        "z_ptr": z, "y_ptr": y,
        "first_z": first_z, "end_z": first_z + z.shape[0], "first_t": frames[0],
        "H": height, "W": width, "plane_w": z.shape[2], "front": front,
        "bias_ptr": bias, "residual_ptr": residual,
    }  # fmt: skip
    absent = {name: None for name, value in arguments.items() if value is None}
    block_w = 128
    return Launch(
        kernel=sum_columns_kernel,
        grid=((frames[1] - frames[0]) * height * cdiv(width, block_w),),
        arguments={name: value for name, value in arguments.items() if value is not None},
        constants={
            "O": out_channels,
            "COLUMNS": z.shape[3],
            "KT": kernel[0],
            "KW": kernel[2],
            "ZEROS": zeros,
            "BLOCK_W": block_w,
            "BLOCK_O": next_power_of_two(out_channels),
        }
        | absent,
        num_warps=4,
    )


def new_z(plane: Tensor, frames: int, height: int, columns: int) -> Tensor:
    """The columns of some frames."""
    return plane.new_empty((1, frames, height, plane.shape[3], columns), dtype=torch.float32)
