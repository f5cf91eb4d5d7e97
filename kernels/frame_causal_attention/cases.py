"""Cases of frame_causal_attention: small ones to check, the HunyuanVAE's mid block to measure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ..inputs import Draw


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One problem: `num_frames` frames of `tokens` tokens each."""

    name: str
    batch: int = 1
    num_frames: int
    tokens: int
    head_dim: int = 512

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of q, k and v."""
        return (self.batch, self.num_frames * self.tokens, self.head_dim)


CHECK = (
    Case(name="video", batch=2, num_frames=3, tokens=7, head_dim=16),
    Case(name="blocks", num_frames=2, tokens=33, head_dim=32),
    # More than one block of queries and of keys, and channels that fill no vector.
    Case(name="several-blocks", num_frames=2, tokens=300, head_dim=136),
    Case(name="one-frame", num_frames=1, tokens=5, head_dim=8),
    Case(name="one-token", num_frames=5, tokens=1, head_dim=8),
    Case(name="empty", batch=0, num_frames=2, tokens=3, head_dim=8),
)

# 129 frames are 33 latent frames: of 24x42 latents (192x336), 32x32 by tiles, 72x128 (576x1024).
BENCH = (
    Case(name="cpu.block", num_frames=5, tokens=16 * 16, head_dim=256),
    Case(name="256px", num_frames=33, tokens=24 * 42),
    Case(name="768px.tile", num_frames=33, tokens=32 * 32),
    Case(name="768px.untiled", num_frames=33, tokens=72 * 128),
)

HUGE = Case(name="768px.batch", batch=14, num_frames=33, tokens=72 * 128)

DIFFERENTIABLE = (0, 1, 2)


def make_inputs(
    case: Case, device: torch.device | str, dtype: torch.dtype, seed: int = 0
) -> tuple[Any, ...]:
    """Arguments of frame_causal_attention."""
    draw = Draw(device, dtype, seed)
    return *(draw.normal(*case.shape) for _ in range(3)), case.num_frames


def flops(case: Case, backward: bool = False) -> int:
    """Two products over the visible pairs forwards; five backwards."""
    pairs = case.tokens**2 * case.num_frames * (case.num_frames + 1) // 2
    return 2 * case.batch * pairs * case.head_dim * (5 if backward else 2)


def bytes(case: Case, itemsize: int = 2, backward: bool = False) -> int:
    """Least traffic: q, k, v (backwards also the output and its gradient) read, outputs written."""
    batch, length, width = case.shape
    return itemsize * batch * length * width * (8 if backward else 4)
