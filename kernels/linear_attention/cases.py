"""Cases of linear_attention: small ones to check, the Video DC-AE's to measure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ..inputs import Draw, elements


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One problem: qkv is [batch, 3·channels, *size].

    `slack` is the absolute error allowed where a denominator is small.
    """

    name: str
    batch: int = 1
    channels: int
    size: tuple[int, int, int]
    head_dim: int = 32
    kernel: tuple[int, int, int] = (5, 5, 5)
    slack: float = 0.0

    @property
    def qkv_shape(self) -> tuple[int, ...]:
        """Shape of qkv."""
        return (self.batch, 3 * self.channels, *self.size)

    @property
    def y_shape(self) -> tuple[int, ...]:
        """Shape of the output."""
        return (self.batch, 2 * self.channels, *self.size)


CHECK = (
    Case(name="video", batch=2, channels=16, size=(3, 2, 5), head_dim=16),
    Case(name="released", channels=64, size=(3, 6, 9)),
    Case(name="image", batch=2, channels=32, size=(1, 5, 7)),
    Case(name="column", channels=32, size=(7, 3, 1)),
    Case(name="narrow-heads", channels=20, size=(2, 3, 4), head_dim=5),
    Case(name="wide-head", channels=48, size=(2, 3, 3), head_dim=48),
    Case(name="other-kernel", channels=16, size=(4, 3, 3), head_dim=16, kernel=(1, 3, 7)),
    Case(name="one-position", channels=32, size=(1, 1, 1)),
    Case(name="empty", batch=0, channels=32, size=(2, 3, 3)),
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

# Stage 3 of 128 frames of 1152x1152 without tiles: more than 2**31 elements.
HUGE = Case(name="1152px.untiled", channels=512, size=(128, 144, 144))

DIFFERENTIABLE = (0, 1, 2)


def make_inputs(
    case: Case, device: torch.device | str, dtype: torch.dtype, seed: int = 0
) -> tuple[Any, ...]:
    """Arguments of linear_attention; the aggregation keeps the variance."""
    draw = Draw(device, dtype, seed)
    qkv = draw.normal(*case.qkv_shape)
    channels = 3 * case.channels
    depth_weight = draw.normal(channels, 1, *case.kernel, std=elements(case.kernel) ** -0.5)
    point_weight = draw.normal(channels, case.head_dim, 1, 1, 1, std=case.head_dim**-0.5)
    return qkv, depth_weight, point_weight, case.head_dim, 1e-15


def flops(case: Case, backward: bool = False) -> int:
    """Multiplications and additions; backwards every product has two gradients."""
    aggregation = 3 * case.channels * (elements(case.kernel) + case.head_dim)
    attention = 2 * 2 * case.channels * (case.head_dim + 1)
    forward = 2 * case.batch * elements(case.size) * (aggregation + attention)
    return 3 * forward if backward else forward


def bytes(case: Case, itemsize: int = 2, backward: bool = False) -> int:
    """Least traffic: qkv (and the gradient) read once, the output written once."""
    qkv, y = elements(case.qkv_shape), elements(case.y_shape)
    weights = 3 * case.channels * (elements(case.kernel) + case.head_dim)
    return itemsize * (2 * qkv + y + 2 * weights if backward else qkv + y + weights)
