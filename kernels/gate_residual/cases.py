"""Cases of gate_residual: small ones to check, Open-Sora v2's blocks to measure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ..inputs import Draw, elements


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One problem: x and branch are [batch, length, width]."""

    name: str
    batch: int = 1
    length: int
    width: int = 3072
    wide_stream: bool = False

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of x and of branch."""
        return (self.batch, self.length, self.width)


CHECK = (
    Case(name="batch", batch=3, length=7, width=48),
    Case(name="primes", batch=2, length=5, width=31),
    Case(name="tiles", length=3, width=1500),
    Case(name="fp32-stream", batch=2, length=3, width=16, wide_stream=True),
    Case(name="ones", length=1, width=1),
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
    """Arguments of gate_residual."""
    draw = Draw(device, dtype, seed)
    x = draw.normal(*case.shape, wide=case.wide_stream)
    return x, draw.normal(case.batch, case.width), draw.normal(*case.shape)


def flops(case: Case, backward: bool = False) -> int:
    """One multiplication and one addition per element; three operations backwards."""
    return elements(case.shape) * (3 if backward else 2)


def bytes(case: Case, itemsize: int = 2, backward: bool = False) -> int:
    """Least traffic: x and branch (backwards the gradient and branch) read, one output written."""
    passes, gates = (3, 2) if backward else (3, 1)
    return itemsize * (passes * elements(case.shape) + gates * case.batch * case.width)
