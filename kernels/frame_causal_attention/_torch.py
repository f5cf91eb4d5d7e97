"""frame_causal_attention as torch's fused attention, once per frame over a prefix of the keys.

No mask is built: a mask would take L*L elements and rule out the fused kernels. Bytes: frame f
reads f+1 frames of keys and values.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..attention import _torch as dense
from ..contract import wide
from .reference import frames

CPU_VERIFIED = dense.CPU_VERIFIED

why_not = dense.why_not
cuda_why_not = dense.cuda_why_not


def forward(q: Tensor, k: Tensor, v: Tensor, num_frames: int) -> tuple[Tensor, Tensor]:
    """Return the output and the log-sum-exp, on CPU."""
    return _forward(dense.forward, q, k, v, num_frames)


def cuda_forward(q: Tensor, k: Tensor, v: Tensor, num_frames: int) -> tuple[Tensor, Tensor]:
    """Return the output and the log-sum-exp, on CUDA."""
    return _forward(dense.cuda_forward, q, k, v, num_frames)


def backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, num_frames: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of q, k and v, on CPU."""
    return _backward(dense.backward, grad, q, k, v, out, lse, num_frames)


def cuda_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, num_frames: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of q, k and v, on CUDA."""
    return _backward(dense.cuda_backward, grad, q, k, v, out, lse, num_frames)


def _forward(
    attend: Callable[..., tuple[Tensor, Tensor]], q: Tensor, k: Tensor, v: Tensor, num_frames: int
) -> tuple[Tensor, Tensor]:
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    lse = torch.empty(q.shape[:2], dtype=wide(q.dtype), device=q.device)
    for start, end in frames(q.shape[1], num_frames):
        out_frame, lse_frame = attend(q[:, start:end, None], k[:, :end, None], v[:, :end, None])
        out[:, start:end] = out_frame[:, :, 0]
        lse[:, start:end] = lse_frame[:, 0]
    return out, lse


def _backward(
    attend: Callable[..., tuple[Tensor, Tensor, Tensor]],
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    num_frames: int,
) -> tuple[Tensor, Tensor, Tensor]:
    dtype = wide(q.dtype)
    dq = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    # Every later frame adds to these: half precision would lose what it adds.
    dk, dv = (torch.zeros(k.shape, dtype=dtype, device=q.device) for _ in range(2))
    for start, end in frames(q.shape[1], num_frames):
        rows = (x[:, start:end, None] for x in (grad, q))
        dq_frame, dk_prefix, dv_prefix = attend(
            *rows,
            k[:, :end, None],
            v[:, :end, None],
            out[:, start:end, None],
            lse[:, None, start:end],
        )
        dq[:, start:end] = dq_frame[:, :, 0]
        dk[:, :end] += dk_prefix[:, :, 0]
        dv[:, :end] += dv_prefix[:, :, 0]
    return dq, dk.to(q.dtype), dv.to(q.dtype)
