"""frame_causal_attention by the Triton kernels of attention: frames of queries, one head.

The same frames hold the keys; frame f sees f + 1 of them.
"""

from __future__ import annotations

import torch

from ..attention._triton import attend
from ..attention._triton_backward import gradients
from ..attention._triton_tiles import Frames


def forward(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, num_frames: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Run the forward as the op's schema has it: the output and the log-sum-exp."""
    heads = (x[:, :, None] for x in (q, k, v))
    y, lse = attend(*heads, frames(q.shape[1], num_frames))
    return y[:, :, 0], lse[:, 0]


def backward(
    grad: torch.Tensor, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, out: torch.Tensor,
    lse: torch.Tensor, num_frames: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:  # fmt: skip
    """Run the backward as the op's schema has it: the gradients of q, k and v."""
    heads = (x[:, :, None] for x in (grad, q, k, v, out))
    grads = gradients(*heads, lse[:, None], frames(q.shape[1], num_frames))
    dq, dk, dv = (x[:, :, 0] for x in grads)
    return dq, dk, dv


def frames(length: int, num_frames: int) -> Frames:
    """The frames of ``length`` tokens."""
    per_frame = length // num_frames
    return Frames(num_frames, per_frame, per_frame)
