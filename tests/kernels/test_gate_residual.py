"""Properties of gate_residual."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from opensora_fast.kernels import gate_residual

shapes = st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 17))
seeds = st.integers(0, 2**16)


def inputs(shape, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return tuple(
        torch.randn(s, generator=generator, dtype=torch.float64).to(dtype)
        for s in (shape, (shape[0], shape[2]), shape)
    )


@given(shapes, seeds)
def test_equals_the_formula(shape, seed):
    x, gate, branch = inputs(shape, seed)
    torch.testing.assert_close(gate_residual(x, gate, branch), x + gate[:, None] * branch)


@given(shapes, seeds, st.sampled_from([torch.float32, torch.bfloat16]))
def test_a_closed_gate_passes_the_stream_bit_for_bit(shape, seed, dtype):
    x, gate, branch = inputs(shape, seed, dtype)
    y = gate_residual(x, torch.zeros_like(gate), branch)
    assert torch.equal(y, x)
    assert y.data_ptr() != x.data_ptr()


def test_the_gradient_of_the_stream_is_the_gradient():
    x, gate, branch = (t.requires_grad_() for t in inputs((2, 3, 4), 0))
    y = gate_residual(x, gate, branch)
    g = torch.randn_like(y)
    dx, dgate, dbranch = torch.autograd.grad(y, (x, gate, branch), g)
    assert torch.equal(dx, g)
    torch.testing.assert_close(dgate, (g * branch).sum(1))
    torch.testing.assert_close(dbranch, g * gate[:, None])


def test_frozen_gate_and_branch():
    x, gate, branch = inputs((2, 3, 4), 0)
    x.requires_grad_()
    gate_residual(x, gate, branch).sum().backward()
    assert torch.equal(x.grad, torch.ones_like(x))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.ones(2, 4)}, r"x must be \[B, L, M\]"),
        ({"gate": torch.ones(1, 1, 4)}, r"gate has shape \[1, 1, 4\], expected \[1, 4\]"),
        ({"branch": torch.ones(1, 2, 4)}, r"branch has shape \[1, 2, 4\]"),
    ],
)
def test_bad_input(change, message):
    arguments = {
        "x": torch.ones(1, 3, 4),
        "gate": torch.ones(1, 4),
        "branch": torch.ones(1, 3, 4),
    }
    with pytest.raises(ValueError, match=message):
        gate_residual(**(arguments | change))
