"""concat_gelu through torch's own kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from ..gelu import _torch as gelu
from .reference import part_of_x

VERIFIED = gelu.VERIFIED


def forward(a: Tensor, x: Tensor) -> Tensor:
    """Return y."""
    return torch.cat([a, gelu.forward(x)], dim=-1).contiguous()


def backward(grad: Tensor, x: Tensor) -> Tensor:
    """Return the gradient of x."""
    return gelu.backward(part_of_x(grad, x), x).contiguous()
