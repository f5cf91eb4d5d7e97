"""Mean and variance of every channel of a video, handed from the op that writes it to a norm.

They are a hint: a norm that is given them need not read the video once more. Whoever gathers them
takes them from the values it writes, before or after their last rounding.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .contract import wide
from .registry import Backend


def channel_moments(y: Tensor) -> Tensor:
    """Mean and variance (divided by the count) of every channel.

    Args:
        y: [B, C, T, H, W], any floating dtype.

    Returns:
        [B, 2, C], fp32 (fp64 for fp64): means, then variances.

    Numerics:
        Frame by frame in fp32, so that no wide copy of the whole exists; frames are combined by
        Chan's formula for equal counts.
    """
    if y.numel() == 0:
        return y.new_zeros((y.shape[0], 2, y.shape[1]), dtype=wide(y.dtype))
    frames = [
        torch.var_mean(frame.to(wide(y.dtype)), dim=(2, 3), correction=0) for frame in y.unbind(2)
    ]
    variances, means = (torch.stack(parts) for parts in zip(*frames, strict=True))
    mean = means.mean(0)
    return torch.stack([mean, variances.mean(0) + (means - mean).square().mean(0)], dim=1)


class MomentsOfParts:
    """Mean and variance of every channel of a video that is made part by part."""

    def __init__(self) -> None:
        self._count = 0
        self._merged: Tensor | None = None

    def add(self, moments: Tensor, part: Tensor) -> None:
        """Take in a part.

        Args:
            moments: [B, 2, C] of its channels.
            part: [B, C, ...]; only its size is looked at.

        Numerics:
            Chan's formula for two sets, in the dtype of the moments: no difference of squares.
        """
        count = part[0, 0].numel()
        before, self._count = self._count, self._count + count
        if self._merged is None:
            self._merged = moments
            return
        share = count / self._count
        (mean, variance), (other, spread) = self._merged.unbind(1), moments.unbind(1)
        apart = other - mean
        variance = (
            variance
            + share * (spread - variance)
            + (before * share / self._count) * (apart.square())
        )
        self._merged = torch.stack([mean + share * apart, variance], dim=1)

    def merged(self) -> Tensor:
        """The moments [B, 2, C] of all parts together."""
        assert self._merged is not None, "there are no parts"
        return self._merged


def group_moments(moments: Tensor, num_groups: int) -> tuple[Tensor, Tensor]:
    """Mean and variance of every group of channels.

    Args:
        moments: [B, 2, C] of the channels.
        num_groups: divides C.

    Returns:
        Two tensors [B, num_groups] of the same dtype.
    """
    means, variances = moments.unflatten(2, (num_groups, -1)).unbind(1)
    mean = means.mean(2)
    return mean, variances.mean(2) + (means - mean[..., None]).square().mean(2)


def group_statistics(moments: Tensor, num_groups: int, eps: float) -> tuple[Tensor, Tensor]:
    """Mean and 1 / deviation of every group, `1 / sqrt(variance + eps)`, as a norm takes them.

    Args:
        moments: [B, 2, C] of the channels.
        num_groups: divides C.
        eps: added to the variance.

    Returns:
        Two tensors [B, num_groups] of the same dtype.
    """
    mean, variance = group_moments(moments, num_groups)
    return mean, torch.rsqrt(variance + eps)


def channel_statistics(moments: Tensor, num_groups: int, eps: float) -> tuple[Tensor, Tensor]:
    """`group_statistics` of every channel's group: two tensors [B, C]."""
    width = moments.shape[2] // num_groups
    mean, root = group_statistics(moments, num_groups, eps)
    return mean.repeat_interleave(width, dim=1), root.repeat_interleave(width, dim=1)


def fake_moments(x: Tensor, y: Tensor, gather: bool) -> Tensor:
    """What `gather` adds to the outputs of an op, without values; no element if it is off."""
    shape = (y.shape[0], 2, y.shape[1]) if gather else (0,)
    return x.new_empty(shape, dtype=wide(x.dtype))


def gathered_after(run: Callable[..., Tensor], num_arguments: int) -> Callable[..., Any]:
    """Make of a function that returns y one that takes `gather` last and returns y and moments.

    Args:
        run: takes an op's arguments without those that concern moments.
        num_arguments: how many those are; what follows, but `gather`, is not handed on.

    Returns:
        The function; it takes the moments from y in a pass of their own.
    """

    @functools.wraps(run)
    def with_moments(*args: Any) -> tuple[Tensor, Tensor]:
        y = run(*args[:num_arguments])
        return y, channel_moments(y) if args[-1] else fake_moments(y, y, False)

    return with_moments


def row_gathering_after(row: Backend, num_arguments: int) -> Backend:
    """The row of a backend whose kernel gathers no moments: see `gathered_after`."""
    why_not = row.why_not
    return dataclasses.replace(
        row,
        run=gathered_after(row.run, num_arguments),
        why_not=None if why_not is None else lambda *args: why_not(*args[:num_arguments]),
    )
