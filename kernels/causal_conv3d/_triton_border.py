"""Triton kernel that copies a video of any layout, activated or not, channels-last with a border.

Parallel: one program per run of pixels of a bordered row and block of channels.
Bytes: reads x and writes the bordered video, once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import triton
import triton.language as tl
from torch import Tensor

from ..common.launch import Launch, cdiv, next_power_of_two, strides

# Sizes change from video to video; the kernel is the same for all of them.
_SIZES = ("T", "H", "W", "plane_h", "plane_w", "top", "left")
# Of bordered video at a time. The untiled decode of 129 frames of 768 x 768 would else hold 20 GB
# of it beside its input, output and residual of as much each.
MAX_PLANE_BYTES = 4 << 30


@triton.jit
def silu(b_x):
    """Return x * sigmoid(x), in fp32; 0 of 0, so that padding stays what it is."""
    return b_x / (1.0 + tl.exp(-b_x))


@triton.jit(do_not_specialize=_SIZES)
def border_kernel(
    x_ptr, plane_ptr, T, H, W, plane_h, plane_w, C, top, left,
    x_stride_b, x_stride_t, x_stride_h, x_stride_w, x_stride_c,
    ZEROS: tl.constexpr, SILU: tl.constexpr, BLOCK_W: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """plane[b, t, h, w, c] = x[b, t, clamp(h - top), clamp(w - left), c], or zero outside x.

    With SILU x * sigmoid(x) in place of x, rounded to its dtype.
    """
    pid = tl.program_id(0)
    offs_c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    num_blocks = tl.cdiv(plane_w, BLOCK_W)
    offs_w = pid % num_blocks * BLOCK_W + tl.arange(0, BLOCK_W)
    row = (pid // num_blocks).to(tl.int64)
    pid_f = row // plane_h
    at_h = row % plane_h - top
    at_w = offs_w.to(tl.int64) - left
    mask = (offs_w < plane_w)[:, None] & (offs_c < C)[None, :]
    inside = mask
    if ZEROS:
        at_w = tl.where((at_h >= 0) & (at_h < H), at_w, -1)
        inside = inside & ((at_w >= 0) & (at_w < W))[:, None]
    at_h = tl.minimum(tl.maximum(at_h, 0), H - 1)
    at_w = tl.minimum(tl.maximum(at_w, 0), W - 1)
    x_ptr += pid_f // T * x_stride_b + pid_f % T * x_stride_t + at_h * x_stride_h
    at_x = at_w[:, None] * x_stride_w + offs_c.to(tl.int64)[None, :] * x_stride_c
    b_x = tl.load(x_ptr + at_x, mask=inside, other=0.0)
    if SILU:
        b_x = silu(b_x.to(tl.float32)).to(plane_ptr.dtype.element_ty)
    tl.store(plane_ptr + row * plane_w * C + offs_w[:, None] * C + offs_c[None, :], b_x, mask=mask)


def plan_border(
    x: Tensor, plane: Tensor, border: Sequence[tuple[int, int]], zeros: bool, silu: bool = False
) -> Launch:
    """Plan the copy of x [B, T, H, W, C], any strides, into the middle of ``plane``."""
    batch, frames, height, width, channels = x.shape
    block_c = min(next_power_of_two(channels), 128)
    block_w = 4096 // block_c
    rows, columns = plane.shape[2:4]
    arguments = {
        "x_ptr": x, "plane_ptr": plane, "T": frames, "H": height, "W": width,
        "plane_h": rows, "plane_w": columns, "C": channels,
        "top": border[1][0], "left": border[2][0],
    }  # fmt: skip
    return Launch(
        kernel=border_kernel,
        grid=(batch * frames * rows * cdiv(columns, block_w), cdiv(channels, block_c)),
        arguments=arguments | strides("x", x, "bthwc"),
        constants={"ZEROS": zeros, "SILU": silu, "BLOCK_W": block_w, "BLOCK_C": block_c},
        num_warps=4,
    )


def with_border(
    video: Tensor, border: Sequence[tuple[int, int]], zeros: bool, silu: bool = False
) -> Tensor:
    """Return video [B, T, H, W, C], any strides, with rows and columns repeated or zero around.

    With ``silu`` it is activated in the same pass.
    """
    batch, frames, height, width, channels = video.shape
    rows, columns = height + sum(border[1]), width + sum(border[2])
    plane = video.new_empty((batch, frames, rows, columns, channels))
    plan_border(video, plane, border, zeros, silu).run()
    return plane


def runs(batch: int, num_frames: int, frame_bytes: int) -> Iterator[tuple[slice, slice]]:
    """Batch items and frames whose video is of a bearable size: all, or runs of one item."""
    step = max(1, MAX_PLANE_BYTES // frame_bytes)
    if batch * num_frames <= step:
        yield slice(0, batch), slice(0, num_frames)
        return
    for item in range(batch):
        for first in range(0, num_frames, step):
            yield slice(item, item + 1), slice(first, min(first + step, num_frames))
