"""Rotary position tables and the timestep embedding."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def rope_tables(
    ids: Tensor, axes_dim: tuple[int, ...], theta: float, angle_dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the rotary angles of every token.

    `angle[j] = position[axis] * theta ** (-2 i / axes_dim[axis])`, axes side by side, so that
    j runs over the sum of `axes_dim / 2`.

    Args:
        ids: positions `[B, L, axes]` or `[L, axes]`, any real dtype.
        axes_dim: rotary dimensions of each axis, even.
        theta: base of the frequencies.
        angle_dtype: dtype in which frequencies and angles are computed.

    Returns:
        cos and sin, each `[B, L, D/2]` or `[L, D/2]` in fp32, D the sum of `axes_dim`.

    Numerics:
        Frequencies are `1 / theta ** (arange(0, d, 2) / d)` in `angle_dtype`, in this order.

    Source:
        Su et al. 2021 (arXiv 2104.09864); three axes as in FLUX.1 and Open-Sora v2.
    """
    angles = []
    for axis, dim in enumerate(axes_dim):
        exponent = torch.arange(0, dim, 2, dtype=angle_dtype, device=ids.device) / dim
        omega = 1.0 / (theta**exponent)
        angles.append(ids[..., axis, None].to(angle_dtype) * omega)
    angle = torch.cat(angles, dim=-1)
    return angle.cos().float(), angle.sin().float()


def timestep_embedding(
    t: Tensor, dim: int = 256, max_period: float = 10000.0, time_factor: float = 1000.0
) -> Tensor:
    """Sinusoidal embedding of a time or of a guidance scale.

    `a[i] = time_factor * t * max_period ** (-i / (dim // 2))`, result `[cos a, sin a]`.

    Args:
        t: `[B]`, times in 0..1 or guidance scales.
        dim: channels of the result.
        max_period: longest period.
        time_factor: scale on t.

    Returns:
        `[B, dim]` in t's dtype when that is a floating one, else fp32.

    Numerics:
        t is widened to fp32 before it is scaled: a bf16 t loses nothing to the factor 1000, as
        under the original's compiled function. fp64 stays fp64.

    Source:
        Vaswani et al. 2017, section 3.5; cosines first as in FLUX.1.
    """
    wide = t if t.dtype == torch.float64 else t.float()
    half = dim // 2
    index = torch.arange(half, dtype=torch.float32, device=t.device)
    angle = (wide * time_factor)[:, None] * torch.exp(index * (-math.log(max_period) / half))
    embedding = torch.cat([angle.cos(), angle.sin()], dim=-1)
    if dim % 2:
        embedding = torch.nn.functional.pad(embedding, (0, 1))
    return embedding.to(t.dtype) if t.is_floating_point() else embedding
