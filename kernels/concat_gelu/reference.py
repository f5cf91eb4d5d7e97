"""The definition of concat_gelu: [a, gelu(x)] along the last axis; its gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from ..gelu import reference as gelu


def forward(a: Tensor, x: Tensor) -> Tensor:
    """Return y."""
    return torch.cat([a, gelu.forward(x)], dim=-1).contiguous()


def backward(grad: Tensor, x: Tensor) -> Tensor:
    """Return the gradient of x; that of a is the other part of `grad` itself."""
    return gelu.backward(part_of_x(grad, x), x).contiguous()


def part_of_x(grad: Tensor, x: Tensor) -> Tensor:
    """The columns of `grad` that belong to x, not copied."""
    return grad[..., grad.shape[-1] - x.shape[-1] :]
