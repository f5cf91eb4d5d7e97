"""conv3d in Triton: the kernels of causal_conv3d and upsample_conv3d between zeros.

Three ways, chosen in launch.py:
  plane    stride 1: one pass writes x, activated, into channels-last frames with rows and columns
           of zeros around, a few gigabytes at a time; frames of zeros are left out of the loop.
           Without an activation the copy is made only where it pays.
  doubled  neither the enlarged nor the padded video exists: the pass that takes differences along
           W activates x, too
  gather   other strides and scales: every pixel is looked up, in x or in its activated copy
Activating inside a product would repeat SiLU once per tap. The activated x is rounded to its dtype.

The shortcut is added to the sums before they are rounded: x itself where it has the channels of y,
means or repetitions that are looked up (gather, doubled). Only where the plane form changes the
number of channels it is added to y in place, in a pass of its own and a second rounding.
Bytes: as the two ops; the shortcut reads x once more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from torch import Tensor

from ..causal_conv3d._triton import chosen, convolve_plane, problem_of
from ..causal_conv3d._triton_border import runs, with_border
from ..causal_conv3d._triton_gather import plan_gather
from ..causal_conv3d._triton_shortcut import plan_shortcut
from ..causal_conv3d._triton_weights import packed_weight
from ..causal_conv3d.launch import Config, Shortcut
from ..common.availability import capability
from ..contract import layout_of
from ..upsample_conv3d import _triton as upsample
from ..upsample_conv3d.launch import pick as pick_doubled
from .launch import pick, shortcut_of
from .reference import output_size, padding

# In front and behind, per axis.
Border: TypeAlias = "tuple[tuple[int, int], ...]"

NO_BORDER = ((0, 0),) * 3


def forward(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int], scale: Sequence[int],
    silu: bool, shortcut: bool, pad_rows: bool,
) -> Tensor:  # fmt: skip
    """Run the forward as the op's schema has it."""
    channels, out_channels, kernel = x.shape[1], weight.shape[0], weight.shape[2:]
    added = shortcut_of(channels, out_channels, stride, scale) if shortcut else None
    way = pick(kernel, stride, scale)
    if way == "doubled":
        config = pick_doubled(upsample.problem_of(x, weight), capability(x.device))
        return upsample.run(
            x, weight, bias, scale, config, zeros=True, silu=silu, shortcut=added
        )  # fmt: skip
    video = x.permute(0, 2, 3, 4, 1)
    size = output_size(x.shape[2:], kernel, stride, scale, pad_rows)
    border = border_of(kernel, pad_rows)
    y = x.new_empty((x.shape[0], *size, out_channels))
    bias = None if bias is None else bias.contiguous()
    # Frames are written to be activated anyway; without rows around they are read as they are.
    given = way == "plane" and (silu or kernel[1] == kernel[2] == 1)
    config = chosen(problem_of(video, weight, "copied" if way == "plane" else "none"), x)
    if given or config.form in ("plane", "columns"):
        _convolve_planes(video, weight, bias, y, border, silu, added)
    else:
        _gather(video, weight, bias, y, stride, scale, border, config, silu, added)
    return y.permute(0, 4, 1, 2, 3).contiguous(memory_format=layout_of(x))


def border_of(kernel: Sequence[int], pad_rows: bool = True) -> Border:
    """Zeros in front and behind, per axis."""
    return tuple((zeros, zeros) for zeros in padding(kernel, pad_rows))


def _convolve_planes(
    video: Tensor, weight: Tensor, bias: Tensor | None, y: Tensor, border: Border, silu: bool,
    shortcut: Shortcut | None,
) -> None:  # fmt: skip
    """Write y [B, T', H', W', O] from video [B, T, H, W, C] of any strides."""
    depth, height, width = weight.shape[2:]
    front = border[0][0]
    copies = silu or height > 1 or width > 1
    same = shortcut is not None and shortcut.group == 1
    bordered = (y.shape[2] + height - 1) * (y.shape[3] + width - 1)
    frame_bytes = bordered * video.shape[4] * video.element_size()
    for items, frames in runs(y.shape[0], y.shape[1], frame_bytes):
        seen = slice(max(frames.start - front, 0), frames.stop - front + depth - 1)
        part = video[items, seen]
        plane = with_border(part, border, True, silu) if copies else part.contiguous()
        residual = video[items, frames].permute(0, 4, 1, 2, 3) if same else None
        missing = max(front - frames.start, 0)
        convolve_plane(
            plane, weight, bias, residual, y=y[items, frames], front=missing, zeros=True
        )  # fmt: skip
    if shortcut is not None and not same:
        plan_shortcut(video.contiguous(), y, shortcut).run()


def _gather(
    video: Tensor, weight: Tensor, bias: Tensor | None, y: Tensor, stride: Sequence[int],
    scale: Sequence[int], border: Border, config: Config, silu: bool, shortcut: Shortcut | None,
) -> None:  # fmt: skip
    """Write y [B, T', H', W', O] from video [B, T, H, W, C] of any strides."""
    seen = with_border(video, NO_BORDER, True, True) if silu else video.contiguous()
    added = None
    if shortcut is not None:
        added = (video.contiguous() if silu else seen, shortcut)
    plan_gather(
        seen, packed_weight(weight, config), bias, y, weight.shape[2:], stride,
        border, config, True, scale, added,
    ).run()  # fmt: skip
