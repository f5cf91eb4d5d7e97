"""Cases of upsample_conv3d: small ones to check, the HunyuanVAE's to measure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ..common.conv_cases import ConvCase, bytes, flops, operands
from ..inputs import Draw
from .reference import output_size

__all__ = ["BENCH", "CHECK", "DIFFERENTIABLE", "HUGE", "Case", "bytes", "flops", "make_inputs"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Case(ConvCase):
    """One problem: a convolution, and what is peculiar to this op."""

    scale: tuple[int, int, int] = (2, 2, 2)
    gather: bool = False

    @property
    def y_shape(self) -> tuple[int, ...]:
        """Shape of the output."""
        return (self.batch, self.out_channels, *output_size(self.size, self.scale))


CHECK = (
    Case(name="doubled", batch=2, channels=5, out_channels=7, size=(3, 3, 4)),
    Case(name="space", channels=17, out_channels=33, size=(3, 2, 5), scale=(1, 2, 2)),
    Case(name="image", channels=16, out_channels=4, size=(1, 3, 2), bias=False),
    Case(name="pixel", channels=4, out_channels=3, size=(2, 1, 1)),
    Case(name="wide", channels=16, out_channels=16, size=(1, 1, 67), scale=(1, 2, 2)),
    Case(name="other-scale", channels=3, out_channels=4, size=(2, 2, 3), scale=(3, 1, 2)),
    Case(name="other-kernel", channels=3, out_channels=2, size=(2, 3, 3), kernel=(1, 3, 1)),
    Case(name="moments", batch=2, channels=16, out_channels=24, size=(3, 4, 5), gather=True),
    Case(
        name="moments-space",
        channels=17,
        out_channels=9,
        size=(2, 3, 4),
        scale=(1, 2, 2),
        gather=True,
    ),
    Case(name="empty", batch=0, channels=3, out_channels=2, size=(2, 3, 3)),
)

# The upsamplers of the HunyuanVAE: of a small clip, and of a tile of 256 pixels and 129 frames.
BENCH = (
    Case(name="cpu.up1", channels=512, out_channels=512, size=(2, 32, 32)),
    Case(name="cpu.up2", channels=256, out_channels=256, size=(3, 64, 64)),
    Case(
        name="768px.decode.up0", channels=512, out_channels=512, size=(33, 32, 32), scale=(1, 2, 2)
    ),
    Case(name="768px.decode.up1", channels=512, out_channels=512, size=(33, 64, 64)),
    Case(name="768px.decode.up2", channels=256, out_channels=256, size=(65, 128, 128)),
)

# The last upsampler of 768px decoded without tiles: more than 2**31 elements.
HUGE = Case(name="768px.untiled", channels=256, out_channels=256, size=(65, 288, 512))

DIFFERENTIABLE = (0, 1, 2)


def make_inputs(
    case: Case, device: torch.device | str, dtype: torch.dtype, seed: int = 0
) -> tuple[Any, ...]:
    """Arguments of upsample_conv3d."""
    draw = Draw(device, dtype, seed)
    x, weight, bias = operands(case, draw)
    arguments = (x, weight, bias, case.scale)
    return (*arguments, True) if case.gather else arguments
