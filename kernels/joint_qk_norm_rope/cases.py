"""Cases of joint_qk_norm_rope: small ones to check, Open-Sora v2's double blocks to measure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ..inputs import Draw, elements


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One problem: q, k and v of a stream are [batch, text or image, num_heads, head_dim]."""

    name: str
    batch: int = 1
    text: int = 512
    image: int
    num_heads: int = 24
    head_dim: int = 128
    layout: str = "half"
    table_per_sample: bool = False
    wide_parameters: bool = False

    def shape(self, length: int) -> tuple[int, int, int, int]:
        """Shape of q, k and v of so many tokens."""
        return (self.batch, length, self.num_heads, self.head_dim)

    @property
    def table_shape(self) -> tuple[int, ...]:
        """Shape of cos and of sin."""
        per_sample = (self.batch,) if self.table_per_sample else ()
        return (*per_sample, self.text + self.image, self.head_dim // 2)


CHECK = (
    Case(name="half", batch=2, text=3, image=7, num_heads=3, head_dim=16),
    Case(
        name="interleaved",
        batch=2,
        text=4,
        image=5,
        num_heads=2,
        head_dim=10,
        layout="interleaved",
    ),
    Case(
        name="per-sample", batch=2, text=2, image=5, num_heads=2, head_dim=8, table_per_sample=True
    ),
    Case(name="fp32-parameters", text=1, image=3, num_heads=2, head_dim=8, wide_parameters=True),
    Case(name="no-text", text=0, image=3, num_heads=2, head_dim=8),
    Case(name="empty", batch=0, text=2, image=4, num_heads=2, head_dim=8),
)

BENCH = (
    Case(name="cpu.block", batch=2, text=128, image=1024, num_heads=4, head_dim=64),
    Case(name="256px", image=33 * 12 * 21),
    Case(name="256px.guided", batch=3, image=33 * 12 * 21),
    Case(name="768px", image=33 * 36 * 64),
)

HUGE = Case(name="768px.guided", batch=10, image=33 * 36 * 64)

DIFFERENTIABLE = tuple(range(10))


def make_inputs(
    case: Case, device: torch.device | str, dtype: torch.dtype, seed: int = 0
) -> tuple[Any, ...]:
    """Arguments of joint_qk_norm_rope."""
    draw = Draw(device, dtype, seed)
    text = (draw.normal(*case.shape(case.text)) for _ in range(3))
    image = (draw.normal(*case.shape(case.image)) for _ in range(3))
    scales = (
        draw.normal(case.head_dim, mean=1.0, std=0.3, wide=case.wide_parameters) for _ in range(4)
    )
    angles = draw.normal(*case.table_shape, std=3.0, wide=True)
    return *text, *image, *scales, angles.cos(), angles.sin(), case.layout, 1e-6


def flops(case: Case, backward: bool = False) -> int:
    """Operations per element of q and k: norm 5, rotation 3; about twice that backwards."""
    return 2 * elements(case.shape(case.text + case.image)) * (16 if backward else 8)


def bytes(case: Case, itemsize: int = 2, backward: bool = False) -> int:
    """Least traffic: q, k, v read and written, backwards q and k and two gradients of them."""
    all_tokens = elements(case.shape(case.text + case.image))
    return itemsize * all_tokens * 6 + 2 * 4 * elements(case.table_shape)
