"""Cases of group_norm_silu: small ones to check, the HunyuanVAE's to measure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ..inputs import Draw, elements


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One problem: x is [batch, channels, *size].

    `slack` is the absolute error allowed where the statistics amplify rounding errors.
    """

    name: str
    batch: int = 1
    channels: int
    num_groups: int = 32
    size: tuple[int, ...]
    silu: bool = True
    mean: float = 0.0
    wide_parameters: bool = False
    slack: float = 0.0

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of x."""
        return (self.batch, self.channels, *self.size)


CHECK = (
    Case(name="video", batch=2, channels=12, num_groups=3, size=(3, 5, 7)),
    Case(name="plain", channels=8, num_groups=4, size=(2, 3, 4), silu=False),
    Case(name="tokens", batch=2, channels=6, num_groups=2, size=(13,)),
    Case(name="fp32-parameters", channels=8, num_groups=2, size=(2, 4, 4), wide_parameters=True),
    Case(name="offset", channels=8, num_groups=2, size=(3, 4, 4), mean=30.0, slack=1e-4),
    Case(name="one-group", channels=5, num_groups=1, size=(2, 1, 17)),
    Case(name="one-value", channels=4, num_groups=4, size=(1, 1, 1), slack=1e-4),
    Case(name="empty", batch=0, channels=4, num_groups=2, size=(2, 3, 3)),
)

# The HunyuanVAE on 129 frames, 192x336 ("256px") and 576x1024 ("768px"), by tiles of 256 pixels.
BENCH = (
    Case(name="cpu.block", channels=128, size=(5, 64, 64)),
    Case(name="256px.decode.mid", channels=512, size=(33, 24, 32)),
    Case(name="256px.decode.up3", channels=128, size=(129, 192, 256)),
    Case(name="768px.attention", channels=512, size=(33 * 32 * 32,), silu=False),
    Case(name="768px.decode.mid", channels=512, size=(33, 32, 32)),
    Case(name="768px.decode.up0", channels=512, size=(33, 64, 64)),
    Case(name="768px.decode.up1", channels=512, size=(65, 128, 128)),
    Case(name="768px.decode.up2", channels=256, size=(129, 256, 256)),
    Case(name="768px.decode.up3", channels=128, size=(129, 256, 256)),
)

HUGE = Case(name="768px.untiled", channels=128, size=(129, 576, 1024))

DIFFERENTIABLE = (0, 1, 2)


def make_inputs(
    case: Case, device: torch.device | str, dtype: torch.dtype, seed: int = 0
) -> tuple[Any, ...]:
    """Arguments of group_norm_silu."""
    draw = Draw(device, dtype, seed)
    x = draw.normal(*case.shape, mean=case.mean)
    weight = draw.normal(case.channels, mean=1.0, std=0.5, wide=case.wide_parameters)
    bias = draw.normal(case.channels, wide=case.wide_parameters)
    return x, weight, bias, case.num_groups, 1e-6, case.silu


def flops(case: Case, backward: bool = False) -> int:
    """Operations per element: statistics 4, affine 2, SiLU 4; about twice that backwards."""
    return elements(case.shape) * (20 if backward else 10)


def bytes(case: Case, itemsize: int = 2, backward: bool = False) -> int:
    """Least traffic: x (and the gradient) read once, one output written."""
    return itemsize * elements(case.shape) * (3 if backward else 2)
