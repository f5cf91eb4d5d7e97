"""Cases of qk_norm_rope: small ones to check, Open-Sora v2's blocks to measure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ..inputs import Draw, elements


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One problem: q and k are [batch, length, num_heads, head_dim]."""

    name: str
    batch: int = 1
    length: int
    num_heads: int = 24
    head_dim: int = 128
    layout: str = "half"
    table_per_sample: bool = False
    wide_parameters: bool = False

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of q and of k."""
        return (self.batch, self.length, self.num_heads, self.head_dim)

    @property
    def table_shape(self) -> tuple[int, ...]:
        """Shape of cos and of sin."""
        per_sample = (self.batch,) if self.table_per_sample else ()
        return (*per_sample, self.length, self.head_dim // 2)


CHECK = (
    Case(name="half", batch=2, length=7, num_heads=3, head_dim=16),
    Case(name="interleaved", batch=2, length=5, num_heads=2, head_dim=10, layout="interleaved"),
    Case(name="per-sample", batch=2, length=5, num_heads=2, head_dim=8, table_per_sample=True),
    Case(name="fp32-parameters", length=3, num_heads=2, head_dim=8, wide_parameters=True),
    Case(name="one-pair", length=1, num_heads=1, head_dim=2),
    Case(name="empty", batch=0, length=4, num_heads=2, head_dim=8),
)

BENCH = (
    Case(name="cpu.block", batch=2, length=1024, num_heads=4, head_dim=64),
    Case(name="256px", length=512 + 33 * 12 * 21),
    Case(name="256px.guided", batch=3, length=512 + 33 * 12 * 21),
    Case(name="768px", length=512 + 33 * 36 * 64),
    Case(name="768px.interleaved", length=512 + 33 * 36 * 64, layout="interleaved"),
)

HUGE = Case(name="768px.guided", batch=10, length=512 + 33 * 36 * 64)

DIFFERENTIABLE = (0, 1, 2, 3)


def make_inputs(
    case: Case, device: torch.device | str, dtype: torch.dtype, seed: int = 0
) -> tuple[Any, ...]:
    """Arguments of qk_norm_rope."""
    draw = Draw(device, dtype, seed)
    q, k = (draw.normal(*case.shape) for _ in range(2))
    scales = (
        draw.normal(case.head_dim, mean=1.0, std=0.3, wide=case.wide_parameters) for _ in range(2)
    )
    angles = draw.normal(*case.table_shape, std=3.0, wide=True)
    return q, k, *scales, angles.cos(), angles.sin(), case.layout, 1e-6


def flops(case: Case, backward: bool = False) -> int:
    """Operations per element of q and k: norm 5, rotation 3; about twice that backwards."""
    return 2 * elements(case.shape) * (16 if backward else 8)


def bytes(case: Case, itemsize: int = 2, backward: bool = False) -> int:
    """Least traffic: q and k (and their gradients) read, outputs written, fp32 tables read."""
    passes = 3 if backward else 2
    return 2 * itemsize * elements(case.shape) * passes + 2 * 4 * elements(case.table_shape)
