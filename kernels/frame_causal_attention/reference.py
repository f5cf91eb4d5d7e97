"""The definition of frame_causal_attention: a frame attends to the keys up to its last token."""

from __future__ import annotations

import torch
from torch import Tensor

from ..attention import reference as dense
from ..contract import wide


def forward(q: Tensor, k: Tensor, v: Tensor, num_frames: int) -> tuple[Tensor, Tensor]:
    """Return the output [B, L, D] and log sum exp of the scaled scores, [B, L]."""
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    lse = torch.empty(q.shape[:2], dtype=wide(q.dtype), device=q.device)
    for start, end in frames(q.shape[1], num_frames):
        out_frame, lse_frame = dense.forward(
            q[:, start:end, None], k[:, :end, None], v[:, :end, None]
        )
        out[:, start:end] = out_frame[:, :, 0]
        lse[:, start:end] = lse_frame[:, 0]
    return out, lse


def backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, num_frames: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of q, k and v."""
    dtype = wide(q.dtype)
    grad, q_wide, k_wide, v_wide, out = (x.to(dtype)[:, :, None] for x in (grad, q, k, v, out))
    dq, dk, dv = (torch.zeros(q.shape, dtype=dtype, device=q.device) for _ in range(3))
    for start, end in frames(q.shape[1], num_frames):
        frame = slice(start, end)
        dq_frame, dk_prefix, dv_prefix = dense.backward(
            grad[:, frame],
            q_wide[:, frame],
            k_wide[:, :end],
            v_wide[:, :end],
            out[:, frame],
            lse[:, None, frame],
        )
        dq[:, frame] = dq_frame[:, :, 0]
        dk[:, :end] += dk_prefix[:, :, 0]
        dv[:, :end] += dv_prefix[:, :, 0]
    return dq.to(q.dtype), dk.to(q.dtype), dv.to(q.dtype)


def frames(length: int, num_frames: int) -> list[tuple[int, int]]:
    """First token and end of each frame."""
    size = length // num_frames
    return [(f * size, (f + 1) * size) for f in range(num_frames)]
