"""Cases of upsample_conv3d: small ones to check, the HunyuanVAE's to measure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ..causal_conv3d.cases import bytes as bytes
from ..causal_conv3d.cases import flops as flops
from ..inputs import Draw, elements
from .reference import output_size


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One problem: x is [batch, channels, *size], weight [out_channels, channels, *kernel].

    Outputs have about unit variance; `slack` is what transforms (Winograd) may add to the error of
    a sum of products in fp32.
    """

    name: str
    batch: int = 1
    channels: int
    out_channels: int
    size: tuple[int, int, int]
    scale: tuple[int, int, int] = (2, 2, 2)
    kernel: tuple[int, int, int] = (3, 3, 3)
    bias: bool = True
    gather: bool = False
    slack: float = 2e-5

    @property
    def x_shape(self) -> tuple[int, ...]:
        """Shape of x."""
        return (self.batch, self.channels, *self.size)

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Shape of the weight."""
        return (self.out_channels, self.channels, *self.kernel)

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
    fan_in = elements(case.weight_shape[1:])
    x = draw.normal(*case.x_shape)
    weight = draw.normal(*case.weight_shape, std=fan_in**-0.5)
    bias = draw.normal(case.out_channels) if case.bias else None
    arguments = (x, weight, bias, case.scale)
    return (*arguments, True) if case.gather else arguments
