"""Properties of frame_causal_attention."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from opensora_fast.kernels import attention, frame_causal_attention

shapes = st.tuples(st.integers(1, 2), st.integers(1, 4), st.integers(1, 6), st.integers(1, 9))
seeds = st.integers(0, 2**16)


def inputs(shape, seed, dtype=torch.float64):
    batch, frames, tokens, width = shape
    generator = torch.Generator().manual_seed(seed)
    q, k, v = (
        torch.randn((batch, frames * tokens, width), generator=generator, dtype=torch.float64)
        for _ in range(3)
    )
    return q.to(dtype), k.to(dtype), v.to(dtype), frames


@given(shapes, seeds)
def test_equals_dense_attention_under_the_mask(shape, seed):
    q, k, v, frames = inputs(shape, seed)
    frame_of = torch.arange(q.shape[1]) // shape[2]
    mask = frame_of[:, None] >= frame_of[None, :]
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    torch.testing.assert_close(frame_causal_attention(q, k, v, frames), expected)


@given(shapes, seeds, st.sampled_from([torch.float32, torch.bfloat16]))
def test_the_future_has_no_influence(shape, seed, dtype):
    q, k, v, frames = inputs(shape, seed, dtype)
    before = frame_causal_attention(q, k, v, frames)
    for frame in range(1, frames):
        start = frame * shape[2]
        changed = [x.clone() for x in (q, k, v)]
        for x in changed:
            x[:, start:] = 5.0
        after = frame_causal_attention(*changed, frames)
        assert torch.equal(after[:, :start], before[:, :start])


@given(shapes, seeds)
def test_one_frame_is_full_attention(shape, seed):
    q, k, v, _ = inputs(shape, seed)
    full = attention(q[:, :, None], k[:, :, None], v[:, :, None])[:, :, 0]
    torch.testing.assert_close(frame_causal_attention(q, k, v, 1), full)


@given(shapes, seeds)
def test_tokens_of_a_frame_may_be_permuted(shape, seed):
    q, k, v, frames = inputs(shape, seed)
    order = torch.randperm(shape[2], generator=torch.Generator().manual_seed(seed))
    order = (torch.arange(frames)[:, None] * shape[2] + order).flatten()
    permuted = frame_causal_attention(q[:, order], k[:, order], v[:, order], frames)
    torch.testing.assert_close(permuted, frame_causal_attention(q, k, v, frames)[:, order])


def test_no_tensor_of_all_pairs_is_ever_made():
    frames, tokens = 8, 16
    largest = 0

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            for x in out if isinstance(out, tuple) else (out,):
                if isinstance(x, torch.Tensor):
                    largest = max(largest, x.untyped_storage().nbytes() // x.element_size())
            return out

    from opensora_fast.kernels.frame_causal_attention import _torch

    q, k, v, _ = inputs((1, frames, tokens, 8), 0, torch.float32)
    with Watch():
        out, lse = _torch.forward(q, k, v, frames)
        _torch.backward(out, q, k, v, out, lse, frames)
    assert 0 < largest < (frames * tokens) ** 2 // 2


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"q": torch.ones(2, 3, 4, 5)}, ValueError, r"q must be \[B, L, D\]"),
        ({"num_frames": 4}, ValueError, "6 tokens cannot be split into 4 equal frames"),
        ({"num_frames": 0}, ValueError, "into 0 equal frames"),
        ({"k": torch.ones(1, 3, 4)}, ValueError, r"k has shape \[1, 3, 4\]"),
        ({"v": torch.ones(1, 6, 4).double()}, TypeError, "v is torch.float64"),
    ],
)
def test_bad_input(change, error, message):
    arguments = {name: torch.ones(1, 6, 4) for name in "qkv"} | {"num_frames": 3}
    with pytest.raises(error, match=message):
        frame_causal_attention(**(arguments | change))
