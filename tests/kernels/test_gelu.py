"""Properties of gelu and concat_gelu."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from opensora_fast.kernels import concat_gelu, gelu, native
from opensora_fast.kernels.gelu import _cpu
from opensora_fast.kernels.registry import explain

seeds = st.integers(0, 2**16)
dtypes = st.sampled_from([torch.float64, torch.float32, torch.bfloat16])


def draw(*shape, seed=0, dtype=torch.float32, std=3.0):
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(shape, generator=generator) * std).to(dtype)


@given(st.integers(1, 5), st.integers(1, 40), seeds)
def test_equals_the_formula(rows, width, seed):
    x = draw(rows, width, seed=seed, dtype=torch.float64)
    want = x / (1 + torch.exp(-2 * (2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3)))
    torch.testing.assert_close(gelu(x), want)


@given(seeds, dtypes)
def test_gelu_of_minus_x_is_gelu_of_x_minus_x(seed, dtype):
    x = draw(3, 17, seed=seed, dtype=dtype, std=1.0)
    tolerance = 4 * torch.finfo(dtype).eps
    torch.testing.assert_close(gelu(-x), gelu(x) - x, rtol=tolerance, atol=tolerance)


def test_ends_and_zero():
    y = gelu(torch.tensor([-torch.inf, -1e30, 0.0, 1e30, torch.inf, torch.nan]))
    assert torch.equal(y[1:5], torch.tensor([0.0, 0.0, 1e30, torch.inf]))
    assert y[5].isnan()


@pytest.mark.skipif(native.why_no_cpu() is not None, reason="the extension is not built")
def test_small_values_of_the_tail_keep_their_digits():
    x = torch.tensor([-6.0, -7.0, -8.0])
    exact = gelu(x.double())
    want = x.double() * torch.sigmoid(2 * (2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3).double())
    torch.testing.assert_close(_cpu.forward(x).double(), want, rtol=1e-5, atol=0)
    torch.testing.assert_close(exact, want, rtol=1e-5, atol=1e-12)


@given(seeds, dtypes)
def test_part_of_the_columns_of_a_matrix(seed, dtype):
    wide = draw(2, 5, 23, seed=seed, dtype=dtype)
    part = wide[..., 4:20]
    assert torch.equal(gelu(part), gelu(part.contiguous()))
    grad = draw(2, 5, 40, seed=seed + 1, dtype=dtype)[..., 3:19]
    results = []
    for x in (part.detach().requires_grad_(), part.contiguous().requires_grad_()):
        gelu(x).backward(grad)
        results.append(x.grad)
    assert torch.equal(*results)


@given(st.integers(0, 9), st.integers(0, 9), seeds, dtypes)
def test_concat_gelu_is_gelu_and_a_concatenation(first, second, seed, dtype):
    a, wide = draw(2, 3, first, seed=seed, dtype=dtype), draw(2, 3, 12, seed=seed, dtype=dtype)
    x = wide[..., 1 : 1 + second]
    y = concat_gelu(a, x)
    assert y.is_contiguous()
    assert torch.equal(y, torch.cat([a, gelu(x)], dim=-1))


@pytest.mark.parametrize("needed", [(True, False), (False, True), (True, True)])
def test_gradients_of_concat_gelu_are_those_of_its_parts(needed):
    results = []
    for function in (concat_gelu, lambda a, x: torch.cat([a, gelu(x)], dim=-1)):
        inputs = [
            draw(2, 3, n, seed=n).requires_grad_(on) for n, on in zip((4, 7), needed, strict=True)
        ]
        (function(*inputs) * draw(2, 3, 11, seed=5)).sum().backward()
        results.append([x.grad for x in inputs])
    for got, want in zip(*results, strict=True):
        assert (got is None and want is None) or torch.equal(got, want)


def test_bad_input():
    with pytest.raises(TypeError, match="gelu: x must be floating-point"):
        gelu(torch.ones(3, dtype=torch.int32))
    with pytest.raises(ValueError, match="gelu: x must have at least one axis"):
        gelu(torch.tensor(1.0))
    with pytest.raises(ValueError, match=r"concat_gelu: a has shape \[2, 3\] and x \[3, 3\]"):
        concat_gelu(torch.ones(2, 3), torch.ones(3, 3))
    with pytest.raises(TypeError, match=r"concat_gelu: x is torch.float64, a is torch.float32"):
        concat_gelu(torch.ones(2, 3), torch.ones(2, 3).double())


def test_what_the_kernel_does_not_take_has_a_reason():
    reasons = {verdict.backend: verdict.reason for verdict in explain("gelu", torch.ones(3).half())}
    assert "torch.float16" in str(reasons["cpu"])
    x = torch.ones(1, 2, 3, 4, 5).contiguous(memory_format=torch.channels_last_3d)
    assert "channels-last" in str(_cpu.why_not(x))
