"""Properties of qk_norm_rope."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from opensora_fast.kernels import qk_norm_rope

shapes = st.tuples(
    st.integers(1, 2), st.integers(1, 5), st.integers(1, 3), st.integers(1, 8).map(lambda n: 2 * n)
)
layouts = st.sampled_from(["half", "interleaved"])
seeds = st.integers(0, 2**16)


def inputs(shape, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)

    def draw(*size):
        return torch.randn(size, generator=generator, dtype=torch.float64)

    q, k = draw(*shape).to(dtype), draw(*shape).to(dtype)
    scales = draw(shape[3]).to(dtype), draw(shape[3]).to(dtype)
    return q, k, *scales, draw(shape[1], shape[3] // 2)


def run(q, k, q_scale, k_scale, angles, layout, eps=1e-6):
    table = torch.float64 if q.dtype == torch.float64 else torch.float32
    cos, sin = angles.cos().to(table), angles.sin().to(table)
    return qk_norm_rope(q, k, q_scale, k_scale, cos, sin, layout, eps)


@given(shapes, layouts, seeds)
def test_norm_of_a_head_without_scale_is_the_root_of_its_width(shape, layout, seed):
    q, k, q_scale, _, angles = inputs(shape, seed)
    ones = torch.ones_like(q_scale)
    for y in run(q, k, ones, ones, angles, layout, eps=0.0):
        norm = y.square().sum(3)
        torch.testing.assert_close(norm, torch.full_like(norm, shape[3]))


@given(shapes, layouts, seeds)
def test_scores_depend_on_the_difference_of_angles(shape, layout, seed):
    q, k, q_scale, k_scale, angles = inputs(shape, seed)

    def scores(shift):
        a, b = run(q, k, q_scale, k_scale, angles + shift, layout)
        return torch.einsum("bind,bjnd->bnij", a, b)

    torch.testing.assert_close(scores(1.3), scores(0.0))


@given(shapes, seeds)
def test_layouts_differ_by_a_permutation_of_channels(shape, seed):
    q, k, q_scale, k_scale, angles = inputs(shape, seed)
    width = shape[3]
    order = torch.arange(width).view(2, -1).T.flatten()
    half = run(q, k, q_scale, k_scale, angles, "half")
    permuted = (x[..., order] for x in (q, k, q_scale, k_scale))
    interleaved = run(*permuted, angles, "interleaved")
    for a, b in zip(half, interleaved, strict=True):
        torch.testing.assert_close(a[..., order], b)


@given(shapes, layouts, seeds)
def test_zero_angle_is_the_norm_with_its_two_roundings(shape, layout, seed):
    q, k, q_scale, k_scale, angles = inputs(shape, seed, torch.bfloat16)
    y, _ = run(q, k, q_scale, k_scale, torch.zeros_like(angles), layout)
    wide = q.float()
    normed = (wide * torch.rsqrt(wide.square().mean(3, keepdim=True) + 1e-6)).bfloat16()
    expected = normed * q_scale
    # A sum in another order may move the norm over a rounding boundary.
    torch.testing.assert_close(y, expected, rtol=2**-7, atol=1e-3)
    assert (y == expected).float().mean() > 0.9


def test_tables_per_sample_act_per_sample():
    q, k, q_scale, k_scale, angles = inputs((2, 3, 2, 8), 0)
    both = torch.stack((angles, angles + 0.7))
    together = run(q, k, q_scale, k_scale, both, "half")
    for b in range(2):
        alone = run(q[b : b + 1], k[b : b + 1], q_scale, k_scale, both[b], "half")
        for x, y in zip(together, alone, strict=True):
            torch.testing.assert_close(x[b : b + 1], y)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"q": torch.ones(1, 3, 2, 5)}, ValueError, "even D"),
        ({"k": torch.ones(1, 2, 2, 4)}, ValueError, r"k has shape \[1, 2, 2, 4\]"),
        ({"k": torch.ones(1, 3, 2, 4).half()}, TypeError, "k is torch.float16"),
        ({"q_scale": torch.ones(3)}, ValueError, "q_scale has shape"),
        ({"cos": torch.ones(3, 4)}, ValueError, r"cos has shape \[3, 4\], expected \[3, 2\]"),
        ({"sin": torch.ones(1, 3, 2)}, ValueError, r"sin has shape \[1, 3, 2\]"),
        ({"layout": "pairs"}, ValueError, "'pairs', accepted are half, interleaved"),
        ({"eps": -1e-6}, ValueError, "eps must not be negative"),
    ],
)
def test_bad_input(change, error, message):
    arguments = {
        "q": torch.ones(1, 3, 2, 4),
        "k": torch.ones(1, 3, 2, 4),
        "q_scale": torch.ones(4),
        "k_scale": torch.ones(4),
        "cos": torch.ones(3, 2),
        "sin": torch.ones(3, 2),
    }
    with pytest.raises(error, match=message):
        qk_norm_rope(**(arguments | change))
