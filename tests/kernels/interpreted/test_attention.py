"""attention's Triton kernels in the interpreter."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from opensora_fast.kernels import attention
from opensora_fast.kernels.agreement import assert_agrees, noise
from opensora_fast.kernels.attention.launch import KERNELS, describable
from opensora_fast.kernels.common import tune
from opensora_fast.kernels.registry import OPS, use_backend

DTYPES = (torch.float32, torch.float16)


def heads(*shape: int, dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    return noise(*shape, dtype=dtype, seed=seed)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("batch", "queries", "keys", "num_heads", "head_dim"),
    [(2, 37, 37, 2, 16), (1, 5, 70, 2, 72), (1, 130, 3, 2, 7), (1, 2, 64, 2, 64)],
)
def test_attention(
    batch: int, queries: int, keys: int, num_heads: int, head_dim: int, dtype: torch.dtype
) -> None:
    q = heads(batch, queries, num_heads, head_dim, dtype=dtype)
    k, v = (heads(batch, keys, num_heads, head_dim, dtype=dtype, seed=s) for s in (1, 2))
    assert_agrees(attention, (q, k, v))


def test_attention_reads_slices_of_one_projection() -> None:
    """As the transformer's blocks cut them: by descriptors, and by pointers if heads come first."""
    fused = heads(2, 20, 3, 2, 16, dtype=torch.float16)
    q, k, v = fused.unbind(2)
    assert all(map(describable, (q, k, v)))
    assert_agrees(attention, (q, k, v))
    flipped = heads(2, 16, 2, 20, dtype=torch.float16).transpose(1, 3)
    assert not describable(flipped)
    assert_agrees(attention, (flipped, k, v))


def test_attention_takes_a_gradient_that_was_expanded() -> None:
    q, k, v = (heads(1, 9, 2, 16, dtype=torch.float16, seed=s).requires_grad_() for s in range(3))
    grads = []
    for backend in ("triton", "reference"):
        with use_backend(backend):
            grads.append(torch.autograd.grad(attention(q, k, v).sum(), (q, k, v)))
    for got, want in zip(*grads, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-2, atol=2e-3)


def questions(*inputs: torch.Tensor) -> list[tune.Question]:
    """What a forward and its backward ask the tuner's table."""
    with tune.asking() as asked:
        assert_agrees(attention, inputs)
    assert [json.loads(q.problem)["kernel"] for q in asked] == list(KERNELS)
    return asked


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_wide_form_gives_the_same_gradients(dtype: torch.dtype) -> None:
    """Sums of [channels, keys], which real launches take for heads of more than 256 channels."""
    inputs = tuple(heads(1, 40, 2, 24, dtype=dtype, seed=s) for s in range(3))
    question = questions(*inputs)[2]
    with tune.trying(question, dataclasses.replace(question.default, tall=False)):
        assert_agrees(attention, inputs)


def test_launches_that_can_be_measured_give_the_same() -> None:
    inputs = tuple(heads(1, 40, 2, 16, dtype=torch.float16, seed=s) for s in range(3))
    for question in questions(*inputs):
        assert len(set(question.candidates) - {question.default}) == len(question.candidates) > 5
        for config in question.candidates:
            with tune.trying(question, config):
                assert_agrees(attention, inputs)


def test_attention_returns_the_log_sum_exp() -> None:
    q, k, v = (heads(2, 12, 3, 8, dtype=torch.float32, seed=s) for s in range(3))
    results = []
    for backend in ("triton", "reference"):
        with use_backend(backend):
            results.append(OPS["attention"](q, k, v)[1])
    torch.testing.assert_close(*results)


def test_scores_of_ten_thousand_do_not_overflow() -> None:
    q, k, v = (heads(1, 40, 2, 16, dtype=torch.float32, seed=s) for s in range(3))
    assert_agrees(attention, (300 * q, 300 * k, v), num_differentiable=0)
