"""Cases of gelu: small ones to check, the hidden activations of Open-Sora v2's MLPs to measure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ..inputs import Draw, elements


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One problem: x is [batch, length, width]."""

    name: str
    batch: int = 1
    length: int
    width: int = 4 * 3072
    std: float = 1.0

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of x."""
        return (self.batch, self.length, self.width)


CHECK = (
    Case(name="batch", batch=3, length=7, width=48),
    Case(name="primes", batch=2, length=5, width=31),
    Case(name="tiles", length=3, width=1500),
    Case(name="large", length=3, width=64, std=8.0),
    Case(name="ones", length=1, width=1),
    Case(name="empty", batch=0, length=4, width=8),
)

BENCH = (
    Case(name="cpu.block", batch=2, length=1024, width=1024),
    Case(name="text", length=512),
    Case(name="256px", length=33 * 12 * 21),
    Case(name="768px", length=512 + 33 * 36 * 64),
)

HUGE = Case(name="768px.guided", batch=3, length=512 + 33 * 36 * 64)

DIFFERENTIABLE = (0,)


def make_inputs(
    case: Case, device: torch.device | str, dtype: torch.dtype, seed: int = 0
) -> tuple[Any, ...]:
    """Arguments of gelu."""
    return (Draw(device, dtype, seed).normal(*case.shape, std=case.std),)


def flops(case: Case, backward: bool = False) -> int:
    """Operations per element: polynomial 4, exponential and division 4; twice that backwards."""
    return elements(case.shape) * (16 if backward else 8)


def bytes(case: Case, itemsize: int = 2, backward: bool = False) -> int:
    """Least traffic: x (and the gradient) read, one output written."""
    return itemsize * elements(case.shape) * (3 if backward else 2)
