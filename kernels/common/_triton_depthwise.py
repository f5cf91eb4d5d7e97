"""Depthwise convolutions between zeros, and their gradients, in Triton.

    y[p, c] = bias[c] + sum over taps k of x[p + k, c] * w[k, c]
    dx[p, c] = sum over k of dy[p - k, c] * w[k, c]          (the same with the taps turned round)
    dw[k, c] = sum over p of dy[p, c] * x[p + k, c]

Layout: videos as rows [positions of all samples, channels], taps [kT * kH * kW, C], all dense; a
tap is a row shift, masked where it leaves its sample.
Parallel: ``convolve_kernel`` one program per (tile of positions, tile of channels);
``taps_gradient_kernel`` one per (row of taps, run of tiles of positions, tile of channels), with
the sums of a row's taps in registers; a second kernel adds the runs' sums in order.
Bytes: neighbours come from the caches; dw reads dy and x once for each of the kT * kH rows of taps.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ._triton import plan_sum_partials
from .launch import Launch, cdiv, multiprocessors, next_power_of_two, share_tiles
from .torch_conv3d import Depthwise

_WIDEST = 64  # channels of a tile
_ELEMENTS = 2048  # of a tile: 16 a thread, or 8 where more than three taps are loaded ahead
_PROGRAMS_PER_UNIT = 8


@triton.jit
def near(offs_p, mask_p, t, h, w, row, T, H, W, KT: tl.constexpr, KH: tl.constexpr):
    """Rows that lie a row of taps away from positions, the middle tap; which of them exist."""
    t_shift = row // KH - KT // 2
    h_shift = row % KH - KH // 2
    mask = mask_p & (t + t_shift >= 0) & (t + t_shift < T)
    mask = mask & (h + h_shift >= 0) & (h + h_shift < H)
    return offs_p + (t_shift * H + h_shift) * W, mask


@triton.jit
def convolve_kernel(
    x_ptr, taps_ptr, bias_ptr, y_ptr, P, C, T, H, W,
    KT: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr, TURNED: tl.constexpr,
    HAS_BIAS: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    pid_p = tl.program_id(0).to(tl.int64)
    pid_c = tl.program_id(1).to(tl.int64)
    offs_p = pid_p * BLOCK_P + tl.arange(0, BLOCK_P)
    offs_c = pid_c * BLOCK_C + tl.arange(0, BLOCK_C)
    mask_p = offs_p < P
    mask_c = offs_c < C
    w = offs_p % W
    h = offs_p // W % H
    t = offs_p // W // H % T
    b_sum = tl.zeros([BLOCK_P, BLOCK_C], dtype=tl.float32)
    if HAS_BIAS:
        b_sum += tl.load(bias_ptr + offs_c, mask=mask_c, other=0.0).to(tl.float32)[None, :]
    for row in range(0, KT * KH):
        at_row, mask_row = near(offs_p, mask_p, t, h, w, row, T, H, W, KT, KH)
        for column in tl.static_range(KW):
            shift = column - KW // 2
            mask = (mask_row & (w + shift >= 0) & (w + shift < W))[:, None] & mask_c[None, :]
            at = (at_row + shift)[:, None] * C + offs_c[None, :]
            b_x = tl.load(x_ptr + at, mask=mask, other=0.0).to(tl.float32)
            tap = row * KW + column
            if TURNED:
                tap = KT * KH * KW - 1 - tap
            b_tap = tl.load(taps_ptr + tap * C + offs_c, mask=mask_c, other=0.0).to(tl.float32)
            b_sum += b_x * b_tap[None, :]
    at = offs_p[:, None] * C + offs_c[None, :]
    mask = mask_p[:, None] & mask_c[None, :]
    tl.store(y_ptr + at, b_sum.to(y_ptr.dtype.element_ty), mask=mask)


@triton.jit
def taps_gradient_kernel(
    dy_ptr, x_ptr, partial_ptr, P, C, T, H, W, runs, tiles_per_run,
    KT: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr, BLOCK_KW: tl.constexpr,
    BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Partial [taps, runs, C]."""
    pid_run = tl.program_id(0).to(tl.int64)
    pid_c = tl.program_id(1).to(tl.int64)
    row = tl.program_id(2)
    offs_c = pid_c * BLOCK_C + tl.arange(0, BLOCK_C)
    offs_k = tl.arange(0, BLOCK_KW)
    mask_c = offs_c < C
    b_sums = tl.zeros([BLOCK_KW, BLOCK_C], dtype=tl.float32)
    for tile in range(0, tiles_per_run):
        offs_p = (pid_run * tiles_per_run + tile) * BLOCK_P + tl.arange(0, BLOCK_P)
        mask_p = offs_p < P
        w = offs_p % W
        h = offs_p // W % H
        t = offs_p // W // H % T
        mask = mask_p[:, None] & mask_c[None, :]
        at = offs_p[:, None] * C + offs_c[None, :]
        b_dy = tl.load(dy_ptr + at, mask=mask, other=0.0).to(tl.float32)
        at_row, mask_row = near(offs_p, mask_p, t, h, w, row, T, H, W, KT, KH)
        for column in tl.static_range(KW):
            shift = column - KW // 2
            mask = (mask_row & (w + shift >= 0) & (w + shift < W))[:, None] & mask_c[None, :]
            at = (at_row + shift)[:, None] * C + offs_c[None, :]
            b_x = tl.load(x_ptr + at, mask=mask, other=0.0).to(tl.float32)
            b_sum = tl.sum(b_dy * b_x, axis=0)
            b_sums += tl.where(offs_k[:, None] == column, b_sum[None, :], 0.0)
    at = ((row * KW + offs_k)[:, None] * runs + pid_run) * C + offs_c[None, :]
    tl.store(partial_ptr + at, b_sums, mask=(offs_k < KW)[:, None] & mask_c[None, :])


def depthwise(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """Convolve each channel of x [B, C, T, H, W] with its kernel of weight [C, 1, kT, kH, kW]."""
    return _convolve(x, weight, bias, turned=False)


def depthwise_gradients(
    grad: torch.Tensor, x: torch.Tensor, weight: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The gradients of x and weight, every k odd."""
    dx = _convolve(grad, weight, None, turned=True)
    rows_of_grad, rows_of_x = _rows(grad), _rows(x)
    kernel = tuple(weight.shape[2:])
    partial = new_partial(x, kernel)
    plan_taps_gradient(rows_of_grad, rows_of_x, tuple(x.shape[2:]), kernel, partial).run()
    dtaps = torch.empty((len(partial[0]), x.shape[1]), dtype=weight.dtype, device=x.device)
    plan_sum_partials(partial, dtaps).run()
    return dx, dtaps.t().reshape(weight.shape)


def _convolve(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, turned: bool
) -> torch.Tensor:
    rows = _rows(x)
    y = torch.empty_like(rows)
    taps = weight.flatten(1).t().contiguous()
    kernel, size = tuple(weight.shape[2:]), tuple(x.shape[2:])
    plan_convolve(rows, taps, bias, y, size, kernel, turned).run()
    return y.view(x.shape[0], *size, -1).permute(0, 4, 1, 2, 3)


def _rows(x: torch.Tensor) -> torch.Tensor:
    """[B * T * H * W, C], dense; a view of a channels-last video, a copy of another."""
    return x.permute(0, 2, 3, 4, 1).reshape(-1, x.shape[1]).contiguous()


def new_partial(x: torch.Tensor, kernel: tuple[int, ...]) -> torch.Tensor:
    """The buffer between the two stages of the taps' gradient: [1, taps, runs, C]."""
    channels = x.shape[1]
    block_p, block_c = _tile(channels)
    tiles = cdiv(x.numel() // channels, block_p)
    others = cdiv(channels, block_c) * kernel[0] * kernel[1]
    walk = share_tiles(tiles, others, _PROGRAMS_PER_UNIT * multiprocessors(x.device))
    taps = kernel[0] * kernel[1] * kernel[2]
    return torch.empty((1, taps, walk.programs, channels), dtype=torch.float32, device=x.device)


def plan_convolve(
    x: torch.Tensor, taps: torch.Tensor, bias: torch.Tensor | None, y: torch.Tensor,
    size: tuple[int, ...], kernel: tuple[int, ...], turned: bool,
) -> Launch:  # fmt: skip
    """Plan y from rows x [P, C] of videos of this size; ``turned`` for the gradient of x."""
    positions, channels = x.shape
    block_p, block_c = _tile(channels)
    return Launch(
        kernel=convolve_kernel,
        grid=(cdiv(positions, block_p), cdiv(channels, block_c)),
        arguments={
            "x_ptr": x,
            "taps_ptr": taps,
            "bias_ptr": x if bias is None else bias,
            "y_ptr": y,
            "P": positions,
            "C": channels,
        }
        | dict(zip("THW", size, strict=True)),
        constants=_constants(kernel, block_p, block_c)
        | {"TURNED": turned, "HAS_BIAS": bias is not None},
        num_warps=_num_warps(kernel),
    )


def plan_taps_gradient(
    dy: torch.Tensor, x: torch.Tensor, size: tuple[int, ...], kernel: tuple[int, ...],
    partial: torch.Tensor,
) -> Launch:  # fmt: skip
    """Plan the sums of ``new_partial`` from rows dy and x [P, C] of videos of this size."""
    positions, channels = x.shape
    block_p, block_c = _tile(channels)
    runs = partial.shape[2]
    return Launch(
        kernel=taps_gradient_kernel,
        grid=(runs, cdiv(channels, block_c), kernel[0] * kernel[1]),
        arguments={
            "dy_ptr": dy,
            "x_ptr": x,
            "partial_ptr": partial,
            "P": positions,
            "C": channels,
            "runs": runs,
            "tiles_per_run": cdiv(cdiv(positions, block_p), runs),
        }
        | dict(zip("THW", size, strict=True)),
        constants=_constants(kernel, block_p, block_c) | {"BLOCK_KW": next_power_of_two(kernel[2])},
    )


def _tile(channels: int) -> tuple[int, int]:
    """Positions and channels of a tile."""
    block_c = min(next_power_of_two(channels), _WIDEST)
    return _ELEMENTS // block_c, block_c


def _num_warps(kernel: tuple[int, ...]) -> int:
    return 4 if kernel[2] <= 3 else 8


def _constants(kernel: tuple[int, ...], block_p: int, block_c: int) -> dict[str, int]:
    sizes = dict(zip(("KT", "KH", "KW"), kernel, strict=True))
    return sizes | {"BLOCK_P": block_p, "BLOCK_C": block_c}


TRITON = Depthwise(depthwise, depthwise_gradients)
