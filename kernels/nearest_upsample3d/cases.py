"""Cases of nearest_upsample3d: small ones to check, the HunyuanVAE's to measure."""

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
    size: tuple[int, int, int]
    scale: tuple[int, int, int] = (2, 2, 2)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of x."""
        return (self.batch, self.channels, *self.size)

    @property
    def y_shape(self) -> tuple[int, ...]:
        """Shape of the output."""
        times, rows, columns = self.scale
        frames, height, width = self.size
        return (self.batch, self.channels, 1 + times * (frames - 1), rows * height, columns * width)


CHECK = (
    Case(name="video", batch=2, channels=3, size=(3, 5, 7)),
    Case(name="space", channels=4, size=(3, 2, 5), scale=(1, 2, 2)),
    Case(name="image", channels=3, size=(1, 3, 2)),
    Case(name="uneven", channels=2, size=(4, 3, 1), scale=(3, 1, 5)),
    Case(name="identity", channels=2, size=(2, 3, 3), scale=(1, 1, 1)),
    Case(name="empty", batch=0, channels=4, size=(2, 3, 3)),
)

# The HunyuanVAE on 129 frames, 192x336 ("256px") and 576x1024 ("768px"), by tiles of 256 pixels.
BENCH = (
    Case(name="cpu.block", channels=128, size=(3, 32, 32)),
    Case(name="256px.decode.up1", channels=512, size=(33, 48, 64)),
    Case(name="768px.decode.up0", channels=512, size=(33, 32, 32), scale=(1, 2, 2)),
    Case(name="768px.decode.up1", channels=512, size=(33, 64, 64)),
    Case(name="768px.decode.up2", channels=256, size=(65, 128, 128)),
)

HUGE = Case(name="768px.untiled", channels=256, size=(65, 288, 512))

DIFFERENTIABLE = (0,)


def make_inputs(
    case: Case, device: torch.device | str, dtype: torch.dtype, seed: int = 0
) -> tuple[Any, ...]:
    """Arguments of nearest_upsample3d."""
    return Draw(device, dtype, seed).normal(*case.shape), case.scale


def flops(case: Case, backward: bool = False) -> int:
    """None forwards; one addition per copy backwards."""
    return elements(case.y_shape) if backward else 0


def bytes(case: Case, itemsize: int = 2, backward: bool = False) -> int:
    """Least traffic, the same in both directions: one side read, the other written."""
    return itemsize * (elements(case.shape) + elements(case.y_shape))
