"""Cases of pixel_unshuffle_average3d: small ones to check, the Video DC-AE's to measure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ..inputs import Draw, elements


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One problem: x is [batch, channels, *size]."""

    name: str
    batch: int = 1
    channels: int
    out_channels: int
    size: tuple[int, int, int]
    scale: tuple[int, int, int] = (2, 2, 2)
    added: bool = True
    wide_added: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of x."""
        return (self.batch, self.channels, *self.size)

    @property
    def y_shape(self) -> tuple[int, ...]:
        """Shape of the output."""
        frames, height, width = (n // s for n, s in zip(self.size, self.scale, strict=True))
        return (self.batch, self.out_channels, frames, height, width)


_SPACE = (1, 2, 2)

CHECK = (
    Case(name="video", batch=2, channels=16, out_channels=32, size=(4, 4, 6)),
    Case(name="few-channels", batch=2, channels=6, out_channels=12, size=(4, 6, 10)),
    Case(name="space", channels=8, out_channels=16, size=(3, 4, 34), scale=_SPACE),
    Case(name="same-channels", channels=5, out_channels=5, size=(2, 2, 6), added=False),
    Case(name="frames", batch=2, channels=3, out_channels=6, size=(4, 3, 5), scale=(2, 1, 1)),
    Case(name="channels-only", channels=40, out_channels=5, size=(2, 3, 3), scale=(1, 1, 1)),
    Case(name="wider-groups", channels=48, out_channels=8, size=(2, 4, 2), scale=_SPACE),
    Case(name="unshuffle", channels=3, out_channels=24, size=(2, 4, 6), added=False),
    Case(name="identity", channels=3, out_channels=3, size=(2, 3, 5), scale=(1, 1, 1)),
    Case(name="uneven", channels=4, out_channels=12, size=(3, 2, 5), scale=(3, 1, 5)),
    Case(name="no-box", channels=3, out_channels=2, size=(1, 4, 6), scale=_SPACE),
    Case(name="wide", channels=131, out_channels=262, size=(1, 2, 6), scale=_SPACE),
    Case(name="fp32-added", channels=4, out_channels=8, size=(2, 2, 4), wide_added=True),
    Case(name="no-frame", channels=4, out_channels=8, size=(0, 2, 2)),
    Case(name="empty", batch=0, channels=4, out_channels=8, size=(2, 2, 4)),
)

# A tile of 32 frames of 256 x 256 pixels through the encoder of the dc-ae-f32t4c128.
BENCH = (
    Case(name="cpu.block", channels=128, out_channels=256, size=(4, 64, 64), scale=_SPACE),
    Case(name="tile.down0", channels=128, out_channels=256, size=(32, 256, 256), scale=_SPACE),
    Case(name="tile.down1", channels=256, out_channels=512, size=(32, 128, 128), scale=_SPACE),
    Case(name="tile.down2", channels=512, out_channels=512, size=(32, 64, 64), scale=_SPACE),
    Case(name="tile.down3", channels=512, out_channels=1024, size=(32, 32, 32)),
    Case(name="tile.down4", channels=1024, out_channels=1024, size=(16, 16, 16)),
    Case(name="tile.out", channels=1024, out_channels=128, size=(8, 8, 8), scale=(1, 1, 1)),
)

HUGE = Case(
    name="768px.untiled", channels=128, out_channels=256, size=(128, 768, 768), scale=_SPACE
)

DIFFERENTIABLE = (0, 3)


def make_inputs(
    case: Case, device: torch.device | str, dtype: torch.dtype, seed: int = 0
) -> tuple[Any, ...]:
    """Arguments of pixel_unshuffle_average3d."""
    draw = Draw(device, dtype, seed)
    x = draw.normal(*case.shape)
    added = draw.normal(*case.y_shape, wide=case.wide_added) if case.added else None
    return x, case.out_channels, case.scale, added


def flops(case: Case, backward: bool = False) -> int:
    """One addition per element of x (`added` is about one of each group); backwards one product."""
    return elements(case.shape)


def bytes(case: Case, itemsize: int = 2, backward: bool = False) -> int:
    """Least traffic: one side read, the other written; forwards `added` is read, too."""
    small = elements(case.y_shape) * (2 if case.added and not backward else 1)
    return itemsize * (elements(case.shape) + small)
