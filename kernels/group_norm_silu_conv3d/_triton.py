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

import torch
from torch import Tensor

from ..causal_conv3d._triton import convolve_plane, convolve_plane_and_sum, moments_of
from ..causal_conv3d._triton_border import runs
from ..contract import layout_of
from ..group_norm_silu._triton import activate, statistics
from ..moments import fake_moments, group_statistics


def forward(
    x: Tensor, norm_weight: Tensor, norm_bias: Tensor, num_groups: int, eps: float,
    weight: Tensor, bias: Tensor | None, residual: Tensor | None,
    moments: Tensor | None, gather: bool, pad_rows: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Run the forward as the op's schema has it."""
    if moments is None:
        mean, rstd = statistics(x, num_groups, eps)
    else:
        mean, rstd = group_statistics(moments, num_groups, eps)
    out_channels, _, depth, height, width = weight.shape
    border = (height // 2 if pad_rows else 0, width // 2)
    batch, channels, num_frames, rows, columns = x.shape
    out_rows = rows + 2 * border[0] - height + 1
    y = x.new_empty((batch, num_frames, out_rows, columns, out_channels))
    partials = []
    area = (rows + 2 * border[0]) * (columns + 2 * border[1])
    for items, frames in runs(batch, num_frames, area * channels * x.element_size()):
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
    if gather:
        gathered = moments_of(y, _joined(partials, x.shape[0]))
    else:
        gathered = fake_moments(x, x, False)
    return y.permute(0, 4, 1, 2, 3).contiguous(memory_format=layout_of(x)), gathered


def _joined(partials: list[Tensor | None], batch: int) -> Tensor | None:
    """The sums of all runs, in the order they were made, as those of one pass."""
    found = [partial for partial in partials if partial is not None]
    if not found:
        return None
    if found[0].shape[1] == batch:
        return torch.cat(found, dim=2)
    runs = len(found) // batch
    items = [torch.cat(found[i : i + runs], dim=2) for i in range(0, len(found), runs)]
    return torch.cat(items, dim=1)
