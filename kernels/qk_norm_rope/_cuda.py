"""qk_norm_rope in CUDA C++: csrc/cuda/qk_norm_rope.h states layouts and accuracy."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from .. import native
from . import _native

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
    return _native.why_not(q, q_scale, k_scale, cos, sin) or native.why_no_cuda()


def forward(*args: Any) -> tuple[Tensor, Tensor]:
    """Return q and k, normalised and rotated."""
    return _native.forward(write, *args)


def write(*args: Any) -> None:
    """Write q and k, normalised and rotated, to the last two arguments, whose samples are dense."""
    from opensora_fast import _C

    with torch.cuda.device(args[0].device):
        kernel = functools.partial(
            _C.qk_norm_rope_cuda, stream=torch.cuda.current_stream().cuda_stream
        )
        _native.write(kernel, *args)
