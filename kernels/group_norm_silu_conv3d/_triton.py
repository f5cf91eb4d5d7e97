"""group_norm_silu_conv3d in Triton: three kernels of the two ops that it joins.

Statistics of x, unless its moments are given; one pass that normalises and activates x into
bordered, channels-last frames; the convolution in its plane form, which adds bias and residual to
its fp32 sums before it rounds, and sums the result for the norm behind it. The activated video is
rounded to the dtype of x, as by the two ops one after the other.
Memory: activated frames exist a few gigabytes at a time; a long video goes in runs of frames, each
of which activates the kT - 1 frames before it once more.
Bytes: reads x twice (once with its moments), writes and reads the activated video, reads the
residual, writes y; see causal_conv3d/_triton.py for how often the convolution reads through L2.
Activating inside the convolution would repeat SiLU once per tap.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ..causal_conv3d._triton import convolve_plane, convolve_plane_and_sum
from ..contract import layout_of
from ..group_norm_silu._triton import activate, statistics
from ..group_norm_silu._triton_statistics import merge_partials
from ..moments import fake_moments, group_moments

# Of activated video at a time. The untiled decode of 129 frames of 768 x 768 would else hold 20 GB
# of it beside its input, output and residual of as much each.
MAX_PLANE_BYTES = 4 << 30


def forward(
    x: Tensor, norm_weight: Tensor, norm_bias: Tensor, num_groups: int, eps: float,
    weight: Tensor, bias: Tensor | None, residual: Tensor | None,
    moments: Tensor | None, gather: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Run the forward as the op's schema has it."""
    if moments is None:
        mean, rstd = statistics(x, num_groups, eps)
    else:
        mean, variance = group_moments(moments, num_groups)
        rstd = torch.rsqrt(variance + eps)
    out_channels, _, depth, height, width = weight.shape
    border = (height // 2, width // 2)
    y = x.new_empty((x.shape[0], *x.shape[2:], out_channels))
    partials = []
    for items, frames in _runs(x, border):
        missing = max(0, depth - 1 - frames.start)
        seen = slice(frames.start - (depth - 1 - missing), frames.stop)
        plane = activate(
            x[items, :, seen], mean[items], rstd[items], norm_weight, norm_bias, num_groups,
            silu=True, border=border,
        )  # fmt: skip
        added = None if residual is None else residual[items, :, frames]
        into = {"y": y[items, frames], "front": missing}
        if gather:
            partials.append(convolve_plane_and_sum(plane, weight, bias, added, **into)[1])
        else:
            convolve_plane(plane, weight, bias, added, **into)
    gathered = _moments(partials, y) if gather else fake_moments(x, x, False)
    return y.permute(0, 4, 1, 2, 3).contiguous(memory_format=layout_of(x)), gathered


def _runs(x: Tensor, border: tuple[int, int]) -> Iterator[tuple[slice, slice]]:
    """Batch items and frames whose activated video is of a bearable size: all, or runs of one."""
    batch, channels, num_frames, height, width = x.shape
    area = (height + 2 * border[0]) * (width + 2 * border[1])
    step = max(1, MAX_PLANE_BYTES // (area * channels * x.element_size()))
    if batch * num_frames <= step:
        yield slice(0, batch), slice(0, num_frames)
        return
    for item in range(batch):
        for first in range(0, num_frames, step):
            yield slice(item, item + 1), slice(first, min(first + step, num_frames))


def _moments(partials: list[Tensor], y: Tensor) -> Tensor:
    """Mean and variance of the channels of y [B, T, H, W, O] from sums in the order of `_runs`."""
    batch, *size, channels = y.shape
    count = size[0] * size[1] * size[2]
    if partials[0].shape[1] == batch:
        sums = torch.cat(partials, dim=2)
    else:
        runs = len(partials) // batch
        items = [torch.cat(partials[i : i + runs], 2) for i in range(0, len(partials), runs)]
        sums = torch.cat(items, dim=1)
    # Every channel as a group of its own.
    mean, rstd = merge_partials(sums, channels, count, 0.0)
    return torch.stack([mean, rstd.square().reciprocal()], dim=1)
