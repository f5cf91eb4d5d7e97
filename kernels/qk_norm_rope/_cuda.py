"""qk_norm_rope in CUDA C++: csrc/cuda/qk_norm_rope.h states layouts and accuracy.

Heads, tokens and samples of q and k may lie at any distance; where the channels of a head do not
lie next to each other, and where scales or tables are not dense, a dense copy serves.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .. import native

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
_MAX_HEAD_DIM = 256  # as kQkNormRopeMaxHeadDim
_MAX_ROWS = 2**30  # heads of all tokens, of q and of k, are counted in 31 bits


def why_not(
    q: Tensor,
    k: Tensor,
    q_scale: Tensor,
    k_scale: Tensor,
    cos: Tensor,
    sin: Tensor,
    layout: str,
    eps: float,
) -> str | None:
    """Say why the kernel cannot serve this call, or return None."""
    if q.dtype not in DTYPES:
        return f"q is {q.dtype}, the kernel takes {', '.join(map(str, DTYPES))}"
    batch, length, heads, head_dim = q.shape
    if head_dim > _MAX_HEAD_DIM:
        return f"heads have {head_dim} channels, at most {_MAX_HEAD_DIM} fit"
    if batch * length * heads >= _MAX_ROWS:
        return f"{batch} x {length} tokens x {heads} heads are not fewer than {_MAX_ROWS} rows"
    if q_scale.dtype != k_scale.dtype or q_scale.dtype not in (q.dtype, torch.float32):
        return f"scales are {q_scale.dtype} and {k_scale.dtype}, both must be {q.dtype} or fp32"
    if cos.dtype is not torch.float32 or sin.dtype is not torch.float32:
        return f"cos is {cos.dtype} and sin {sin.dtype}, the kernel takes torch.float32"
    return native.why_no_cuda()


def forward(
    q: Tensor,
    k: Tensor,
    q_scale: Tensor,
    k_scale: Tensor,
    cos: Tensor,
    sin: Tensor,
    layout: str,
    eps: float,
) -> tuple[Tensor, Tensor]:
    """Return q and k, normalised and rotated."""
    from opensora_fast import _C

    q, k = (x if x.stride(3) == 1 else x.contiguous() for x in (q, k))
    q_scale, k_scale, cos, sin = (x.contiguous() for x in (q_scale, k_scale, cos, sin))
    q_out, k_out = q.new_empty(q.shape), k.new_empty(k.shape)
    batch, length, heads, head_dim = q.shape
    with torch.cuda.device(q.device):
        _C.qk_norm_rope_cuda(
            stream=torch.cuda.current_stream().cuda_stream,
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
            dtype=native.DTYPE_CODES[q.dtype],
            scale_dtype=native.DTYPE_CODES[q_scale.dtype],
        )
    return q_out, k_out
