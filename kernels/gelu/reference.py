"""The definition of gelu: y = x / 2 * (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))); its gradient."""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor

from ..contract import layout_of, wide

_SCALE: Final = math.sqrt(2 / math.pi)
_CUBIC: Final = 0.044715


def forward(x: Tensor) -> Tensor:
    """Return y."""
    z = x.to(wide(x.dtype))
    y = 0.5 * z * (1 + torch.tanh(_SCALE * (z + _CUBIC * z**3)))
    return y.to(x.dtype).contiguous(memory_format=layout_of(x))


def backward(grad: Tensor, x: Tensor) -> Tensor:
    """Return the gradient of x."""
    z = x.to(wide(x.dtype))
    t = torch.tanh(_SCALE * (z + _CUBIC * z**3))
    slope = 0.5 * (1 + t) + 0.5 * z * (1 - t**2) * _SCALE * (1 + 3 * _CUBIC * z**2)
    dx = grad.to(z.dtype) * slope
    return dx.to(x.dtype).contiguous(memory_format=layout_of(x))
