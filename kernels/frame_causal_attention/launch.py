"""What the Triton kernels of frame_causal_attention can run: those of attention, with one head."""

from __future__ import annotations

from torch import Tensor

from ..attention.launch import heads_why_not

# A tile of queries and its sums lie in one program's shared memory and registers.
MAX_HEAD_DIM = 512


def why_not(q: Tensor, k: Tensor, v: Tensor, num_frames: int) -> str | None:
    """Return why the forward kernel cannot serve a call, or None."""
    return heads_why_not(MAX_HEAD_DIM, **_one_head(q=q, k=k, v=v))


def backward_why_not(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, num_frames: int
) -> str | None:
    """Return why the backward kernels cannot serve a call, or None."""
    return heads_why_not(MAX_HEAD_DIM, **_one_head(q=q, k=k, v=v, out=out, grad=grad))


def _one_head(**tensors: Tensor) -> dict[str, Tensor]:
    return {name: x[:, :, None] for name, x in tensors.items()}
