"""Cases of rms_norm3d: small ones to check, the Video DC-AE's to measure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ..inputs import Draw, elements


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One problem: x is [batch, channels, *size].

    `slack` is the absolute error allowed where the norm amplifies rounding errors.
    """

    name: str
    batch: int = 1
    channels: int
    size: tuple[int, int, int]
    activation: str = "none"
    bias: bool = True
    mean: float = 0.0
    wide_parameters: bool = False
    residual: bool = False
    slack: float = 0.0

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        """Shape of x."""
        return (self.batch, self.channels, *self.size)


CHECK = (
    Case(name="video", batch=2, channels=12, size=(3, 5, 7), activation="silu", residual=True),
    Case(name="plain", channels=32, size=(2, 3, 4)),
    Case(name="block", channels=24, size=(2, 5, 3), residual=True),
    Case(name="relu", batch=2, channels=7, size=(1, 5, 11), activation="relu"),
    Case(name="no-bias", channels=6, size=(2, 3, 3), activation="silu", bias=False),
    Case(name="fp32-parameters", channels=8, size=(2, 4, 4), wide_parameters=True),
    Case(name="offset", channels=130, size=(1, 3, 5), mean=30.0),
    Case(name="one-channel", channels=1, size=(2, 1, 17), slack=1e-4),
    Case(name="one-position", batch=3, channels=16, size=(1, 1, 1)),
    Case(name="no-frame", batch=2, channels=4, size=(0, 3, 3), residual=True),
    Case(name="empty", batch=0, channels=4, size=(2, 3, 3)),
)

# A tile of 32 frames of 256 x 256 pixels through the dc-ae-f32t4c128, whose blocks end in a norm
# and their input.
BENCH = (
    Case(name="cpu.block", channels=128, size=(5, 64, 64), residual=True),
    Case(name="tile.stage0", channels=128, size=(32, 256, 256), residual=True),
    Case(name="tile.stage1", channels=256, size=(32, 128, 128), residual=True),
    Case(name="tile.stage2", channels=512, size=(32, 64, 64), residual=True),
    Case(name="tile.stage3", channels=512, size=(32, 32, 32), residual=True),
    Case(name="tile.stage4", channels=1024, size=(16, 16, 16), residual=True),
    Case(name="tile.stage5", channels=1024, size=(8, 8, 8), residual=True),
    Case(name="tile.out", channels=128, size=(32, 256, 256), activation="relu"),
)

HUGE = Case(name="768px.untiled", channels=128, size=(128, 768, 768), residual=True)

DIFFERENTIABLE = (0, 1, 2, 5)


def make_inputs(
    case: Case, device: torch.device | str, dtype: torch.dtype, seed: int = 0
) -> tuple[Any, ...]:
    """Arguments of rms_norm3d."""
    draw = Draw(device, dtype, seed)
    x = draw.normal(*case.shape, mean=case.mean)
    weight = draw.normal(case.channels, mean=1.0, std=0.5, wide=case.wide_parameters)
    bias = draw.normal(case.channels, wide=case.wide_parameters) if case.bias else None
    residual = draw.normal(*case.shape) if case.residual else None
    return x, weight, bias, 1e-5, case.activation, residual


def flops(case: Case, backward: bool = False) -> int:
    """Per element: square and sum 2, affine 3, SiLU 4, residual 1; about twice that backwards."""
    per_element = 5 + 4 * (case.activation == "silu") + case.residual
    return elements(case.shape) * per_element * (2 if backward else 1)


def bytes(case: Case, itemsize: int = 2, backward: bool = False) -> int:
    """Least traffic: x (and the gradient, or the residual) read once, one output written."""
    return itemsize * elements(case.shape) * (3 if backward or case.residual else 2)
