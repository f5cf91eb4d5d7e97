"""What the Triton kernels of conv3d can run, and which of them serve a call.

The kernels are those of causal_conv3d and upsample_conv3d, whose launch.py choose how each is
launched.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Literal

from torch import Tensor

from ..causal_conv3d import launch as conv
from ..causal_conv3d import launch_backward as conv_backward
from ..causal_conv3d.launch import Shortcut
from ..common.availability import triton_why_not
from ..common.launch import cdiv
from ..upsample_conv3d import launch as upsample
from . import reference

Way = Literal["doubled", "plane", "gather"]

# Pixels of the output, counted in 32 bits as those of the input are.
MAX_OUTPUTS: Final = conv.MAX_POSITIONS


def why_not(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    scale: Sequence[int],
    silu: bool,
    shortcut: bool,
    pad_rows: bool,
) -> str | None:
    """Return why the forward kernels cannot serve a call, or None."""
    tensors = (x, weight) if bias is None else (x, weight, bias)
    return triton_why_not(*tensors) or why_not_sizes(x, weight, stride, scale, shortcut, pad_rows)


def why_not_sizes(
    x: Tensor,
    weight: Tensor,
    stride: Sequence[int],
    scale: Sequence[int],
    shortcut: bool,
    pad_rows: bool = True,
) -> str | None:
    """Return which size exceeds what the forward kernels count, or None."""
    kernel = weight.shape[2:]
    # Rows and columns of zeros are those of causal_conv3d; frames of zeros are never stored.
    reason = conv.why_not_sizes(x, weight, "zeros")
    if not pad_rows and tuple(scale) != (1, 1, 1):
        return "an enlarged slab of rows without zeros above and below is not served"
    if reason is None and pick(kernel, stride, scale) == "doubled":
        reason = upsample.not_served(x, weight, scale) or upsample.why_not_rows(x)
    if reason is not None:
        return reason
    frames, height, width = reference.output_size(x.shape[2:], kernel, stride, scale, pad_rows)
    if x.shape[0] * frames * height * width > MAX_OUTPUTS:
        return f"the output has more than {MAX_OUTPUTS} pixels: {[frames, height, width]}"
    if shortcut:
        return _why_not_block(stride[0], x)
    return None


def backward_why_not(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    stride: Sequence[int],
    scale: Sequence[int],
    silu: bool,
    shortcut: bool,
    pad_rows: bool,
    needs: Sequence[bool],
) -> str | None:
    """Return why the backward kernels cannot serve a call, or None."""
    if not pad_rows:
        return "the gradient of a slab of rows without zeros above and below is not served"
    meeting = geometry(weight.shape[2:], stride, scale)
    reason = triton_why_not(grad, x, weight)
    reason = reason or conv_backward.not_served(grad, x, weight, meeting)
    return reason or (_why_not_block(scale[0], grad) if shortcut else None)


def _why_not_block(frames: int, fine: Tensor) -> str | None:
    """The frames of which one block of pixels is pooled are addressed in 32 bits."""
    size = frames * fine[0, :, 0].numel()
    if size > conv.MAX_FRAME_ELEMENTS:
        return f"{frames} frames have {size} elements, more than {conv.MAX_FRAME_ELEMENTS}"
    return None


def pick(kernel: Sequence[int], stride: Sequence[int], scale: Sequence[int]) -> Way:
    """Choose which kernels serve a convolution.

    "doubled": upsample_conv3d's, with 3 or 4.5 times fewer multiplications than on the enlarged
    video. "plane": causal_conv3d's for a stride of 1, on frames with their border written; it may
    still decide to look every pixel up, which "gather" does for other strides and scales.
    """
    if tuple(scale) != (1, 1, 1):
        doubles = tuple(kernel) == upsample.KERNEL and tuple(scale) in upsample.SCALES
        return "doubled" if doubles else "gather"
    return "plane" if tuple(stride) == (1, 1, 1) else "gather"


def shortcut_of(
    channels: int, out_channels: int, stride: Sequence[int], scale: Sequence[int]
) -> Shortcut:
    """How a video of `channels` is added to one of `out_channels` (the check made sure it fits)."""
    down, up = stride[0] * stride[1] * stride[2], scale[0] * scale[1] * scale[2]
    if down > 1 or reference.averages(channels, out_channels, scale):
        return Shortcut(pools=True, group=channels * down // out_channels)
    return Shortcut(pools=False, group=out_channels * up // channels)


def geometry(
    kernel: Sequence[int], stride: Sequence[int], scale: Sequence[int]
) -> conv_backward.Geometry:
    """How positions of x and of the output meet.

    Along an enlarged axis output y sees pixel (y + k - k_size//2) // scale at tap k. With p that
    pixel's place behind `front` zeros, y = scale·p - m for m = `leading` + k + 0 ... scale - 1.
    """
    axes = list(zip(kernel, scale, strict=True))
    taps = (
        size + factor - 1 + first
        for (size, factor), first in zip(axes, leading(kernel, scale), strict=True)
    )
    front = (cdiv(size // 2 + factor - 1, factor) for size, factor in axes)
    return conv_backward.Geometry(
        kernel=_three(taps),
        stride=_three(stride),
        scale=_three(scale),
        front=_three(front),
        repeats=False,
    )


def leading(kernel: Sequence[int], scale: Sequence[int]) -> tuple[int, int, int]:
    """Taps in front of the summed ones that meet nothing."""
    axes = zip(kernel, scale, strict=True)
    # -n % factor is what cdiv(n, factor) has too much.
    return _three(-(size // 2 + factor - 1) % factor for size, factor in axes)


def _three(numbers: Iterable[int]) -> tuple[int, int, int]:
    first, second, third = numbers
    return first, second, third
