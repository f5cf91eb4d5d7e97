"""qk_norm_rope in C++ for the CPU: csrc/cpu/qk_norm_rope.h states its accuracy."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .. import native
from . import _native

VERIFIED = "CPU: x86-64 scalar, AVX2 and AVX-512, 2026-11"

_MAX_HEAD_DIM = 512  # as kQkNormRopeMaxHeadDim


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
    if q.dtype not in native.CPU_DTYPES:
        return native.not_a_cpu_dtype("q", q)
    if q.shape[3] > _MAX_HEAD_DIM:
        return f"heads have {q.shape[3]} channels, at most {_MAX_HEAD_DIM} fit"
    return _native.why_not(q, q_scale, k_scale, cos, sin) or native.why_no_cpu()


def forward(*args: Any) -> tuple[Tensor, Tensor]:
    """Return q and k, normalised and rotated."""
    return _native.forward(write, *args)


def write(*args: Any) -> None:
    """Write q and k, normalised and rotated, to the last two arguments, whose samples are dense."""
    from opensora_fast import _C

    _native.write(_C.qk_norm_rope_cpu, *args)
