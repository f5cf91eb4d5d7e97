"""The gradients of linear_attention on CUDA: torch's products, Triton's depthwise convolutions."""

from __future__ import annotations

import torch

from ..common._triton_depthwise import depthwise, depthwise_gradients
from ..common.torch_conv3d import Depthwise
from . import _torch

HOW = Depthwise(depthwise, depthwise_gradients)


def backward(*args) -> tuple[torch.Tensor, ...]:
    """Run the backward as the op's schema has it."""
    return _torch.backward_by(HOW, *args)
