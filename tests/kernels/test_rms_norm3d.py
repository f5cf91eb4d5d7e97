"""Properties of rms_norm3d."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from opensora_fast.kernels import rms_norm3d

shapes = st.tuples(*(st.integers(1, n) for n in (3, 9, 3, 4, 5)))
seeds = st.integers(0, 2**16)
activations = st.sampled_from(("none", "silu", "relu"))


def inputs(shape, seed):
    generator = torch.Generator().manual_seed(seed)
    return tuple(
        torch.randn(s, generator=generator, dtype=torch.float64)
        for s in (shape, shape[1:2], shape[1:2])
    )


@given(shapes, seeds, activations)
def test_equals_torch(shape, seed, activation):
    x, weight, bias = inputs(shape, seed)
    normed = F.rms_norm(x.movedim(1, -1), shape[1:2], weight, 1e-5) + bias
    expected = {"none": torch.clone, "silu": F.silu, "relu": F.relu}[activation](normed)
    found = rms_norm3d(x, weight, bias, 1e-5, activation)
    torch.testing.assert_close(found, expected.movedim(-1, 1))


@given(shapes, seeds, st.floats(0.5, 4))
def test_invariant_to_the_scale_of_a_position(shape, seed, factor):
    x, weight, bias = inputs(shape, seed)
    factors = factor + torch.rand(shape[0], 1, *shape[2:], dtype=torch.float64)
    scaled = rms_norm3d(factors * x, weight, bias, eps=0.0)
    torch.testing.assert_close(scaled, rms_norm3d(x, weight, bias, eps=0.0))


@given(shapes, seeds, activations)
def test_positions_do_not_see_each_other(shape, seed, activation):
    x, weight, bias = inputs(shape, seed)
    changed = x.clone()
    changed[..., -1] = 7.0
    y, other = (rms_norm3d(v, weight, bias, 1e-5, activation) for v in (x, changed))
    assert torch.equal(y[..., :-1], other[..., :-1])


@given(shapes, seeds)
def test_linear_in_weight_and_bias(shape, seed):
    x, weight, bias = inputs(shape, seed)
    plain = rms_norm3d(x, torch.ones_like(weight))
    per_channel = (1, -1, 1, 1, 1)
    expected = plain * weight.view(per_channel) + bias.view(per_channel)
    torch.testing.assert_close(rms_norm3d(x, weight, bias), expected)


@given(shapes, seeds, activations)
def test_a_residual_is_added_and_gets_the_gradient(shape, seed, activation):
    x, weight, bias = inputs(shape, seed)
    residual = torch.randn_like(x).requires_grad_()
    plain = rms_norm3d(x, weight, bias, 1e-5, activation)
    y = rms_norm3d(x, weight, bias, 1e-5, activation, residual)
    torch.testing.assert_close(y, plain + residual)
    (grad,) = torch.autograd.grad(y, residual, plain)
    assert torch.equal(grad, plain)


@pytest.mark.parametrize("activation", ["none", "silu", "relu"])
def test_a_nan_stays_at_its_position(activation):
    for backend_dtype in (torch.float32, torch.float64):
        x = torch.ones(1, 20, 1, 3, 1, dtype=backend_dtype)
        x[0, 3, 0, 1] = torch.nan
        y = rms_norm3d(x, x.new_ones(20), None, 1e-5, activation)
        assert y[:, :, :, 1].isnan().all() and not y[:, :, :, ::2].isnan().any()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": torch.ones(2, 4)}, ValueError, r"x must be \[B, C, T, H, W\]"),
        ({"weight": torch.ones(3)}, ValueError, r"weight has shape \[3\], expected \[4\]"),
        ({"bias": torch.ones(1, 4)}, ValueError, r"bias has shape \[1, 4\]"),
        ({"bias": torch.ones(4, dtype=torch.int8)}, TypeError, "bias must be floating-point"),
        ({"residual": torch.ones(1, 4, 1, 2, 2)}, ValueError, r"residual has shape .* 2, 3\]"),
        ({"eps": -1.0}, ValueError, "eps must not be negative"),
        ({"activation": "gelu"}, ValueError, "unknown activation 'gelu', accepted are none, silu"),
    ],
)
def test_bad_input(change, error, message):
    arguments = {"x": torch.ones(1, 4, 1, 2, 3), "weight": torch.ones(4), "bias": torch.ones(4)}
    with pytest.raises(error, match=message):
        rms_norm3d(**(arguments | change))
