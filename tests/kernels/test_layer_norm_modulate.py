"""Properties of layer_norm_modulate."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from opensora_fast.kernels import layer_norm_modulate
from opensora_fast.kernels.layer_norm_modulate import _torch
from opensora_fast.kernels.testing import assert_as_accurate

shapes = st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(2, 17))
seeds = st.integers(0, 2**16)


def inputs(shape, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return tuple(
        torch.randn(s, generator=generator, dtype=torch.float64).to(dtype)
        for s in (shape, (shape[0], shape[2]), (shape[0], shape[2]))
    )


@given(shapes, seeds)
def test_equals_torch(shape, seed):
    x, shift, scale = inputs(shape, seed)
    expected = F.layer_norm(x, x.shape[2:], eps=1e-6) * (1 + scale[:, None]) + shift[:, None]
    torch.testing.assert_close(layer_norm_modulate(x, shift, scale), expected)


@given(shapes, seeds, st.floats(0.5, 4), st.floats(-3, 3))
def test_invariant_to_scale_and_shift_of_a_token(shape, seed, factor, offset):
    x, shift, scale = inputs(shape, seed)
    moved = layer_norm_modulate(factor * x + offset, shift, scale, eps=0.0)
    torch.testing.assert_close(moved, layer_norm_modulate(x, shift, scale, eps=0.0))


@given(shapes, seeds)
def test_linear_in_shift_and_scale(shape, seed):
    x, shift, scale = inputs(shape, seed)
    plain = layer_norm_modulate(x, torch.zeros_like(shift), torch.zeros_like(scale))
    expected = plain * (1 + scale[:, None]) + shift[:, None]
    torch.testing.assert_close(layer_norm_modulate(x, shift, scale), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_both_ways_through_the_library_are_accurate(dtype):
    """The one for CUDA is plain torch too: its arithmetic can be checked anywhere."""
    x, shift, scale = inputs((3, 5, 32), 7, dtype)
    wide = [t.double() for t in (x, shift, scale)]
    exact = layer_norm_modulate(*wide)
    grad = torch.randn(x.shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    exact_grads = _torch.backward(grad.double(), *wide, 1e-6)
    for forward, backward in (
        (_torch._per_sample, _torch._per_sample_backward),
        (_torch._fused, _torch._fused_backward),
    ):
        assert_as_accurate(forward(x, shift, scale, 1e-6), exact, exact.to(dtype), roundings=3)
        for got, want in zip(backward(grad, x, scale, 1e-6), exact_grads, strict=True):
            assert_as_accurate(got.to(dtype), want, want.to(dtype), roundings=4)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": torch.ones(2, 4)}, ValueError, r"x must be \[B, L, M\]"),
        ({"shift": torch.ones(1, 1, 4)}, ValueError, r"shift has shape .* expected \[1, 4\]"),
        ({"scale": torch.ones(2, 4)}, ValueError, r"scale has shape \[2, 4\]"),
        ({"scale": torch.ones(1, 4, dtype=torch.int8)}, TypeError, "scale must be floating-point"),
        ({"eps": -1.0}, ValueError, "eps must not be negative"),
    ],
)
def test_bad_input(change, error, message):
    arguments = {
        "x": torch.ones(1, 3, 4),
        "shift": torch.ones(1, 4),
        "scale": torch.ones(1, 4),
    }
    with pytest.raises(error, match=message):
        layer_norm_modulate(**(arguments | change))
