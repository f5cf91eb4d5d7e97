"""concat_gelu through torch's own kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from ..gelu import _torch as gelu

VERIFIED = gelu.VERIFIED


def forward(a: Tensor, x: Tensor) -> Tensor:
    """Return y."""
    return torch.cat([a, gelu.forward(x)], dim=-1).contiguous()
