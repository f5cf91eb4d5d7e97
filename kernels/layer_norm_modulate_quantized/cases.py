"""Cases of layer_norm_modulate_quantized: layer_norm_modulate's, in both formats."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ..inputs import elements
from ..layer_norm_modulate import cases as plain


@dataclass(frozen=True, kw_only=True, slots=True)
class Case(plain.Case):
    """One problem; the `slack` of its values is the distance of two neighbours."""

    format: str = "int8"

    @property
    def slack_of_outputs(self) -> tuple[float, float]:
        """Where two sums differ in the last bit, a value may be rounded to the other neighbour."""
        return (1.0 if self.format == "int8" else 32.0), 1e-6


CHECK = (
    Case(name="batch", batch=3, length=7, width=48),
    Case(name="fp8", batch=2, length=5, width=32, format="fp8"),
    Case(name="primes", batch=2, length=5, width=31),
    Case(name="fp32-parameters", batch=2, length=3, width=16, wide_parameters=True),
    Case(name="no-token", batch=2, length=0, width=8),
    Case(name="empty", batch=0, length=4, width=8),
)

BENCH = (
    Case(name="cpu.block", batch=2, length=1024, width=256),
    Case(name="256px", length=512 + 33 * 12 * 21),
    Case(name="768px", length=512 + 33 * 36 * 64, format="fp8"),
)

HUGE = Case(name="768px.guided", batch=10, length=512 + 33 * 36 * 64)

DIFFERENTIABLE = ()


def make_inputs(
    case: Case, device: torch.device | str, dtype: torch.dtype, seed: int = 0
) -> tuple[Any, ...]:
    """Arguments of layer_norm_modulate_quantized."""
    x, shift, scale, eps = plain.make_inputs(case, device, dtype, seed)
    return x, shift, scale, case.format, eps


def flops(case: Case, backward: bool = False) -> int:
    """Those of layer_norm_modulate, and four per element to quantise."""
    return plain.flops(case) + 4 * elements(case.shape)


def bytes(case: Case, itemsize: int = 2, backward: bool = False) -> int:
    """Least traffic: x and the modulation read, values and fp32 scales written."""
    read = itemsize * (elements(case.shape) + 2 * case.batch * case.width)
    return read + elements(case.shape) + 4 * case.batch * case.length
