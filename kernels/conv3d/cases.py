"""Cases of conv3d: small ones to check, the Video DC-AE's to measure."""

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

    stride: tuple[int, int, int] = (1, 1, 1)
    scale: tuple[int, int, int] = (1, 1, 1)
    silu: bool = False
    shortcut: bool = False
    pad_rows: bool = True

    @property
    def y_shape(self) -> tuple[int, ...]:
        """Shape of the output."""
        size = output_size(self.size, self.kernel, self.stride, self.scale, self.pad_rows)
        return (self.batch, self.out_channels, *size)


_SPACE, _TIME = (1, 2, 2), (2, 2, 2)

CHECK = (
    Case(name="plain", batch=2, channels=5, out_channels=7, size=(3, 5, 7)),
    Case(name="block", channels=16, out_channels=16, size=(4, 6, 5), silu=True, bias=False),
    Case(name="image", channels=8, out_channels=9, size=(1, 4, 6), silu=True),
    Case(name="column", channels=16, out_channels=16, size=(2, 3, 1)),
    Case(name="pointwise", batch=2, channels=6, out_channels=4, size=(3, 2, 5), kernel=(1, 1, 1)),
    Case(name="to-pixels", channels=128, out_channels=3, size=(3, 3, 4)),
    Case(name="even-kernel", channels=3, out_channels=2, size=(2, 4, 3), kernel=(2, 1, 5)),
    Case(name="wide", channels=16, out_channels=136, size=(2, 3, 4)),
    # The shortcuts: averaging and repeating, in place and across scales.
    Case(name="averaging", channels=16, out_channels=4, size=(2, 3, 4), shortcut=True),
    Case(name="repeating", channels=4, out_channels=32, size=(2, 3, 2), shortcut=True),
    Case(name="identity", channels=8, out_channels=8, size=(3, 2, 3), shortcut=True, silu=True),
    Case(
        name="down-space",
        batch=2,
        channels=8,
        out_channels=16,
        size=(3, 4, 6),
        stride=_SPACE,
        shortcut=True,
    ),
    Case(name="down", channels=8, out_channels=16, size=(4, 6, 4), stride=_TIME, shortcut=True),
    Case(name="down-same", channels=8, out_channels=8, size=(2, 2, 4), stride=_TIME, shortcut=True),
    Case(name="down-plain", channels=17, out_channels=20, size=(3, 5, 7), stride=_TIME),
    Case(
        name="up-space",
        batch=2,
        channels=16,
        out_channels=8,
        size=(3, 2, 5),
        scale=_SPACE,
        shortcut=True,
    ),
    Case(name="up", channels=16, out_channels=8, size=(3, 3, 2), scale=_TIME, shortcut=True),
    Case(name="up-same", channels=8, out_channels=8, size=(1, 2, 3), scale=_TIME, shortcut=True),
    Case(name="up-plain", channels=17, out_channels=33, size=(2, 3, 4), scale=_TIME, silu=True),
    Case(name="up-wide", channels=16, out_channels=16, size=(1, 1, 67), scale=_SPACE),
    Case(name="up-other", channels=3, out_channels=4, size=(2, 2, 3), scale=(3, 1, 2)),
    # Slabs of rows, whose neighbours are there.
    Case(name="rows", channels=16, out_channels=16, size=(3, 7, 5), silu=True, pad_rows=False),
    Case(name="rows-one", channels=8, out_channels=12, size=(2, 3, 4), pad_rows=False),
    Case(
        name="rows-down", channels=8, out_channels=16, size=(2, 7, 6), stride=_SPACE, pad_rows=False
    ),
    Case(name="rows-to-pixels", channels=32, out_channels=3, size=(2, 4, 3), pad_rows=False),
    Case(name="empty", batch=0, channels=3, out_channels=2, size=(2, 3, 3)),
)

# The Video DC-AE (f32t4c128) on 8 frames of 256x256, and on tiles of 32 frames of 256x256.
BENCH = (
    Case(name="cpu.block", channels=128, out_channels=128, size=(4, 64, 64), silu=True),
    Case(
        name="cpu.decode.up0",
        channels=256,
        out_channels=128,
        size=(4, 64, 64),
        scale=_SPACE,
        shortcut=True,
    ),
    Case(
        name="cpu.encode.down0",
        channels=128,
        out_channels=256,
        size=(4, 64, 64),
        stride=_SPACE,
        shortcut=True,
    ),
    Case(name="cpu.decode.stage2", channels=512, out_channels=512, size=(8, 32, 32), silu=True),
    Case(name="tile.decode.stage0", channels=128, out_channels=128, size=(32, 256, 256), silu=True),
    Case(name="tile.decode.stage1", channels=256, out_channels=256, size=(32, 128, 128), silu=True),
    Case(name="tile.decode.stage2", channels=512, out_channels=512, size=(32, 64, 64), silu=True),
    Case(
        name="tile.decode.up0",
        channels=256,
        out_channels=128,
        size=(32, 128, 128),
        scale=_SPACE,
        shortcut=True,
    ),
    Case(
        name="tile.decode.up3",
        channels=1024,
        out_channels=512,
        size=(16, 16, 16),
        scale=_TIME,
        shortcut=True,
    ),
    Case(
        name="tile.encode.down0",
        channels=128,
        out_channels=256,
        size=(32, 256, 256),
        stride=_SPACE,
        shortcut=True,
    ),
    Case(name="tile.decode.project_out", channels=128, out_channels=3, size=(32, 256, 256)),
)

# 768px decoded without tiles: more than 2**31 elements.
HUGE = Case(name="768px.untiled", channels=128, out_channels=128, size=(128, 768, 768), silu=True)

DIFFERENTIABLE = (0, 1, 2)


def make_inputs(
    case: Case, device: torch.device | str, dtype: torch.dtype, seed: int = 0
) -> tuple[Any, ...]:
    """Arguments of conv3d."""
    draw = Draw(device, dtype, seed)
    x, weight, bias = operands(case, draw)
    return (x, weight, bias, case.stride, case.scale, case.silu, case.shortcut, case.pad_rows)
