"""Properties of attention."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from opensora_fast.kernels import attention

shapes = st.tuples(
    st.integers(1, 2), st.integers(1, 9), st.integers(1, 9), st.integers(1, 3), st.integers(1, 9)
)
seeds = st.integers(0, 2**16)


def inputs(shape, seed, dtype=torch.float64):
    batch, queries, keys, heads, width = shape
    generator = torch.Generator().manual_seed(seed)
    return tuple(
        torch.randn((batch, n, heads, width), generator=generator, dtype=torch.float64).to(dtype)
        for n in (queries, keys, keys)
    )


@given(shapes, seeds)
def test_equals_torch(shape, seed):
    q, k, v = inputs(shape, seed)
    expected = F.scaled_dot_product_attention(*(x.transpose(1, 2) for x in (q, k, v)))
    torch.testing.assert_close(attention(q, k, v), expected.transpose(1, 2))


@given(shapes, seeds)
def test_a_shift_of_all_keys_changes_nothing(shape, seed):
    """It adds the same number to all scores of a query."""
    q, k, v = inputs(shape, seed)
    torch.testing.assert_close(attention(q, k + 3.0, v), attention(q, k, v))


@given(shapes, seeds)
def test_keys_may_be_permuted_with_their_values(shape, seed):
    q, k, v = inputs(shape, seed)
    order = torch.randperm(k.shape[1], generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(attention(q, k[:, order], v[:, order]), attention(q, k, v))


@given(shapes, seeds)
def test_output_is_an_average_of_the_values(shape, seed):
    q, k, v = inputs(shape, seed, torch.float32)
    out = attention(q, k, v)
    slack = 1e-5
    assert bool((out <= v.amax(1, keepdim=True) + slack).all())
    assert bool((out >= v.amin(1, keepdim=True) - slack).all())
    ones = attention(q, k, torch.ones_like(v))
    torch.testing.assert_close(ones, torch.ones_like(ones))


def test_large_scores_do_not_overflow():
    q, k, v = inputs((1, 3, 5, 1, 4), 0, torch.float32)
    out = attention(1e4 * q, 1e4 * k, v)
    assert out.isfinite().all()
    best = (q[0, :, 0] @ k[0, :, 0].T).argmax(1)
    torch.testing.assert_close(out[0, :, 0], v[0, best, 0])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"q": torch.ones(2, 3, 4)}, ValueError, r"q must be \[B, L, N, D\]"),
        ({"k": torch.ones(1, 0, 2, 4)}, ValueError, "at least one token"),
        ({"k": torch.ones(1, 3, 1, 4)}, ValueError, r"k has shape .* expected \[1, 3, 2, 4\]"),
        ({"v": torch.ones(1, 2, 2, 4)}, ValueError, r"v has shape \[1, 2, 2, 4\]"),
        ({"v": torch.ones(1, 3, 2, 4).half()}, TypeError, "v is torch.float16, q is torch.float32"),
    ],
)
def test_bad_input(change, error, message):
    arguments = {name: torch.ones(1, 3, 2, 4) for name in "qkv"}
    with pytest.raises(error, match=message):
        attention(**(arguments | change))
