"""Cases of quantize_rows: small ones to check, Open-Sora v2's activations to measure."""

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
    width: int = 3072
    format: str = "int8"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of x."""
        return (self.batch, self.length, self.width)


CHECK = (
    Case(name="batch", batch=3, length=7, width=48),
    Case(name="primes", batch=2, length=5, width=31),
    Case(name="fp8", batch=2, length=5, width=32, format="fp8"),
    Case(name="ones", length=1, width=1),
    Case(name="no-token", batch=2, length=0, width=8),
    Case(name="empty", batch=0, length=4, width=8),
)

BENCH = (
    Case(name="cpu.block", batch=2, length=1024, width=256),
    Case(name="256px", length=512 + 33 * 12 * 21),
    Case(name="256px.linear2", length=512 + 33 * 12 * 21, width=5 * 3072),
    Case(name="768px", length=512 + 33 * 36 * 64, format="fp8"),
)

HUGE = Case(name="768px.guided", batch=10, length=512 + 33 * 36 * 64)

DIFFERENTIABLE = ()


def make_inputs(
    case: Case, device: torch.device | str, dtype: torch.dtype, seed: int = 0
) -> tuple[Any, ...]:
    """Arguments of quantize_rows."""
    return Draw(device, dtype, seed).normal(*case.shape), case.format


def flops(case: Case, backward: bool = False) -> int:
    """Magnitude, maximum, product and rounding per element."""
    return 4 * elements(case.shape)


def bytes(case: Case, itemsize: int = 2, backward: bool = False) -> int:
    """Least traffic: x read, values and fp32 scales written."""
    return (itemsize + 1) * elements(case.shape) + 4 * case.batch * case.length
