"""Cases of group_norm_silu_conv3d: small ones to check, the HunyuanVAE's to measure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ..common.conv_cases import ConvCase, flops, weight_and_bias
from ..inputs import Draw, elements
from ..moments import channel_moments
from .reference import output_shape

__all__ = ["BENCH", "CHECK", "DIFFERENTIABLE", "HUGE", "Case", "bytes", "flops", "make_inputs"]

EPS = 1e-6


@dataclass(frozen=True, kw_only=True, slots=True)
class Case(ConvCase):
    """One problem: a convolution, and what is peculiar to this op."""

    groups: int
    residual: bool = True
    moments: bool = False
    gather: bool = False
    pad_rows: bool = True

    @property
    def y_shape(self) -> tuple[int, ...]:
        """Shape of the output."""
        return output_shape(self.x_shape, self.weight_shape, self.pad_rows)


CHECK = (
    Case(name="block", batch=2, channels=8, out_channels=9, groups=4, size=(3, 5, 6)),
    Case(name="image", channels=16, out_channels=16, groups=2, size=(1, 4, 5)),
    Case(name="even", channels=20, out_channels=24, groups=5, size=(4, 3, 4), residual=False),
    Case(name="to-pixels", channels=16, out_channels=3, groups=8, size=(2, 4, 4), residual=False),
    Case(name="wide", channels=16, out_channels=136, groups=4, size=(2, 2, 3), kernel=(2, 3, 3)),
    Case(name="pixel", channels=32, out_channels=8, groups=2, size=(3, 1, 1), bias=False),
    Case(name="pointwise", channels=6, out_channels=4, groups=3, size=(2, 3, 2), kernel=(1, 1, 1)),
    Case(
        name="moments",
        batch=2,
        channels=16,
        out_channels=24,
        groups=4,
        size=(3, 6, 9),
        moments=True,
        gather=True,
    ),
    Case(
        name="pointwise-moments",
        channels=6,
        out_channels=20,
        groups=3,
        size=(2, 3, 2),
        kernel=(1, 1, 1),
        moments=True,
        gather=True,
    ),
    # Rows of a larger video, whose moments are others.
    Case(
        name="rows",
        batch=2,
        channels=16,
        out_channels=24,
        groups=4,
        size=(3, 5, 6),
        moments=True,
        gather=True,
        pad_rows=False,
    ),
    Case(
        name="rows-to-pixels",
        channels=16,
        out_channels=3,
        groups=8,
        size=(1, 3, 4),
        residual=False,
        moments=True,
        pad_rows=False,
    ),
    # More than one tile of the kernels that take whole tiles of channels.
    Case(name="tiles", channels=128, out_channels=128, groups=32, size=(2, 2, 17)),
    Case(name="empty", batch=0, channels=4, out_channels=2, groups=2, size=(2, 3, 3)),
)

# The resnet blocks of the HunyuanVAE: of a small clip, and of a tile of 256 pixels and 129 frames.
BENCH = (
    Case(name="cpu.up3", channels=128, out_channels=128, groups=32, size=(5, 128, 128)),
    Case(name="cpu.up2", channels=256, out_channels=256, groups=32, size=(3, 64, 64)),
    Case(name="cpu.up1", channels=512, out_channels=512, groups=32, size=(2, 32, 32)),
    Case(name="cpu.clip", channels=128, out_channels=128, groups=32, size=(17, 128, 128)),
    Case(name="768px.decode.up1", channels=512, out_channels=512, groups=32, size=(65, 128, 128)),
    Case(name="768px.decode.up2", channels=256, out_channels=256, groups=32, size=(129, 256, 256)),
    Case(name="768px.decode.up3", channels=128, out_channels=128, groups=32, size=(129, 256, 256)),
)

# 768px decoded without tiles: more than 2**31 elements.
HUGE = Case(name="768px.untiled", channels=128, out_channels=128, groups=32, size=(129, 576, 1024))

DIFFERENTIABLE = (0, 1, 2, 4, 5, 6)


def make_inputs(
    case: Case, device: torch.device | str, dtype: torch.dtype, seed: int = 0
) -> tuple[Any, ...]:
    """Arguments of group_norm_silu_conv3d."""
    draw = Draw(device, dtype, seed)
    x = draw.normal(*case.x_shape)
    norm_weight = draw.normal(case.channels, mean=1.0, std=0.2)
    norm_bias = draw.normal(case.channels, std=0.2)
    weight, bias = weight_and_bias(case, draw)
    residual = draw.normal(*case.y_shape) if case.residual else None
    moments = channel_moments(x) if case.moments else None
    arguments = (x, norm_weight, norm_bias, case.groups, weight, bias, residual, EPS)
    if not case.pad_rows and moments is not None:
        moments = 1.5 * moments + 0.1
        return (*arguments, moments, case.gather, False)
    return (*arguments, moments, case.gather) if case.moments or case.gather else arguments


def bytes(case: Case, itemsize: int = 2, backward: bool = False) -> int:
    """Least traffic: x twice, because of its statistics, everything else once."""
    x, weight, y = elements(case.x_shape), elements(case.weight_shape), elements(case.y_shape)
    if backward:
        return itemsize * (3 * x + 2 * weight + y)
    return itemsize * (2 * x + weight + (2 * y if case.residual else y))
