"""frame_causal_attention's Triton kernels in the interpreter."""

from __future__ import annotations

import pytest
import torch

from opensora_fast.kernels import frame_causal_attention
from opensora_fast.kernels.agreement import assert_agrees, noise
from opensora_fast.kernels.attention.launch import describable
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
    # With one key the gradients of q and k cancel to zero, up to the roundings of the sum.
    differentiable = 0 if per_frame == 1 else None
    assert_agrees(frame_causal_attention, (q, k, v), (frames,), num_differentiable=differentiable)


def test_frame_causal_attention_of_the_released_width() -> None:
    q, k, v = (noise(1, 2 * 35, 512, dtype=torch.float16, seed=s) for s in range(3))
    assert_agrees(frame_causal_attention, (q, k, v), (2,))


def test_frame_causal_attention_reads_strided_inputs() -> None:
    fused = noise(2, 12, 3, 16, dtype=torch.float16, seed=0)
    q = noise(2, 16, 12, dtype=torch.float16, seed=1).transpose(1, 2)
    k, v = fused[:, :, 1], fused[:, :, 2]
    assert not describable(q[:, :, None]) and describable(k[:, :, None])
    assert_agrees(frame_causal_attention, (q, k, v), (4,))
    assert_agrees(frame_causal_attention, (k, k, v), (4,))


def test_frame_causal_attention_returns_the_log_sum_exp() -> None:
    q, k, v = (noise(1, 12, 8, dtype=torch.float32, seed=s) for s in range(3))
    results = []
    for backend in ("triton", "reference"):
        with use_backend(backend):
            results.append(OPS["frame_causal_attention"](q, k, v, 3)[1])
    torch.testing.assert_close(*results)


def test_the_future_has_no_influence_on_values_or_gradients() -> None:
    """A tile of keys beyond the frame holds real numbers of the next one: bits must not change."""
    q, k, v = (noise(1, 3 * 7, 16, dtype=torch.float16, seed=s) for s in range(3))
    results = []
    for future in (k[:, 14:], 5 + k[:, 14:]):
        changed = [torch.cat([x[:, :14], future], 1).requires_grad_() for x in (q, k, v)]
        with use_backend("triton"):
            y = frame_causal_attention(*changed, 3)[:, :14]
            results.append((y, *torch.autograd.grad(y, changed, noise(1, 14, 16).half())))
    for before, after in zip(*results, strict=True):
        assert torch.equal(before[:, :14], after[:, :14])
