"""What pixel_unshuffle_average3d and channel_duplicate_shuffle3d share.

Both relate a large video [B, D, T·sT, H·sH, W·sW] to a small one [B, C, T, H, W]. Moving blocks of
pixels to channels makes unshuffled channel ((d·sT + i)·sH + j)·sW + k of pixel (i, j, k) of a block
of channel d; runs of `group` = D·sT·sH·sW / C of them belong to one channel of the small video. One
op and the other's gradient *gather* a group to its sum, the other two *spread* it again.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .. import contract


def check(op: str, x: Tensor, out_channels: int, scale: Sequence[int]) -> None:
    """Raise unless x is a video, out_channels a number of channels and scale three factors.

    Raises:
        TypeError: x is not a floating-point tensor.
        ValueError: x is not 5-D or has no channel, or a number is below 1.
    """
    contract.check_tensors(op, x=x)
    if x.dim() != 5 or x.shape[1] < 1:
        raise ValueError(
            f"{op}: x must be [B, C, T, H, W] with at least one channel, got shape {list(x.shape)}"
        )
    if out_channels < 1:
        raise ValueError(f"{op}: out_channels must be at least 1, got {out_channels}")
    if len(scale) != 3 or any(factor < 1 for factor in scale):
        raise ValueError(f"{op}: scale must be three numbers of at least 1, got {list(scale)}")


def check_added(op: str, x: Tensor, added: Tensor | None, shape: tuple[int, ...]) -> None:
    """Raise unless `added` is None or a tensor of the output's shape.

    Raises:
        TypeError: it is not a floating-point tensor.
        ValueError: shape or device do not fit.
    """
    if added is None:
        return
    contract.check_tensors(op, x=x, added=added)
    contract.check_shape(op, "added", added, shape)


def size_of_small(size: Sequence[int], scale: Sequence[int]) -> tuple[int, int, int]:
    """T, H, W of the small video of a large one of this size."""
    frames, height, width = (length // step for length, step in zip(size, scale, strict=True))
    return frames, height, width


def size_of_large(size: Sequence[int], scale: Sequence[int]) -> tuple[int, int, int]:
    """T, H, W of the large video of a small one of this size."""
    frames, height, width = (length * step for length, step in zip(size, scale, strict=True))
    return frames, height, width


def new_video(
    like: Tensor, channels: int, size: Sequence[int], dtype: torch.dtype | None = None
) -> Tensor:
    """An empty video of the device and layout of another, and, unless given, of its dtype."""
    return torch.empty(
        (like.shape[0], channels, *size),
        dtype=dtype or like.dtype,
        device=like.device,
        memory_format=contract.layout_of(like),
    )


def save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    """Keep what `gradients` needs of a call: no tensor."""
    x, _, ctx.scale, added = inputs
    ctx.channels = x.shape[1]
    ctx.added_dtype = None if added is None else added.dtype


def gradients(backward: Callable[..., Tensor], ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    """The gradients of an op's arguments, that of x by its backward op."""
    dx = backward(grad, ctx.channels, ctx.scale) if ctx.needs_input_grad[0] else None
    dadded = grad.to(ctx.added_dtype) if ctx.needs_input_grad[3] else None
    return dx, None, None, dadded


@dataclass(frozen=True, slots=True)
class Split:
    """How a group lies in a large video: `inner` channels by a box of pixels of a block.

    Channels and every axis of a block are cut in two, the group being what is inside: views of
    both videos then tell the whole relation, and nothing needs to be moved first.
    """

    channels: tuple[int, int]
    factors: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]

    @classmethod
    def of(cls, large_channels: int, small_channels: int, scale: Sequence[int]) -> Split | None:
        """Find the split, or None where a group is no box."""
        left = large_channels * scale[0] * scale[1] * scale[2] // small_channels
        parts: list[tuple[int, int]] = []
        for extent in (scale[2], scale[1], scale[0], large_channels):
            inner = extent if left % extent == 0 else left
            if extent % inner:
                return None
            parts.append((extent // inner, inner))
            left //= inner
        columns, rows, times, channels = parts
        return cls(channels, (times, rows, columns))

    def of_large(self, large: Tensor) -> Tensor:
        """View a large video: a group's channels and pixels are axes 2, 5, 8 and 11."""
        shape: list[int] = [large.shape[0], *self.channels]
        for length, (outer, inner) in zip(large.shape[2:], self.factors, strict=True):
            shape += [length // (outer * inner), outer, inner]
        return large.view(shape)

    def of_small(self, small: Tensor) -> Tensor:
        """View a small video alike, with one element on the axes of a group."""
        batch, _, frames, height, width = small.shape
        (times, _), (rows, _), (columns, _) = self.factors
        view = small.view(batch, self.channels[0], times, rows, columns, frames, height, width)
        view = view.permute(0, 1, 5, 2, 6, 3, 7, 4)
        return view[:, :, None, :, :, None, :, :, None, :, :, None]


def gather(
    large: Tensor, small_channels: int, scale: Sequence[int], factor: float, added: Tensor | None
) -> Tensor:
    """Return `factor` times the sum of every group, plus `added`, rounded once."""
    split = Split.of(large.shape[1], small_channels, scale)
    assert split is not None, "why_not has not been asked"
    dtype = contract.wide(large.dtype)
    sums = new_video(large, small_channels, size_of_small(large.shape[2:], scale), dtype)
    view, total = split.of_large(large), split.of_small(sums)
    # One sum over all axes of a group would be several times slower than a pass for every pixel.
    for number, (i, j, k) in enumerate(
        itertools.product(*(range(inner) for _, inner in split.factors))
    ):
        pixels = view[:, :, :, :, :, i : i + 1, :, :, j : j + 1, :, :, k : k + 1]
        if split.channels[1] > 1:
            pixels = pixels.sum(2, keepdim=True, dtype=dtype)
        if number == 0:
            total.copy_(pixels)
        else:
            total.add_(pixels)
    if factor != 1:
        sums.mul_(factor)
    if added is not None:
        sums.add_(added)
    return sums.to(large.dtype)


def spread(
    small: Tensor, large_channels: int, scale: Sequence[int], factor: float, added: Tensor | None
) -> Tensor:
    """Return `factor` times the small video at all places of every group, plus `added`."""
    split = Split.of(large_channels, small.shape[1], scale)
    assert split is not None, "why_not has not been asked"
    large = new_video(small, large_channels, size_of_large(small.shape[2:], scale))
    out, source = split.of_large(large), split.of_small(small)
    if added is not None:
        torch.add(split.of_large(added), source, alpha=factor, out=out)
    elif factor == 1:
        out.copy_(source.expand(out.shape))
    else:
        torch.mul(source.expand(out.shape), factor, out=out)
    return large


def why_not_box(
    video: Tensor, large_channels: int, small_channels: int, scale: Sequence[int]
) -> str | None:
    """Say why `gather` and `spread` cannot serve a call, or return None."""
    if video.numel() == 0:
        return "the tensor is empty"
    if Split.of(large_channels, small_channels, scale) is None:
        return (
            f"{large_channels} channels of blocks of {list(scale)} pixels, shared out among "
            f"{small_channels} channels, make groups that are no boxes"
        )
    return None
