"""Triton kernels of causal_conv3d: y = bias + residual + sum over taps, channels of w * x.

An implicit matrix product: rows are pixels of y, columns its channels, the inner index runs over
taps and input channels. Sums in fp32, rounded once. No atomics: equal inputs give equal bits.

Layout: everything is channels-last, [B, T, H, W, C] dense; `forward` converts what is not. Weights
are packed to rows (tap, input channel) and columns (output channel), zero up to whole blocks, and
kept (`_triton_weights.py`).

Two forms, chosen in launch.py:
  plane   stride 1. The video is given with its border, [B, T, H', W', C], and rows run flat over a
          bordered frame: a tap is a constant shift of rows, so that every load, at edges too, is a
          dense box. The frames in front are a clamped frame index. Results at border columns
          (kW - 1 of W') are computed and dropped.
  gather  any kernel and stride. Every tap looks its pixels up, clamped or masked; with few
          channels ("joint") taps and channels are one index.
Parallel: one program per (frame, tile of its positions, block of output channels). Neighbours are
the blocks of one tile, then the same tile of a few frames: they read the same x from the L2 cache.
Bytes: through L2, x once per tap and block of outputs, and the weight once per tile; from memory, x
about (1 + (kT - 1) / frames_together) times; the residual is read and y written once. The bordered
copy reads and writes x once more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from ..common.availability import capability
from ..common.launch import Launch, cdiv, next_power_of_two, strides
from ..common.tune import choose
from ..contract import layout_of
from ._triton_weights import packed_weight
from .launch import Config, Problem, candidates, pick
from .reference import output_shape, padding


@triton.jit
def store_tile(
    y_ptr, bias_ptr, residual_ptr, partial_ptr, b_acc, at_m, mask_m, start_n,
    partial_stride, O: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Add bias and residual, round, store; y_ptr and residual_ptr point at row 0 of at_m."""
    offs_n = start_n + tl.arange(0, BLOCK_N)
    mask_n = offs_n < O
    if bias_ptr is not None:
        b_acc += tl.load(bias_ptr + offs_n, mask=mask_n, other=0.0).to(tl.float32)[None, :]
    at = at_m[:, None] * O + offs_n[None, :]
    mask = mask_m[:, None] & mask_n[None, :]
    if residual_ptr is not None:
        b_acc += tl.load(residual_ptr + at, mask=mask, other=0.0).to(tl.float32)
    b_y = b_acc.to(y_ptr.dtype.element_ty)
    tl.store(y_ptr + at, b_y, mask=mask)
    if partial_ptr is not None:
        # Of what was stored: sums over one tile are short, so their squares lose little.
        b_value = tl.where(mask_m[:, None], b_y.to(tl.float32), 0.0)
        tl.store(partial_ptr + offs_n, tl.sum(b_value, axis=0), mask=mask_n)
        b_square = tl.sum(b_value * b_value, axis=0)
        tl.store(partial_ptr + partial_stride + offs_n, b_square, mask=mask_n)


@triton.jit
def finish_tile(
    y_ptr, bias_ptr, residual_ptr, partial_ptr, b_acc, first_row, at_m, mask_m, start_n,
    partial_stride, O: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, SPLIT: tl.constexpr,
):  # fmt: skip
    """Store a tile whose rows lie at_m (32 bits) behind pixel first_row (64 bits) of y."""
    y_ptr += first_row * O
    if residual_ptr is not None:
        residual_ptr += first_row * O
    if SPLIT:
        # Conversion and residual of a whole large tile would spill what the loop left free.
        HALF: tl.constexpr = BLOCK_N // 2
        b_low, b_high = b_acc.reshape(BLOCK_M, 2, HALF).permute(0, 2, 1).split()
        store_tile(
            y_ptr, bias_ptr, residual_ptr, partial_ptr, b_low, at_m, mask_m, start_n,
            partial_stride, O, HALF,
        )  # fmt: skip
        store_tile(
            y_ptr, bias_ptr, residual_ptr, partial_ptr, b_high, at_m, mask_m, start_n + HALF,
            partial_stride, O, HALF,
        )  # fmt: skip
    else:
        store_tile(
            y_ptr, bias_ptr, residual_ptr, partial_ptr, b_acc, at_m, mask_m, start_n,
            partial_stride, O, BLOCK_N,
        )  # fmt: skip


@triton.jit
def place_of(pid_m, num_tiles, num_frames, FRAMES_TOGETHER: tl.constexpr):
    """Frame and tile of a program: neighbours do the same tile of a few frames, which overlap."""
    group = pid_m // (num_tiles * FRAMES_TOGETHER)
    first = group * FRAMES_TOGETHER
    within = pid_m - first * num_tiles
    members = tl.minimum(num_frames - first, FRAMES_TOGETHER)
    return first + within % members, within // members


@triton.jit
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
    for k in range(KT * CHUNKS * KH * KW):
        tap_t = k // (CHUNKS * KH * KW)
        tap = k % (KH * KW)
        start_c = k // (KH * KW) % CHUNKS * BLOCK_K
        row = (first_frame + tl.maximum(frame + tap_t, 0)) * plane_size
        row += start_m + tap // KW * plane_w + tap % KW
        if ZEROS:
            row = tl.where(frame + tap_t >= 0, row, num_rows)  # rows past the end read as zero
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


@triton.jit
def gather_kernel(
    x_ptr, w_ptr, y_ptr, bias_ptr, residual_ptr,
    num_frames, x_frames, x_height, x_width, T, H, W, front, top, left,
    C: tl.constexpr, O: tl.constexpr,
    ROWS: tl.constexpr, PACKED_C: tl.constexpr, PACKED_O: tl.constexpr,
    KT: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr,
    STRIDE_T: tl.constexpr, STRIDE_H: tl.constexpr, STRIDE_W: tl.constexpr,
    ZEROS: tl.constexpr, JOINT: tl.constexpr, SPLIT: tl.constexpr,
    FRAMES_TOGETHER: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """x: [B, x_frames, x_height, x_width, C]; y: [B, T, H, W, O]; w: [ROWS, PACKED_O]."""
    pid = tl.program_id(0)
    start_n = pid % (PACKED_O // BLOCK_N) * BLOCK_N
    pid_m = pid // (PACKED_O // BLOCK_N)
    num_tiles = tl.cdiv(H * W, BLOCK_M)
    pid_f, tile = place_of(pid_m, num_tiles, num_frames, FRAMES_TOGETHER)
    start_m = tile * BLOCK_M
    x_ptr += (pid_f // T * x_frames).to(tl.int64) * x_height * x_width * C
    frame = pid_f % T * STRIDE_T - front
    offs_m = tl.arange(0, BLOCK_M)
    offs_k = tl.arange(0, BLOCK_K)
    mask_m = start_m + offs_m < H * W
    pixel = tl.minimum(start_m + offs_m, H * W - 1)
    base_h = (pixel // W * STRIDE_H - top)[:, None]
    base_w = (pixel % W * STRIDE_W - left)[:, None]
    at_w = offs_k[:, None] * PACKED_O + (start_n + tl.arange(0, BLOCK_N))[None, :]
    b_acc = tl.zeros([BLOCK_M, BLOCK_N], dtype=tl.float32)
    for k in range(ROWS // BLOCK_K):
        if JOINT:
            # A row of the packed weight is a tap and a channel: one of each per column of b_x.
            w_row = k * BLOCK_K
            row = w_row + offs_k[None, :]
            tap_t = row // (C * KH * KW)
            tap = row // C % (KH * KW)
            channel = row % C
            inside = row < KT * KH * KW * C
        else:
            tap_t = k // (PACKED_C // BLOCK_K * KH * KW)
            tap = k % (KH * KW)
            start_c = k // (KH * KW) % (PACKED_C // BLOCK_K) * BLOCK_K
            w_row = (tap_t * (KH * KW) + tap) * PACKED_C + start_c
            channel = start_c + offs_k[None, :]
            inside = channel < C
        at_t = frame + tap_t
        at_h = base_h + tap // KW
        at_x = base_w + tap % KW
        if ZEROS:
            at_h = tl.where(at_t >= 0, at_h, -1)
            inside = inside & (at_h >= 0) & (at_h < x_height) & (at_x >= 0) & (at_x < x_width)
        at_t = tl.maximum(at_t, 0)
        at_h = tl.minimum(tl.maximum(at_h, 0), x_height - 1)
        at_x = tl.minimum(tl.maximum(at_x, 0), x_width - 1)
        # A frame's elements are counted in 32 bits, its start is a pointer.
        frames = x_ptr + at_t.to(tl.int64) * x_height * x_width * C
        at = (at_h * x_width + at_x) * C + channel
        if ZEROS or JOINT or C % BLOCK_K != 0:
            b_x = tl.load(frames + at, mask=inside, other=0.0)
        else:
            b_x = tl.load(frames + at)
        b_w = tl.load(w_ptr + w_row * PACKED_O + at_w)
        b_acc = tl.dot(b_x, b_w, b_acc, input_precision="ieee")
    first_row = pid_f.to(tl.int64) * H * W + start_m
    finish_tile(
        y_ptr, bias_ptr, residual_ptr, None, b_acc, first_row, offs_m, mask_m, start_n,
        0, O, BLOCK_M, BLOCK_N, SPLIT,
    )  # fmt: skip


@triton.jit
def border_kernel(
    x_ptr, plane_ptr, T, H, W, plane_h, plane_w, C, top, left,
    x_stride_b, x_stride_t, x_stride_h, x_stride_w, x_stride_c,
    ZEROS: tl.constexpr, BLOCK_W: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """plane[b, t, h, w, c] = x[b, t, clamp(h - top), clamp(w - left), c], or zero outside x."""
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
    tl.store(plane_ptr + row * plane_w * C + offs_w[:, None] * C + offs_c[None, :], b_x, mask=mask)


def forward(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int], pad_mode: str
) -> Tensor:
    """Run the forward as the op's schema has it."""
    batch, out_channels, *size = output_shape(x.shape, weight.shape, stride, pad_mode)
    border = padding(weight.shape[2:], pad_mode)
    bordered = border[1] != (0, 0) or border[2] != (0, 0)
    video = x.permute(0, 2, 3, 4, 1)
    if not bordered:
        video = video.contiguous()
    plane = "none" if max(stride) > 1 else "copied" if bordered else "given"
    config = _chosen(_problem(video, weight, plane), x)
    y = x.new_empty((batch, *size, out_channels))
    packed = packed_weight(weight, config)
    zeros = pad_mode == "zeros"
    if config.form == "plane":
        if bordered:
            video = _with_border(video, border, zeros)
        plan = plan_plane(
            video, packed, bias, None, y, weight.shape[2:], config, front=border[0][0], zeros=zeros
        )
    else:
        plan = plan_gather(
            video.contiguous(), packed, bias, y, weight.shape[2:], stride, border, config, zeros
        )
    plan.run()
    return y.permute(0, 4, 1, 2, 3).contiguous(memory_format=layout_of(x))


def convolve_plane(
    plane: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor | None
) -> Tensor:
    """Convolve a video whose producer wrote its border; frames in front are the first, repeated.

    Args:
        plane: [B, T, H + kH - 1, W + kW - 1, C], contiguous.
        weight: [O, C, kT, kH, kW], dtype of `plane`.
        bias: [O] or None.
        residual: [B, O, T, H, W], dtype of `plane`, any strides; or None.

    Returns:
        [B, T, H, W, O].
    """
    config = _chosen(_problem(plane, weight, "given"), plane)
    return _convolve_plane(plane, weight, bias, residual, config)[0]


def convolve_plane_and_sum(
    plane: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor | None
) -> tuple[Tensor, Tensor]:
    """As `convolve_plane`, and sums of the result for the norm behind it, in the same pass.

    Returns:
        y [B, T, H, W, O], and fp32 [2, B, S, O]: S sums of each channel over disjoint sets of
        pixels that are all pixels together, and S sums of squares.
    """
    config = _chosen(replace(_problem(plane, weight, "given"), statistics=True), plane)
    y, partial = _convolve_plane(plane, weight, bias, residual, config, sums=True)
    assert partial is not None
    return y, partial


def _convolve_plane(
    plane: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor | None, config: Config,
    *, sums: bool = False,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    kernel = weight.shape[2:]
    batch, frames, rows, columns, _ = plane.shape
    y = plane.new_empty(
        (batch, frames, rows - kernel[1] + 1, columns - kernel[2] + 1, weight.shape[0])
    )
    if residual is not None:
        residual = residual.permute(0, 2, 3, 4, 1).contiguous()
    packed = packed_weight(weight, config)
    partial = new_partial(plane, y, config) if sums else None
    plan_plane(
        plane, packed, bias, residual, y, kernel, config, front=kernel[0] - 1, partial=partial
    ).run()
    return y, partial


def new_partial(plane: Tensor, y: Tensor, config: Config) -> Tensor:
    """A row of sums, and one of sums of squares, per tile: [2, B, S, O] fp32."""
    batch, frames, height, _, out_channels = y.shape
    tiles = frames * cdiv(height * plane.shape[3], config.block_m)
    return y.new_empty((2, batch, tiles, out_channels), dtype=torch.float32)


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
    launch = _launch(plane_kernel, tiles, arguments, packed, kernel, channels, y, config, zeros)
    return replace(launch, constants=launch.constants | {"DESCRIPTORS": config.descriptors})


def plan_gather(
    x: Tensor, packed: Tensor, bias: Tensor | None, y: Tensor, kernel: Sequence[int],
    stride: Sequence[int], border: Sequence[tuple[int, int]], config: Config, zeros: bool,
) -> Launch:  # fmt: skip
    """Plan y [B, T', H', W', O] from x [B, T, H, W, C], both contiguous."""
    _, x_frames, x_height, x_width, channels = x.shape
    batch, frames, height, width, _ = y.shape
    arguments = {
        "x_ptr": x, "w_ptr": packed, "y_ptr": y, "bias_ptr": bias, "residual_ptr": None,
        "x_frames": x_frames, "x_height": x_height, "x_width": x_width,
        "num_frames": batch * frames, "T": frames, "H": height, "W": width,
        "front": border[0][0], "top": border[1][0], "left": border[2][0],
    }  # fmt: skip
    tiles = batch * frames * cdiv(height * width, config.block_m)
    launch = _launch(gather_kernel, tiles, arguments, packed, kernel, channels, y, config, zeros)
    return replace(
        launch,
        constants=launch.constants
        | {"ROWS": packed.shape[0], "JOINT": config.form == "joint"}
        | {f"STRIDE_{axis}": step for axis, step in zip("THW", stride, strict=True)},
    )


def plan_border(x: Tensor, plane: Tensor, border: Sequence[tuple[int, int]], zeros: bool) -> Launch:
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
        constants={"ZEROS": zeros, "BLOCK_W": block_w, "BLOCK_C": block_c},
        num_warps=4,
    )


def _problem(video: Tensor, weight: Tensor, plane: str) -> Problem:
    """The problem of a video [B, T, H, W, C] whose pixels are, or will be, dense."""
    size = video.element_size()
    pointer_fits = plane == "copied" or video.data_ptr() % 16 == 0
    return Problem(
        channels=video.shape[-1],
        out_channels=weight.shape[0],
        kernel=tuple(weight.shape[2:]),
        half_precision=size == 2,
        aligned=video.shape[-1] * size % 16 == 0 and pointer_fits,
        plane=plane,
    )


def _chosen(problem: Problem, x: Tensor) -> Config:
    """The launch that was measured best on the device of x, else that of `pick`."""
    target = capability(x.device)
    default = pick(problem, target)
    return choose("causal_conv3d", problem, x.device, default, lambda: candidates(problem, target))


def _with_border(video: Tensor, border: Sequence[tuple[int, int]], zeros: bool) -> Tensor:
    batch, frames, height, width, channels = video.shape
    rows, columns = height + sum(border[1]), width + sum(border[2])
    plane = video.new_empty((batch, frames, rows, columns, channels))
    plan_border(video, plane, border, zeros).run()
    return plane


def _launch(
    kernel_function, tiles: int, arguments: dict[str, Any], packed: Tensor, kernel: Sequence[int],
    channels: int, y: Tensor, config: Config, zeros: bool,
) -> Launch:  # fmt: skip
    """What both forms share: a dense bias, constants, and absent tensors as constants."""
    if arguments["bias_ptr"] is not None:
        arguments["bias_ptr"] = arguments["bias_ptr"].contiguous()
    absent = {name: None for name, value in arguments.items() if value is None}
    taps = kernel[0] * kernel[1] * kernel[2]
    constants = {
        "C": channels, "O": y.shape[-1],
        "PACKED_C": config.packed_shape(channels, y.shape[-1], taps)[2],
        "PACKED_O": packed.shape[1],
        "KT": kernel[0], "KH": kernel[1], "KW": kernel[2],
        "ZEROS": zeros, "SPLIT": config.split, "FRAMES_TOGETHER": config.frames_together,
        "BLOCK_M": config.block_m, "BLOCK_N": config.block_n, "BLOCK_K": config.block_k,
    }  # fmt: skip
    return Launch(
        kernel=kernel_function,
        grid=(tiles * (packed.shape[1] // config.block_n),),
        arguments={name: value for name, value in arguments.items() if value is not None},
        constants=constants | absent,
        num_warps=config.num_warps,
        num_stages=config.num_stages,
    )
