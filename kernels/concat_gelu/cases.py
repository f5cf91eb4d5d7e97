"""Cases of concat_gelu: small ones to check, Open-Sora v2's single blocks to measure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ..inputs import Draw


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One problem: a is [batch, length, first], x [batch, length, second]."""

    name: str
    batch: int = 1
    length: int
    first: int = 3072
    second: int = 4 * 3072

    @property
    def tokens(self) -> int:
        """Number of rows."""
        return self.batch * self.length


CHECK = (
    Case(name="batch", batch=3, length=7, first=24, second=48),
    Case(name="primes", batch=2, length=5, first=17, second=31),
    Case(name="tiles", length=3, first=1100, second=1500),
    Case(name="ones", length=1, first=1, second=1),
    Case(name="empty", batch=0, length=4, first=3, second=8),
)

BENCH = (
    Case(name="cpu.block", batch=2, length=1024, first=256, second=1024),
    Case(name="256px", length=512 + 33 * 12 * 21),
    Case(name="768px", length=512 + 33 * 36 * 64),
)

HUGE = Case(name="768px.guided", batch=3, length=512 + 33 * 36 * 64)

DIFFERENTIABLE = (0, 1)


def make_inputs(
    case: Case, device: torch.device | str, dtype: torch.dtype, seed: int = 0
) -> tuple[Any, ...]:
    """Arguments of concat_gelu."""
    draw = Draw(device, dtype, seed)
    return tuple(draw.normal(case.batch, case.length, n) for n in (case.first, case.second))


def flops(case: Case, backward: bool = False) -> int:
    """Those of gelu on x."""
    return case.tokens * case.second * (16 if backward else 8)


def bytes(case: Case, itemsize: int = 2, backward: bool = False) -> int:
    """Least traffic: both inputs read and written once; backwards three passes over x's part."""
    if backward:
        return itemsize * case.tokens * 3 * case.second
    return itemsize * case.tokens * 2 * (case.first + case.second)
