"""Triton kernel of convolutions with stride 1, over videos whose border is written.

Layout: plane [B, T, H + kH - 1, W + kW - 1, C], y [B, T', H, W, O], dense; the packed weight of
`_triton_weights.py`. Rows run flat over a bordered frame, so that a tap is a constant shift of rows
and every load, at edges too, a dense box: the loop is that of a matrix product. Frames in front are
a clamped frame index; frames of zeros, in front and behind, are left out of the loop. Results at
border columns (kW - 1 in each row) are computed and dropped.
Parallel and bytes: see `_triton.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from ..common.launch import Launch, cdiv
from ._triton_tiles import finish_tile, place_of, plan_tiles
from .launch import Config

# Sizes change from video to video; the kernel is the same for all of them.
_SIZES = (
    "num_frames", "x_frames", "T", "H", "W", "plane_w", "plane_size", "num_rows", "front",
    "partial_stride",
)  # fmt: skip


@triton.jit(do_not_specialize=_SIZES)
def plane_kernel(
    x, w, y_ptr, bias_ptr, residual_ptr, partial_ptr,
    num_frames, x_frames, T, H, W, plane_w, plane_size, num_rows, front, partial_stride,
    C: tl.constexpr, O: tl.constexpr, PACKED_C: tl.constexpr, PACKED_O: tl.constexpr,
    KT: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr, ZEROS: tl.constexpr,
    DESCRIPTORS: tl.constexpr, SPLIT: tl.constexpr, FRAMES_TOGETHER: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """x: num_rows = B * x_frames * plane_size rows of C; y: [B, T, H, W, O]."""
    pid = tl.program_id(0)
    start_n = pid % (PACKED_O // BLOCK_N) * BLOCK_N
    pid_m = pid // (PACKED_O // BLOCK_N)
    num_tiles = tl.cdiv(H * plane_w, BLOCK_M)
    pid_f, tile = place_of(pid_m, num_tiles, num_frames, FRAMES_TOGETHER)
    start_m = tile * BLOCK_M
    first_frame = pid_f // T * x_frames
    frame = pid_f % T - front
    offs_m = tl.arange(0, BLOCK_M)
    offs_k = tl.arange(0, BLOCK_K)
    at_x = offs_m[:, None] * C + offs_k[None, :]
    at_w = offs_k[:, None] * PACKED_O + (start_n + tl.arange(0, BLOCK_N))[None, :]
    b_acc = tl.zeros([BLOCK_M, BLOCK_N], dtype=tl.float32)
    CHUNKS: tl.constexpr = PACKED_C // BLOCK_K
    # Tap in time, then chunk of channels, then taps in space: these share most of their lines.
    first_t = 0
    end_t = KT
    if ZEROS:
        first_t = tl.maximum(-frame, 0)
        end_t = tl.minimum(KT, x_frames - frame)
    for k in range(first_t * (CHUNKS * KH * KW), end_t * (CHUNKS * KH * KW)):
        tap_t = k // (CHUNKS * KH * KW)
        tap = k % (KH * KW)
        start_c = k // (KH * KW) % CHUNKS * BLOCK_K
        row = (first_frame + tl.maximum(frame + tap_t, 0)) * plane_size
        row += start_m + tap // KW * plane_w + tap % KW
        w_row = (tap_t * (KH * KW) + tap) * PACKED_C + start_c
        if DESCRIPTORS:
            b_x = x.load([row, start_c])
            b_w = w.load([w_row, start_n])
        else:
            mask = (row + offs_m < num_rows)[:, None]
            if C % BLOCK_K != 0:
                mask = mask & (start_c + offs_k < C)[None, :]
            b_x = tl.load(x + (row.to(tl.int64) * C + start_c) + at_x, mask=mask, other=0.0)
            b_w = tl.load(w + w_row * PACKED_O + at_w)
        b_acc = tl.dot(b_x, b_w, b_acc, input_precision="ieee")
    # Only the 64-bit index of the tile's first pixel and small distances to it are needed.
    first_h = start_m // plane_w
    first_w = start_m % plane_w
    at_h = (start_m + offs_m) // plane_w
    at_w = (start_m + offs_m) % plane_w
    mask_m = (at_h < H) & (at_w < W)
    at_m = (at_h - first_h) * W + at_w - first_w
    first_row = (pid_f.to(tl.int64) * H + first_h) * W + first_w
    if partial_ptr is not None:
        partial_ptr += (pid_f * num_tiles + tile).to(tl.int64) * O
    finish_tile(
        y_ptr, bias_ptr, residual_ptr, partial_ptr, b_acc, first_row, at_m, mask_m, start_n,
        partial_stride, O, BLOCK_M, BLOCK_N, SPLIT,
    )  # fmt: skip


def plan_plane(
    plane: Tensor, packed: Tensor, bias: Tensor | None, residual: Tensor | None, y: Tensor,
    kernel: Sequence[int], config: Config, *, front: int, zeros: bool = False,
    partial: Tensor | None = None,
) -> Launch:  # fmt: skip
    """Plan y [B, T, H, W, O] from its bordered video; ``partial``: see `new_partial`."""
    if tuple(kernel) == (1, 1, 1) and partial is None:
        # No border and no neighbours: one long row, without remainders at the end of each frame.
        plane, y = (v.view(1, 1, 1, -1, v.shape[-1]) for v in (plane, y))
    _, x_frames, rows, columns, channels = plane.shape
    batch, frames, height, width, _ = y.shape
    num_rows = plane.numel() // channels
    x: Tensor | TensorDescriptor = plane
    w: Tensor | TensorDescriptor = packed
    if config.descriptors:
        boxes = ([config.block_m, config.block_k], [config.block_k, config.block_n])
        x = TensorDescriptor.from_tensor(plane.view(num_rows, channels), boxes[0])
        w = TensorDescriptor.from_tensor(packed, boxes[1])
    arguments = {
        "x": x, "w": w, "y_ptr": y, "bias_ptr": bias, "residual_ptr": residual,
        "partial_ptr": partial,
        "num_frames": batch * frames, "x_frames": x_frames, "T": frames, "H": height, "W": width,
        "plane_w": columns, "plane_size": rows * columns, "num_rows": num_rows, "front": front,
        "partial_stride": 0 if partial is None else partial.stride(0),
    }  # fmt: skip
    tiles = batch * frames * cdiv(height * columns, config.block_m)
    launch = plan_tiles(plane_kernel, tiles, arguments, packed, kernel, channels, y, config, zeros)
    return replace(launch, constants=launch.constants | {"DESCRIPTORS": config.descriptors})


def new_partial(plane: Tensor, y: Tensor, config: Config) -> Tensor:
    """A row of sums, and one of sums of squares, per tile: [2, B, S, O] fp32."""
    batch, frames, height, _, out_channels = y.shape
    tiles = frames * cdiv(height * plane.shape[3], config.block_m)
    return y.new_empty((2, batch, tiles, out_channels), dtype=torch.float32)
