"""What the Triton kernels of channel_duplicate_shuffle3d can run."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..common import pixel_shuffle_launch


def why_not(x: Tensor, out_channels: int, scale: Sequence[int], added: Tensor | None) -> str | None:
    """Return why the forward kernel cannot serve a call, or None."""
    return pixel_shuffle_launch.why_not(x, added)


def backward_why_not(grad: Tensor, channels: int, scale: Sequence[int]) -> str | None:
    """Return why the backward kernel cannot serve a call, or None."""
    return pixel_shuffle_launch.why_not(grad)
