"""Properties of causal_conv3d."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from opensora_fast.kernels import causal_conv3d

sizes = st.tuples(st.integers(1, 5), st.integers(1, 6), st.integers(1, 6))
kernels = st.tuples(st.integers(1, 3), st.sampled_from([1, 3]), st.sampled_from([1, 3, 5]))
strides = st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 2))
modes = st.sampled_from(["replicate", "zeros"])
seeds = st.integers(0, 2**16)


def inputs(size, kernel, seed, dtype=torch.float64, channels=3, out=2):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    return draw(2, channels, *size), draw(out, channels, *kernel), draw(out)


@given(sizes, kernels, strides, modes, seeds)
def test_equals_torch_after_explicit_padding(size, kernel, stride, mode, seed):
    x, w, b = inputs(size, kernel, seed)
    rows, columns = kernel[1] // 2, kernel[2] // 2
    padding = (columns, columns, rows, rows, kernel[0] - 1, 0)
    padded = F.pad(x, padding, "replicate" if mode == "replicate" else "constant")
    expected = F.conv3d(padded, w, b, stride)
    actual = causal_conv3d(x, w, b, stride, mode)
    assert actual.shape[2] == (size[0] - 1) // stride[0] + 1
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


@given(
    sizes,
    kernels,
    modes,
    seeds,
    st.sampled_from([torch.float32, torch.bfloat16]),
    st.sampled_from([3, 16]),
)
def test_the_future_has_no_influence(size, kernel, mode, seed, dtype, channels):
    x, w, b = inputs(size, kernel, seed, dtype, channels, channels)
    before = causal_conv3d(x, w, b, pad_mode=mode)
    for frame in range(size[0] - 1):
        changed = x.clone()
        changed[:, :, frame + 1 :] = 7.0
        after = causal_conv3d(changed, w, b, pad_mode=mode)
        assert torch.equal(after[:, :, : frame + 1], before[:, :, : frame + 1])


@given(sizes, kernels, strides, modes, seeds)
def test_linear_in_x_and_in_weight(size, kernel, stride, mode, seed):
    x, w, _ = inputs(size, kernel, seed)
    x2, w2, _ = inputs(size, kernel, seed + 1)

    def conv(a, b):
        return causal_conv3d(a, b, None, stride, mode)

    torch.testing.assert_close(conv(2 * x - x2, w), 2 * conv(x, w) - conv(x2, w))
    torch.testing.assert_close(conv(x, 2 * w - w2), 2 * conv(x, w) - conv(x, w2))


@given(sizes, kernels, seeds)
def test_replicate_keeps_a_constant_video(size, kernel, seed):
    _, w, b = inputs(size, kernel, seed)
    y = causal_conv3d(torch.full((1, 3, *size), 0.5, dtype=torch.float64), w, b)
    expected = (0.5 * w.sum((1, 2, 3, 4)) + b).view(1, -1, 1, 1, 1).expand_as(y)
    torch.testing.assert_close(y, expected)


def test_frozen_inputs_get_no_gradient():
    x, w, b = inputs((2, 3, 3), (3, 3, 3), 0)
    w.requires_grad_()
    (grad,) = torch.autograd.grad(causal_conv3d(x, w, b).sum(), [w])
    assert grad.shape == w.shape and not x.requires_grad


@pytest.mark.parametrize("width", [1, 2, 3])
def test_narrow_half_precision_images(width):
    """Library convolutions have been wrong for one output column in bf16."""
    x, w, b = inputs((3, 4, width), (3, 3, 3), 5, torch.bfloat16, channels=16, out=16)
    for stride in ((1, 1, 1), (1, 3, 3), (2, 2, 2)):
        expected = causal_conv3d(x.double(), w.double(), b.double(), stride)
        actual = causal_conv3d(x, w, b, stride)
        torch.testing.assert_close(actual.double(), expected, rtol=2**-7, atol=2**-6)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": torch.ones(2, 3, 4, 5)}, ValueError, r"x must be \[B, C, T, H, W\]"),
        ({"x": torch.ones(1, 4, 2, 3, 3)}, ValueError, "weight has 3 input channels, x has 4"),
        ({"x": torch.ones(1, 3, 0, 3, 3)}, ValueError, "too small"),
        ({"x": torch.ones(1, 3, 2, 3, 3, dtype=torch.int32)}, TypeError, "floating-point"),
        ({"x": [1.0]}, TypeError, "x must be a tensor, got list"),
        ({"weight": torch.ones(2, 3, 1, 1, 1).double()}, TypeError, "torch.float64"),
        ({"bias": torch.ones(3)}, ValueError, r"bias has shape \[3\], expected \[2\]"),
        ({"bias": torch.ones(2, device="meta")}, ValueError, "bias is on meta"),
        ({"stride": (1, 0, 1)}, ValueError, r"stride must be three numbers .* got \[1, 0, 1\]"),
        ({"stride": (1, 1)}, ValueError, "stride"),
        ({"pad_mode": "reflect"}, ValueError, "'reflect', accepted are replicate, zeros, valid"),
    ],
)
def test_bad_input(change, error, message):
    arguments = {
        "x": torch.ones(1, 3, 2, 3, 3),
        "weight": torch.ones(2, 3, 1, 1, 1),
        "bias": torch.ones(2),
    }
    with pytest.raises(error, match=message):
        causal_conv3d(**(arguments | change))


def test_valid_needs_room_for_the_kernel():
    with pytest.raises(ValueError, match=r"T, H, W \[2, 3, 3\] is too small"):
        causal_conv3d(torch.ones(1, 3, 2, 3, 3), torch.ones(2, 3, 3, 3, 3), pad_mode="valid")
