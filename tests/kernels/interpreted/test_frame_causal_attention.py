"""frame_causal_attention's Triton kernels in the interpreter."""

from __future__ import annotations

import pytest
import torch

from opensora_fast.kernels import frame_causal_attention
from opensora_fast.kernels.agreement import assert_agrees, noise
from opensora_fast.kernels.frame_causal_attention.launch import describable
from opensora_fast.kernels.registry import OPS, use_backend

DTYPES = (torch.float32, torch.float16)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("batch", "frames", "per_frame", "head_dim"),
    [(2, 3, 21, 64), (1, 1, 1, 8), (1, 2, 70, 24), (1, 4, 5, 7), (1, 1, 3, 1), (0, 1, 2, 8)],
)
def test_frame_causal_attention(
    batch: int, frames: int, per_frame: int, head_dim: int, dtype: torch.dtype
) -> None:
    q, k, v = (noise(batch, frames * per_frame, head_dim, dtype=dtype, seed=s) for s in range(3))
    assert_agrees(frame_causal_attention, (q, k, v), (frames,), num_differentiable=0)


def test_frame_causal_attention_reads_strided_inputs() -> None:
    fused = noise(2, 12, 3, 16, dtype=torch.float16, seed=0)
    q = noise(2, 16, 12, dtype=torch.float16, seed=1).transpose(1, 2)
    k, v = fused[:, :, 1], fused[:, :, 2]
    assert not describable(q) and describable(k)
    assert_agrees(frame_causal_attention, (q, k, v), (4,), num_differentiable=0)
    assert_agrees(frame_causal_attention, (k, k, v), (4,), num_differentiable=0)


def test_frame_causal_attention_returns_the_log_sum_exp() -> None:
    q, k, v = (noise(1, 12, 8, dtype=torch.float32, seed=s) for s in range(3))
    results = []
    for backend in ("triton", "reference"):
        with use_backend(backend):
            results.append(OPS["frame_causal_attention"](q, k, v, 3)[1])
    torch.testing.assert_close(*results)
