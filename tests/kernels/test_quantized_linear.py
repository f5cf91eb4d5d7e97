"""Properties of quantize_rows, quantized_linear and layer_norm_modulate_quantized."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from opensora_fast.kernels import (
    layer_norm_modulate,
    layer_norm_modulate_quantized,
    quantize_rows,
    quantized_linear,
)
from opensora_fast.kernels.agreement import noise
from opensora_fast.kernels.quantized_linear import preferred_format, quantize_weight
from opensora_fast.kernels.registry import explain, use_backend

FORMATS = ("int8", "fp8")
seeds = st.integers(0, 2**16)


@given(seeds, st.integers(1, 40), st.floats(1e-20, 1e20))
def test_int8_is_off_by_half_a_step_at_most(seed, width, size):
    x = noise(3, width, dtype=torch.float32, seed=seed) * size
    values, scales = quantize_rows(x)
    error = (values * scales[:, None] - x).abs()
    assert bool((error <= scales[:, None] * 0.5001).all())
    assert bool((values.abs().amax(1) == 127).all())


@given(seeds, st.integers(1, 40))
def test_fp8_is_off_by_a_sixteenth_at_most(seed, width):
    x = noise(3, width, dtype=torch.float32, seed=seed)
    values, scales = quantize_rows(x, "fp8")
    restored = values.float() * scales[:, None]
    # Below 2^-6 steps are even: 2^-9 of a scale's unit.
    bound = torch.maximum(x.abs() / 16, scales[:, None] * 2.0**-10) * 1.0001
    assert bool(((restored - x).abs() <= bound).all())


@pytest.mark.parametrize("format", FORMATS)
@given(seed=seeds, power=st.integers(-20, 20))
def test_powers_of_two_only_change_the_scales(format, seed, power):
    x = noise(2, 9, dtype=torch.float32, seed=seed)
    values, scales = quantize_rows(x, format)
    others, other_scales = quantize_rows(x * 2.0**power, format)
    assert torch.equal(values.float(), others.float())
    assert torch.equal(scales * 2.0**power, other_scales)


def test_zeros_and_tiny_rows_stay_finite():
    x = torch.stack([torch.zeros(4), torch.full((4,), 1e-40), torch.ones(4)])
    values, scales = quantize_rows(x)
    assert values[:2].eq(0).all() and values[2].eq(127).all()
    assert bool((scales > 0).all() and scales.isfinite().all())


@pytest.mark.parametrize("format", FORMATS)
@given(seed=seeds, dtype=st.sampled_from([torch.float32, torch.bfloat16]))
def test_rows_quantised_beforehand_give_the_same_bits(format, seed, dtype):
    x = noise(2, 5, 24, dtype=dtype, seed=seed)
    weight, weight_scales = quantize_weight(noise(16, 24, dtype=dtype, seed=seed + 1), format)
    values, scales = quantize_rows(x, format)
    for backend in ("torch", "reference"):
        with use_backend(backend):
            y = quantized_linear(x, weight, weight_scales)
            z = quantized_linear(values, weight, weight_scales, None, scales, dtype)
        assert y.dtype == dtype and torch.equal(y, z)


@pytest.mark.parametrize("format", FORMATS)
@given(seed=seeds)
def test_tokens_do_not_meet(format, seed):
    x = noise(6, 24, dtype=torch.float32, seed=seed)
    weight = quantize_weight(noise(16, 24, dtype=torch.float32, seed=seed + 1), format)
    y = quantized_linear(x, *weight)
    changed = x.clone()
    changed[3] *= 100
    others = [0, 1, 2, 4, 5]
    torch.testing.assert_close(quantized_linear(changed, *weight)[others], y[others])


@pytest.mark.parametrize(
    ("outliers", "format", "stated"),
    [
        (False, "int8", 1.2e-2),
        (False, "fp8", 3.7e-2),
        (True, "int8", 7.0e-2),
        (True, "fp8", 3.4e-2),
    ],
)
def test_the_error_is_the_one_that_the_documentation_states(outliers, format, stated):
    x, weight = (noise(n, 3072, seed=s, dtype=torch.float64) for n, s in ((256, 0), (384, 1)))
    if outliers:
        x[:, ::384] *= 30
    exact = x @ weight.T
    y = quantized_linear(x.float(), *quantize_weight(weight.float(), format))
    error = float((y - exact).norm() / exact.norm())
    assert error == pytest.approx(stated, rel=0.1)


@pytest.mark.parametrize("format", FORMATS)
def test_the_fused_input_is_the_two_ops_one_after_the_other(format):
    x = noise(2, 7, 48, dtype=torch.float32, seed=0)
    shift, scale = (noise(2, 48, dtype=torch.float32, seed=s) for s in (1, 2))
    with use_backend("reference"):
        got = layer_norm_modulate_quantized(x, shift, scale, format)
        want = quantize_rows(layer_norm_modulate(x, shift, scale), format)
    for a, b in zip(got, want, strict=True):
        assert torch.equal(a.float(), b.float())


def test_bad_input():
    x, weight = torch.ones(2, 3), torch.ones(4, 3)
    values, scales = quantize_weight(weight)
    with pytest.raises(ValueError, match="unknown format 'int4', accepted are int8, fp8"):
        quantize_rows(x, "int4")
    with pytest.raises(ValueError, match="K of at least 1"):
        quantize_rows(torch.ones(2, 0))
    with pytest.raises(ValueError, match=r"quantize_weight: weight must be \[N, K\]"):
        quantize_weight(torch.ones(3))
    with pytest.raises(TypeError, match=r"weight is torch\.float32, accepted are torch\.int8"):
        quantized_linear(x, weight, scales)
    with pytest.raises(TypeError, match="x without scales must be floating-point"):
        quantized_linear(values, values, scales)
    with pytest.raises(ValueError, match="x_scales and dtype belong together"):
        quantized_linear(values, values, scales, None, scales)
    with pytest.raises(TypeError, match=r"x with scales is torch\.float32, weight is torch\.int8"):
        quantized_linear(x, values, scales, None, torch.ones(2), torch.float32)
    with pytest.raises(ValueError, match=r"x must be \[..., K\] and weight \[N, K\]"):
        quantized_linear(torch.ones(2, 5), values, scales)
    with pytest.raises(ValueError, match="bias has shape"):
        quantized_linear(x, values, scales, torch.ones(3))


def test_gradients_are_refused_with_a_reason():
    x = torch.ones(2, 3, requires_grad=True)
    with pytest.raises(NotImplementedError, match="serve inference and have no gradient"):
        quantized_linear(x, *quantize_weight(torch.ones(4, 3))).sum().backward()


def test_what_the_library_does_not_take_has_a_reason():
    values, scales = quantize_weight(torch.ones(4, 3))
    x = torch.ones(2, 3, dtype=torch.float64)
    reasons = {v.backend: v.reason for v in explain("quantized_linear", x, values, scales)}
    assert "fp64" in str(reasons["torch"])
    assert preferred_format("cpu") == "int8"
