"""frame_causal_attention in C++ for the CPU: its header in csrc/cpu states its accuracy.

Tokens may lie at any distance from each other; where the channels of one do not lie next to each
other, a dense copy serves.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .. import native

VERIFIED = "CPU: x86-64 scalar, AVX2, AVX-512 and AMX, 2026-11"


def why_not(q: Tensor, k: Tensor, v: Tensor, num_frames: int) -> str | None:
    """Say why the kernel cannot serve this call, or return None."""
    if q.dtype not in native.CPU_DTYPES:
        return native.not_a_cpu_dtype("q", q)
    if q.shape[2] == 0:
        return "tokens have no channels"
    return native.why_no_cpu()


def forward(q: Tensor, k: Tensor, v: Tensor, num_frames: int) -> tuple[Tensor, Tensor]:
    """Return the output and the log-sum-exp."""
    from opensora_fast import _C

    q, k, v = (x if x.stride(2) == 1 else x.contiguous() for x in (q, k, v))
    y = q.new_empty(q.shape)
    lse = q.new_empty(q.shape[:2], dtype=torch.float32)
    batch, length, head_dim = q.shape
    _C.frame_causal_attention_cpu(
        q=_tokens(q),
        k=_tokens(k),
        v=_tokens(v),
        y=y.data_ptr(),
        lse=lse.data_ptr(),
        batch=batch,
        length=length,
        num_frames=num_frames,
        head_dim=head_dim,
        dtype=native.DTYPE_CODES[q.dtype],
    )
    return y, lse


def _tokens(x: Tensor) -> tuple[int, int, int]:
    return x.data_ptr(), x.stride(0), x.stride(1)
