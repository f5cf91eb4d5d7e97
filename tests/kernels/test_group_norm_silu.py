"""Properties of group_norm_silu."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from opensora_fast.kernels import group_norm_silu

shapes = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(2, 9))
seeds = st.integers(0, 2**16)


def inputs(shape, seed, dtype=torch.float64):
    batch, groups, per_group, pixels = shape
    generator = torch.Generator().manual_seed(seed)
    x, w, b = (
        torch.randn(s, generator=generator, dtype=torch.float64).to(dtype)
        for s in ((batch, groups * per_group, 2, pixels, 1), *[(groups * per_group,)] * 2)
    )
    return x, w, b, groups


@given(shapes, seeds, st.booleans())
def test_equals_torch(shape, seed, silu):
    x, w, b, groups = inputs(shape, seed)
    expected = F.group_norm(x, groups, w, b, eps=1e-6)
    expected = F.silu(expected) if silu else expected
    torch.testing.assert_close(group_norm_silu(x, w, b, groups, silu=silu), expected)


@given(shapes, seeds, st.floats(0.5, 4), st.floats(-3, 3))
def test_invariant_to_scale_and_shift_of_a_group(shape, seed, factor, offset):
    x, w, b, groups = inputs(shape, seed)
    moved = group_norm_silu(factor * x + offset, w, b, groups, eps=0.0)
    torch.testing.assert_close(moved, group_norm_silu(x, w, b, groups, eps=0.0))


@given(shapes, seeds)
def test_positions_may_be_permuted(shape, seed):
    x, w, b, groups = inputs(shape, seed)
    order = torch.randperm(x.shape[3], generator=torch.Generator().manual_seed(seed))
    permuted = group_norm_silu(x[:, :, :, order], w, b, groups)
    torch.testing.assert_close(permuted, group_norm_silu(x, w, b, groups)[:, :, :, order])


@given(shapes, seeds)
def test_samples_are_independent(shape, seed):
    x, w, b, groups = inputs(shape, seed, torch.float32)
    together = group_norm_silu(x, w, b, groups)
    alone = torch.cat([group_norm_silu(x[i : i + 1], w, b, groups) for i in range(len(x))])
    torch.testing.assert_close(together, alone)


def test_the_gradient_of_x_is_orthogonal_to_ones():
    x, w, b, groups = inputs((2, 2, 3, 7), 1)
    x.requires_grad_()
    y = group_norm_silu(x, w, b, groups)
    (dx,) = torch.autograd.grad((y * torch.randn_like(y)).sum(), x)
    sums = dx.reshape(2, groups, -1).sum(2)
    torch.testing.assert_close(sums, torch.zeros_like(sums))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": torch.ones(4)}, ValueError, r"x must be \[B, C, ...\], got shape \[4\]"),
        ({"num_groups": 3}, ValueError, "4 channels cannot be split into 3 groups"),
        ({"num_groups": 0}, ValueError, "into 0 groups"),
        ({"weight": torch.ones(3)}, ValueError, r"weight has shape \[3\], expected \[4\]"),
        ({"eps": -1.0}, ValueError, "eps must not be negative, got -1.0"),
        ({"bias": torch.ones(4, dtype=torch.long)}, TypeError, "bias must be floating-point"),
    ],
)
def test_bad_input(change, error, message):
    arguments = {
        "x": torch.ones(1, 4, 2),
        "weight": torch.ones(4),
        "bias": torch.ones(4),
        "num_groups": 2,
    }
    with pytest.raises(error, match=message):
        group_norm_silu(**(arguments | change))
