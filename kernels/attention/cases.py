"""Cases of attention: small ones to check, Open-Sora v2's joint attention to measure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ..inputs import Draw, elements


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One problem: queries of `length` tokens, keys of `keys` tokens (0: as many as queries).

    `slack` is the absolute error allowed where the gradients of q and k cancel to zero.
    """

    name: str
    batch: int = 1
    length: int
    keys: int = 0
    num_heads: int = 24
    head_dim: int = 128
    slack: float = 0.0

    @property
    def num_keys(self) -> int:
        """Number of keys."""
        return self.keys or self.length


CHECK = (
    Case(name="self", batch=2, length=37, num_heads=3, head_dim=16),
    Case(name="cross", length=5, keys=33, num_heads=2, head_dim=8),
    Case(name="blocks", length=65, keys=129, num_heads=1, head_dim=32),
    Case(name="long", length=257, keys=4099, num_heads=1, head_dim=8),
    Case(name="odd-head", length=7, num_heads=2, head_dim=5),
    Case(name="one-key", batch=2, length=3, keys=1, num_heads=2, head_dim=4, slack=1e-5),
    Case(name="ones", length=1, num_heads=1, head_dim=1),
    Case(name="empty", batch=0, length=4, num_heads=2, head_dim=8),
)

# Text (512) and image tokens of 129 frames: 192x336, 576x1024; and 768x768 through DC-AE.
BENCH = (
    Case(name="cpu.block", length=1024, num_heads=4, head_dim=64),
    Case(name="256px", length=512 + 33 * 12 * 21),
    Case(name="256px.guided", batch=3, length=512 + 33 * 12 * 21),
    Case(name="768px", length=512 + 33 * 36 * 64),
    Case(name="768px.dc_ae", length=512 + 32 * 18 * 32),
)

HUGE = Case(name="768px.guided", batch=10, length=512 + 33 * 36 * 64)

DIFFERENTIABLE = (0, 1, 2)


def make_inputs(
    case: Case, device: torch.device | str, dtype: torch.dtype, seed: int = 0
) -> tuple[Any, ...]:
    """Arguments of attention."""
    draw = Draw(device, dtype, seed)
    heads = (case.num_heads, case.head_dim)
    q = draw.normal(case.batch, case.length, *heads)
    k, v = (draw.normal(case.batch, case.num_keys, *heads) for _ in range(2))
    return q, k, v


def flops(case: Case, backward: bool = False) -> int:
    """Two products forwards; five backwards, of which one recomputes the scores."""
    product = 2 * case.batch * case.num_heads * case.length * case.num_keys * case.head_dim
    return product * (5 if backward else 2)


def bytes(case: Case, itemsize: int = 2, backward: bool = False) -> int:
    """Least traffic: q, k, v (backwards also the output and its gradient) read, outputs written."""
    q = elements((case.batch, case.length, case.num_heads, case.head_dim))
    k = elements((case.batch, case.num_keys, case.num_heads, case.head_dim))
    return itemsize * (4 * q + 4 * k if backward else 2 * q + 2 * k)
