"""Cases of quantized_linear: small ones to check, Open-Sora v2's layers to measure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ..inputs import Draw
from ..quantize_rows import reference as quantize_rows


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One problem: x is [batch, length, width_in], y is [batch, length, width_out]."""

    name: str
    batch: int = 1
    length: int
    width_in: int = 3072
    width_out: int = 3072
    format: str = "int8"
    bias: bool = True

    @property
    def tokens(self) -> int:
        """Number of rows."""
        return self.batch * self.length


CHECK = (
    Case(name="batch", batch=3, length=7, width_in=48, width_out=24),
    Case(name="fp8", batch=2, length=5, width_in=32, width_out=48, format="fp8"),
    Case(name="primes", batch=2, length=5, width_in=31, width_out=17, bias=False),
    Case(name="fp8-primes", length=7, width_in=37, width_out=19, format="fp8", bias=False),
    Case(name="tiles", length=66, width_in=144, width_out=272),
    Case(name="fp8-tiles", length=66, width_in=144, width_out=272, format="fp8"),
    Case(name="ones", length=1, width_in=1, width_out=1),
    Case(name="no-token", batch=2, length=0, width_in=8, width_out=8),
    Case(name="empty", batch=0, length=4, width_in=8, width_out=8),
)

BENCH = (
    Case(name="cpu.block", batch=2, length=1024, width_in=256, width_out=1024),
    Case(name="256px.qkv", length=33 * 12 * 21, width_out=3 * 3072),
    Case(name="256px.linear1", length=512 + 33 * 12 * 21, width_out=7 * 3072),
    Case(name="256px.linear2", length=512 + 33 * 12 * 21, width_in=5 * 3072),
    Case(name="768px.linear1", length=512 + 33 * 36 * 64, width_out=7 * 3072, format="fp8"),
    Case(name="768px.linear2", length=512 + 33 * 36 * 64, width_in=5 * 3072, format="fp8"),
)

HUGE = Case(name="768px.guided", batch=3, length=512 + 33 * 36 * 64, width_out=7 * 3072)

DIFFERENTIABLE = ()


def make_inputs(
    case: Case, device: torch.device | str, dtype: torch.dtype, seed: int = 0
) -> tuple[Any, ...]:
    """Arguments of quantized_linear: x, the quantised weight and its scales, bias."""
    draw = Draw(device, dtype, seed)
    x = draw.normal(case.batch, case.length, case.width_in)
    weight = draw.normal(case.width_out, case.width_in, std=case.width_in**-0.5)
    values, scales = quantize_rows.forward(weight, case.format)
    return x, values, scales, draw.normal(case.width_out) if case.bias else None


def flops(case: Case, backward: bool = False) -> int:
    """Multiplications and additions of the product."""
    return 2 * case.tokens * case.width_in * case.width_out


def bytes(case: Case, itemsize: int = 2, backward: bool = False) -> int:
    """Least traffic: x and the 8-bit weight read, y written."""
    activations = itemsize * case.tokens * (case.width_in + case.width_out)
    return activations + case.width_in * case.width_out
