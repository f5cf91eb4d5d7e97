"""The gradients of glu_mb_conv on CUDA: torch's products, Triton's depthwise convolutions."""

from __future__ import annotations

import torch

from ..common._triton_depthwise import TRITON
from . import _torch


def backward(*args) -> tuple[torch.Tensor, ...]:
    """Run the backward as the op's schema has it."""
    return _torch.backward_by(TRITON, *args)
