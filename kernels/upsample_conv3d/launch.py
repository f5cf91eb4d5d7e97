"""What the Triton kernels of upsample_conv3d can run, and how they are launched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ..causal_conv3d import launch_backward as conv
from ..common.availability import triton_why_not
from ..common.launch import cdiv, next_power_of_two

SCALES = ((1, 2, 2), (2, 2, 2))
KERNEL = (3, 3, 3)
MAX_ROWS = 2**31  # rows of the difference tensors, counted in 32 bits
MAX_WEIGHT = 2**31  # elements of the packed weight, likewise


def why_not(x: Tensor, weight: Tensor, bias: Tensor | None, scale: Sequence[int]) -> str | None:
    """Return why the forward kernels cannot serve a call, or None."""
    tensors = (x, weight) if bias is None else (x, weight, bias)
    return not_served(x, weight, scale) or why_not_rows(x) or triton_why_not(*tensors)


def why_not_rows(x: Tensor) -> str | None:
    """Return which size exceeds what the forward kernels count, or None."""
    batch, _, frames, height, width = x.shape
    rows = 2 * batch * frames * (height + 2) * (width + 1)
    if rows + width + 2 >= MAX_ROWS:
        return f"x has {rows} rows of channels with its differences, at most {MAX_ROWS} are counted"
    return None


def backward_why_not(
    grad: Tensor, x: Tensor, weight: Tensor, scale: Sequence[int], needs: Sequence[bool]
) -> str | None:
    """Return why the backward kernels cannot serve a call, or None."""
    return (
        not_served(x, weight, scale)
        or conv.not_served(grad, x, weight, geometry(scale))
        or triton_why_not(grad, x, weight)
    )


def geometry(scale: Sequence[int]) -> conv.Geometry:
    """How positions of x and of the output meet: four summed taps along a doubled axis."""
    doubled = scale[0] == 2
    return conv.Geometry(
        kernel=(4 if doubled else 3, 4, 4),
        stride=(1, 1, 1),
        scale=(2 if doubled else 1, 2, 2),
        front=(1 if doubled else 2, 1, 1),
        repeats=True,
    )


def not_served(x: Tensor, weight: Tensor, scale: Sequence[int]) -> str | None:
    """Return why neither forward nor backward kernels serve these sizes, or None."""
    if tuple(weight.shape[2:]) != KERNEL:
        return f"the kernels serve 3x3x3 convolutions, weight has {list(weight.shape[2:])}"
    if tuple(scale) not in SCALES:
        return f"the kernels serve the scales (1, 2, 2) and (2, 2, 2), not {tuple(scale)}"
    if x.numel() == 0 or weight.numel() == 0:
        return "a tensor is empty"
    if 4 * weight.numel() >= MAX_WEIGHT:
        return f"the weight has {weight.numel()} elements, less than {MAX_WEIGHT // 4} are served"
    return None


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """What the choice depends on."""

    channels: int
    out_channels: int
    half_precision: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """One program: ``block_m`` low-resolution positions, two columns each, ``block_n`` channels."""

    descriptors: bool
    block_m: int
    block_n: int
    block_k: int
    num_warps: int
    num_stages: int

    def padded(self, channels: int, out_channels: int) -> tuple[int, int]:
        """Channels and output channels as the packed tensors hold them: whole blocks."""
        return (
            cdiv(channels, self.block_k) * self.block_k,
            cdiv(out_channels, self.block_n) * self.block_n,
        )


def pick(problem: Problem, capability: int) -> Config:
    """Choose the launch: the largest tiles whose two accumulators spill no registers.

    Half precision: 128 x 128 on 8 warps. Boxes come by tensor descriptors where data-centre devices
    have them and 128 KB for four boxes of 64 channels; elsewhere by pointers, 32 channels each.
    fp32 multiplies without tensor cores, where smaller tiles do as well.
    """
    block_n = min(128, max(16, next_power_of_two(problem.out_channels)))
    channels = max(16, next_power_of_two(problem.channels))
    if not problem.half_precision:
        return Config(
            descriptors=False,
            block_m=64,
            block_n=min(64, block_n),
            block_k=16,
            num_warps=8,
            num_stages=3,
        )
    descriptors = 90 <= capability < 120
    return Config(
        descriptors=descriptors,
        block_m=128,
        block_n=block_n,
        block_k=min(64 if descriptors else 32, channels),
        num_warps=8,
        num_stages=4,
    )
