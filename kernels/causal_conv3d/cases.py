"""Cases of causal_conv3d: small ones to check, the HunyuanVAE's to measure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ..common.conv_cases import ConvCase, bytes, flops, operands
from ..inputs import Draw
from .reference import output_shape

__all__ = ["BENCH", "CHECK", "DIFFERENTIABLE", "HUGE", "Case", "bytes", "flops", "make_inputs"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Case(ConvCase):
    """One problem: a convolution, and what is peculiar to this op."""

    stride: tuple[int, int, int] = (1, 1, 1)
    pad_mode: str = "replicate"
    gather: bool = False

    @property
    def y_shape(self) -> tuple[int, ...]:
        """Shape of the output."""
        return output_shape(self.x_shape, self.weight_shape, self.stride, self.pad_mode)


CHECK = (
    Case(name="replicate", batch=2, channels=5, out_channels=7, size=(3, 5, 7)),
    Case(name="strided", channels=4, out_channels=3, size=(5, 7, 6), stride=(2, 2, 2)),
    Case(name="zeros", channels=8, out_channels=8, size=(4, 3, 5), pad_mode="zeros", bias=False),
    Case(
        name="valid", channels=3, out_channels=2, size=(4, 5, 3), stride=(2, 1, 3), pad_mode="valid"
    ),
    Case(name="pointwise", batch=2, channels=6, out_channels=4, size=(3, 2, 5), kernel=(1, 1, 1)),
    Case(name="image", channels=4, out_channels=6, size=(1, 4, 6), stride=(2, 2, 2)),
    Case(name="image-zeros", channels=4, out_channels=2, size=(1, 3, 3), pad_mode="zeros"),
    Case(name="column", channels=16, out_channels=16, size=(2, 3, 1)),
    Case(name="oblong-kernel", channels=2, out_channels=3, size=(2, 4, 3), kernel=(2, 1, 5)),
    Case(
        name="rows", batch=2, channels=5, out_channels=9, size=(3, 6, 7), pad_mode="replicate_rows"
    ),
    Case(
        name="rows-strided",
        channels=8,
        out_channels=8,
        size=(1, 6, 5),
        stride=(2, 2, 2),
        pad_mode="replicate_rows",
        gather=True,
    ),
    # Enough outputs for the widest tiles, and few outputs of many channels: forms of their own.
    Case(name="wide", channels=16, out_channels=136, size=(2, 3, 4), kernel=(1, 3, 3)),
    Case(
        name="wide-zeros",
        channels=16,
        out_channels=72,
        size=(2, 3, 2),
        kernel=(2, 3, 3),
        pad_mode="zeros",
    ),
    Case(name="to-pixels", channels=128, out_channels=3, size=(2, 3, 4)),
    Case(name="ones", channels=1, out_channels=1, size=(1, 1, 1)),
    Case(name="moments", batch=2, channels=16, out_channels=24, size=(3, 6, 9), gather=True),
    Case(
        name="moments-strided",
        channels=4,
        out_channels=20,
        size=(3, 7, 6),
        stride=(2, 2, 2),
        gather=True,
    ),
    Case(name="moments-narrow", channels=16, out_channels=3, size=(2, 4, 4), gather=True),
    Case(name="empty", batch=0, channels=3, out_channels=2, size=(2, 3, 3), gather=True),
)

# The HunyuanVAE on 129 frames, 192x336 ("256px") and 576x1024 ("768px"), by tiles of 256 pixels.
BENCH = (
    Case(name="cpu.block", channels=128, out_channels=128, size=(5, 64, 64)),
    Case(name="256px.decode.conv_in", channels=16, out_channels=512, size=(33, 24, 32)),
    Case(name="256px.decode.mid", channels=512, out_channels=512, size=(33, 24, 32)),
    Case(name="256px.decode.up3", channels=128, out_channels=128, size=(129, 192, 256)),
    Case(name="768px.encode.conv_in", channels=3, out_channels=128, size=(129, 256, 256)),
    Case(
        name="768px.encode.down1",
        channels=256,
        out_channels=256,
        size=(129, 128, 128),
        stride=(2, 2, 2),
    ),
    Case(name="768px.decode.mid", channels=512, out_channels=512, size=(33, 32, 32)),
    Case(name="768px.decode.up0", channels=512, out_channels=512, size=(33, 64, 64)),
    Case(name="768px.decode.up1", channels=512, out_channels=512, size=(65, 128, 128)),
    Case(name="768px.decode.up2", channels=256, out_channels=256, size=(129, 256, 256)),
    Case(name="768px.decode.up3", channels=256, out_channels=128, size=(129, 256, 256)),
    Case(
        name="768px.decode.shortcut",
        channels=256,
        out_channels=128,
        size=(129, 256, 256),
        kernel=(1, 1, 1),
    ),
    Case(name="768px.decode.conv_out", channels=128, out_channels=3, size=(129, 256, 256)),
)

# 768px decoded without tiles: more than 2**31 elements.
HUGE = Case(name="768px.untiled", channels=128, out_channels=128, size=(129, 576, 1024))

DIFFERENTIABLE = (0, 1, 2)


def make_inputs(
    case: Case, device: torch.device | str, dtype: torch.dtype, seed: int = 0
) -> tuple[Any, ...]:
    """Arguments of causal_conv3d."""
    draw = Draw(device, dtype, seed)
    x, weight, bias = operands(case, draw)
    arguments = (x, weight, bias, case.stride, case.pad_mode)
    return (*arguments, True) if case.gather else arguments
