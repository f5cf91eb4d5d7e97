"""What the C++ backends of qk_norm_rope share: which scales and tables they take, _C's arguments.

Heads, tokens and samples of q and k may lie at any distance, so that parts of a fused projection
serve without a copy; where the channels of a head do not lie next to each other, and where scales
or tables are not dense, a dense copy serves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..native import DTYPE_CODES


def why_not(q: Tensor, q_scale: Tensor, k_scale: Tensor, cos: Tensor, sin: Tensor) -> str | None:
    """Say why the kernels cannot take these scales and tables, or return None."""
    if q_scale.dtype != k_scale.dtype or q_scale.dtype not in (q.dtype, torch.float32):
        return f"scales are {q_scale.dtype} and {k_scale.dtype}, both must be {q.dtype} or fp32"
    if cos.dtype is not torch.float32 or sin.dtype is not torch.float32:
        return f"cos is {cos.dtype} and sin {sin.dtype}, the kernel takes torch.float32"
    return None


def forward(write: Callable[..., None], *args: Any) -> tuple[Tensor, Tensor]:
    """Return what a row's ``write`` puts into new tensors."""
    q, k = args[:2]
    q_out, k_out = q.new_empty(q.shape), k.new_empty(k.shape)
    write(*args, q_out, k_out)
    return q_out, k_out


def write(
    kernel: Callable[..., None],
    q: Tensor,
    k: Tensor,
    q_scale: Tensor,
    k_scale: Tensor,
    cos: Tensor,
    sin: Tensor,
    layout: str,
    eps: float,
    q_out: Tensor,
    k_out: Tensor,
) -> None:
    """Write q and k, normalised and rotated by a function of the extension; dense by sample."""
    if q.shape[0] > 1 and not (q_out.is_contiguous() and k_out.is_contiguous()):
        for i in range(q.shape[0]):
            one = slice(i, i + 1)
            cos_i, sin_i = (table[i] if table.dim() == 3 else table for table in (cos, sin))
            parts = (q[one], k[one], q_scale, k_scale, cos_i, sin_i)
            write(kernel, *parts, layout, eps, q_out[one], k_out[one])
        return
    q, k = (x if x.stride(3) == 1 else x.contiguous() for x in (q, k))
    q_scale, k_scale, cos, sin = (x.contiguous() for x in (q_scale, k_scale, cos, sin))
    batch, length, heads, head_dim = q.shape
    kernel(
        q=(q.data_ptr(), q_out.data_ptr(), q_scale.data_ptr()),
        k=(k.data_ptr(), k_out.data_ptr(), k_scale.data_ptr()),
        q_strides=(q.stride(0), q.stride(1), q.stride(2)),
        k_strides=(k.stride(0), k.stride(1), k.stride(2)),
        cos=cos.data_ptr(),
        sin=sin.data_ptr(),
        batch=batch,
        length=length,
        heads=heads,
        head_dim=head_dim,
        eps=eps,
        interleaved=layout == "interleaved",
        table_per_sample=cos.dim() == 3,
        dtype=DTYPE_CODES[q.dtype],
        scale_dtype=DTYPE_CODES[q_scale.dtype],
    )
