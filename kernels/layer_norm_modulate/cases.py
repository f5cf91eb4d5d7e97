"""Cases of layer_norm_modulate: small ones to check, Open-Sora v2's blocks to measure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ..inputs import Draw, elements


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One problem: x is [batch, length, width].

    `slack` is the absolute error allowed where the statistics amplify rounding errors.
    """

    name: str
    batch: int = 1
    length: int
    width: int = 3072
    mean: float = 0.0
    wide_parameters: bool = False
    slack: float = 0.0

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of x."""
        return (self.batch, self.length, self.width)


CHECK = (
    Case(name="batch", batch=3, length=7, width=48),
    Case(name="primes", batch=2, length=5, width=31),
    Case(name="offset", length=3, width=64, mean=30.0, slack=1e-5),
    Case(name="fp32-parameters", batch=2, length=3, width=16, wide_parameters=True),
    Case(name="one-channel", length=2, width=1, slack=1e-4),
    Case(name="no-token", batch=2, length=0, width=8),
    Case(name="empty", batch=0, length=4, width=8),
)

BENCH = (
    Case(name="cpu.block", batch=2, length=1024, width=256),
    Case(name="text", length=512),
    Case(name="256px", length=33 * 12 * 21),
    Case(name="256px.guided", batch=3, length=512 + 33 * 12 * 21),
    Case(name="768px", length=512 + 33 * 36 * 64),
)

HUGE = Case(name="768px.guided", batch=10, length=512 + 33 * 36 * 64)

DIFFERENTIABLE = (0, 1, 2)


def make_inputs(
    case: Case, device: torch.device | str, dtype: torch.dtype, seed: int = 0
) -> tuple[Any, ...]:
    """Arguments of layer_norm_modulate."""
    draw = Draw(device, dtype, seed)
    x = draw.normal(*case.shape, mean=case.mean)
    shift, scale = (
        draw.normal(case.batch, case.width, std=0.5, wide=case.wide_parameters) for _ in range(2)
    )
    return x, shift, scale, 1e-6


def flops(case: Case, backward: bool = False) -> int:
    """Operations per element: statistics 4, affine 4; about twice that backwards."""
    return elements(case.shape) * (16 if backward else 8)


def bytes(case: Case, itemsize: int = 2, backward: bool = False) -> int:
    """Least traffic: x (and the gradient) and the modulation read, outputs written."""
    modulation = 2 * case.batch * case.width
    passes = (3, 2) if backward else (2, 1)
    return itemsize * (passes[0] * elements(case.shape) + passes[1] * modulation)
