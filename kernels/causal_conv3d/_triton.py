"""causal_conv3d in Triton: y = bias + residual + sum over taps, channels of w * x.

An implicit matrix product: rows are pixels of y, columns its channels, the inner index runs over
taps and input channels. Sums in fp32, rounded once. No atomics: equal inputs give equal bits.

Layout: everything is channels-last, [B, T, H, W, C] dense; `forward` converts what is not. Weights
are packed to rows (tap, input channel) and columns (output channel), zero up to whole blocks, and
kept (`_triton_weights.py`).

Three forms, chosen in launch.py:
  plane    stride 1, on videos with their border written (`_triton_plane.py`) by a producer or by a
           copy (`_triton_border.py`)
  columns  the same to few channels, with taps as columns (`_triton_columns.py`)
  gather   any kernel and stride, on x as it is (`_triton_gather.py`)
Parallel: one program per (frame, tile of its positions, block of output channels). Neighbours are
the blocks of one tile, then the same tile of a few frames: they read the same x from the L2 cache.
Bytes: through L2, x once per tap and block of outputs, and the weight once per tile; from memory, x
about (1 + (kT - 1) / frames_together) times; the residual is read and y written once. The bordered
copy reads and writes x once more. Moments of y come from sums that each tile of the plane form
leaves behind, two rows of fp32 per tile; in the other forms y is read once more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..common.availability import capability
from ..common.tune import choose
from ..contract import layout_of
from ..group_norm_silu._triton_statistics import merge_partials, statistics
from ..moments import fake_moments
from ._triton_border import with_border
from ._triton_columns import columns_weight, frames_at_once, new_z, plan_sum_columns
from ._triton_gather import plan_gather
from ._triton_plane import new_partial, plan_plane
from ._triton_weights import packed_weight
from .launch import Config, Plane, Problem, candidates, pick
from .reference import output_shape, padding


def forward(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int], pad_mode: str,
    gather: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Run the forward as the op's schema has it."""
    batch, out_channels, *size = output_shape(x.shape, weight.shape, stride, pad_mode)
    border = padding(weight.shape[2:], pad_mode)
    bordered = border[1] != (0, 0) or border[2] != (0, 0)
    video = x.permute(0, 2, 3, 4, 1)
    if not bordered:
        video = video.contiguous()
    plane: Plane = "none" if max(stride) > 1 else "copied" if bordered else "given"
    problem = problem_of(video, weight, plane)
    config = chosen(problem, x)
    if gather and config.form == "plane":
        config = _summing(problem, config, x)
    y = x.new_empty((batch, *size, out_channels))
    bias = None if bias is None else bias.contiguous()
    zeros = pad_mode == "zeros"
    partial = None
    if config.form in ("plane", "columns"):
        if bordered:
            video = with_border(video, border, zeros)
        partial = new_partial(video, y, config) if config.sums else None
        _run_plane(
            video, weight, bias, None, y, config,
            front=border[0][0], zeros=zeros, partial=partial,
        )  # fmt: skip
    else:
        video, packed = video.contiguous(), packed_weight(weight, config)
        kernel = weight.shape[2:]
        plan_gather(video, packed, bias, y, kernel, stride, border, config, zeros).run()
    moments = moments_of(y, partial) if gather else fake_moments(y, y, False)
    return y.permute(0, 4, 1, 2, 3).contiguous(memory_format=layout_of(x)), moments


def convolve_plane(
    plane: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor | None,
    *, y: Tensor | None = None, front: int | None = None, zeros: bool = False,
) -> Tensor:  # fmt: skip
    """Convolve a video whose producer wrote its border.

    Args:
        plane: [B, T - front + kT - 1, H + kH - 1, W + kW - 1, C], contiguous.
        weight: [O, C, kT, kH, kW], dtype of `plane`.
        bias: [O] or None.
        residual: [B, O, T, H, W], dtype of `plane`, any strides; or None.
        y: [B, T, H, W, O], contiguous, to be written; by default a new tensor.
        front: frames that are missing in front, at most kT - 1, the default: the first one stands
            for them.
        zeros: zeros stand for them instead, and for those that y needs behind the last one.

    Returns:
        y.
    """
    config = chosen(problem_of(plane, weight, "given"), plane)
    return _convolve_plane(plane, weight, bias, residual, config, y, front, zeros)[0]


def convolve_plane_and_sum(
    plane: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor | None,
    *, y: Tensor | None = None, front: int | None = None,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """As `convolve_plane`, and sums of the result for the norm behind it, in the same pass.

    Returns:
        y, and fp32 [2, B, S, O]: S sums of each channel over disjoint sets of pixels that are all
        pixels together, and S sums of squares; None where they would cost a smaller tile.
    """
    problem = problem_of(plane, weight, "given")
    config = chosen(problem, plane)
    if config.form == "plane":
        config = _summing(problem, config, plane)
    return _convolve_plane(plane, weight, bias, residual, config, y, front)


def _convolve_plane(
    plane: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    residual: Tensor | None,
    config: Config,
    y: Tensor | None,
    front: int | None,
    zeros: bool = False,
) -> tuple[Tensor, Tensor | None]:
    out_channels, _, depth, height, width = weight.shape
    front = depth - 1 if front is None else front
    batch, frames, rows, columns, _ = plane.shape
    if y is None:
        size = (frames + front - depth + 1, rows - height + 1, columns - width + 1)
        y = plane.new_empty((batch, *size, out_channels))
    if residual is not None:
        residual = residual.permute(0, 2, 3, 4, 1).contiguous()
    bias = None if bias is None else bias.contiguous()
    partial = new_partial(plane, y, config) if config.sums else None
    _run_plane(plane, weight, bias, residual, y, config, front=front, zeros=zeros, partial=partial)
    return y, partial


def _run_plane(
    plane: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    residual: Tensor | None,
    y: Tensor,
    config: Config,
    *,
    front: int,
    zeros: bool = False,
    partial: Tensor | None = None,
) -> None:
    kernel = weight.shape[2:]
    if config.form == "plane":
        packed = packed_weight(weight, config)
        plan_plane(
            plane, packed, bias, residual, y, kernel, config,
            front=front, zeros=zeros, partial=partial,
        ).run()  # fmt: skip
        return
    spread = columns_weight(weight)
    packed = packed_weight(spread, config)
    height, columns = y.shape[2], spread.shape[0]
    step = frames_at_once(plane, height, columns, front)
    for b in range(y.shape[0]):
        for first in range(0, y.shape[1], step):
            last = min(first + step, y.shape[1])
            first_z = max(first - front, 0)
            video = plane[b : b + 1, first_z : last - front + kernel[0] - 1]
            z = new_z(plane, video.shape[1], height, columns)
            plan_plane(video, packed, None, None, z, (1, kernel[1], 1), config, front=0).run()
            added = None if residual is None else residual[b]
            plan_sum_columns(
                z[0], bias, added, y[b], kernel, (first, last), first_z, front, zeros
            ).run()


def problem_of(video: Tensor, weight: Tensor, plane: Plane) -> Problem:
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


def chosen(problem: Problem, x: Tensor) -> Config:
    """The launch that was measured best on the device of x, else that of `pick`."""
    target = capability(x.device)
    default = pick(problem, target)
    return choose("causal_conv3d", problem, x, default, lambda: candidates(problem, target))


def _summing(problem: Problem, config: Config, x: Tensor) -> Config:
    """The launch that also sums its results, where that costs no smaller tile.

    Elsewhere a pass of its own takes the sums: it reads the result once more, but leaves the
    convolution what it reuses.
    """
    summing = pick(replace(problem, statistics=True), capability(x.device))
    as_large = (summing.block_m, summing.block_n) == (config.block_m, config.block_n)
    return summing if as_large else config


def moments_of(y: Tensor, partial: Tensor | None) -> Tensor:
    """Means and variances of channels: from the sums that a convolution left behind, or from y.

    Args:
        y: [B, T, H, W, O], contiguous.
        partial: of `convolve_plane_and_sum`, or None.

    Returns:
        fp32 [B, 2, O].
    """
    out_channels = y.shape[4]
    if partial is None:
        mean, rstd = statistics(y.permute(0, 4, 1, 2, 3), out_channels, 0.0)
    else:
        mean, rstd = merge_partials(partial, out_channels, y[0, ..., 0].numel(), 0.0)
    return torch.stack([mean, rstd.square().reciprocal()], dim=1)
