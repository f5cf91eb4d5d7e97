"""Cases of glu_mb_conv: small ones to check, the Video DC-AE's to measure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ..inputs import Draw, elements

_TAPS = 27


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One problem: x is [batch, channels, *size]; expand·channels channels are gated."""

    name: str
    batch: int = 1
    channels: int
    size: tuple[int, int, int]
    expand: int = 4
    out_channels: int | None = None
    slack: float = 0.0

    @property
    def x_shape(self) -> tuple[int, ...]:
        """Shape of x."""
        return (self.batch, self.channels, *self.size)

    @property
    def y_shape(self) -> tuple[int, ...]:
        """Shape of the output."""
        return (self.batch, self.out_channels or self.channels, *self.size)

    @property
    def width(self) -> int:
        """M: the gated channels."""
        return self.expand * self.channels

    @property
    def weights(self) -> int:
        """Elements of all parameters."""
        point = self.y_shape[1] * self.width
        return 2 * self.width * (self.channels + _TAPS + 2) + point


CHECK = (
    # The gradients of its biases cancel: sums of both signs.
    Case(name="video", batch=2, channels=4, size=(3, 4, 5), expand=2, slack=1e-6),
    Case(name="released", channels=16, size=(4, 5, 7)),
    Case(name="image", batch=2, channels=8, size=(1, 5, 3)),
    Case(name="column", channels=9, size=(6, 3, 1), out_channels=5),
    Case(name="row", channels=3, size=(2, 1, 19), expand=11, out_channels=17),
    Case(name="wide", channels=65, size=(2, 2, 3)),
    Case(name="one-position", channels=8, size=(1, 1, 1)),
    Case(name="empty", batch=0, channels=4, size=(2, 3, 3)),
)

# The Video DC-AE (f32t4c128) on 8 frames of 256x256, and on tiles of 32 frames of 256x256.
BENCH = (
    Case(name="cpu.stage3", channels=512, size=(8, 32, 32)),
    Case(name="cpu.stage4", channels=1024, size=(4, 16, 16)),
    Case(name="cpu.stage5", channels=1024, size=(2, 8, 8)),
    Case(name="tile.stage3", channels=512, size=(32, 32, 32)),
    Case(name="tile.stage4", channels=1024, size=(16, 16, 16)),
    Case(name="tile.stage5", channels=1024, size=(8, 8, 8)),
)

# Stage 3 of 128 frames of 1536x1536 without tiles: more than 2**31 elements.
HUGE = Case(name="1536px.untiled", channels=512, size=(128, 192, 192))

DIFFERENTIABLE = (0, 1, 2, 3, 4, 5)


def make_inputs(
    case: Case, device: torch.device | str, dtype: torch.dtype, seed: int = 0
) -> tuple[Any, ...]:
    """Arguments of glu_mb_conv; products keep the variance."""
    draw = Draw(device, dtype, seed)
    width = case.width
    return (
        draw.normal(*case.x_shape),
        draw.normal(2 * width, case.channels, 1, 1, 1, std=case.channels**-0.5),
        draw.normal(2 * width),
        draw.normal(2 * width, 1, 3, 3, 3, std=_TAPS**-0.5),
        draw.normal(2 * width),
        draw.normal(case.y_shape[1], width, 1, 1, 1, std=width**-0.5),
    )


def flops(case: Case, backward: bool = False) -> int:
    """Of the products and the taps; backwards everything again and every product's gradients."""
    forward = 2 * case.batch * elements(case.size) * case.weights
    return 3 * forward if backward else forward


def bytes(case: Case, itemsize: int = 2, backward: bool = False) -> int:
    """Least traffic: every input read once, every output written once."""
    x, y = elements(case.x_shape), elements(case.y_shape)
    return itemsize * (2 * x + y + 2 * case.weights if backward else x + y + case.weights)
