"""Properties of nearest_upsample3d."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from opensora_fast.kernels import nearest_upsample3d

shapes = st.tuples(*[st.integers(1, 4)] * 5)
scales = st.tuples(*[st.integers(1, 3)] * 3)


def video(shape, dtype=torch.float32):
    return torch.arange(torch.Size(shape).numel()).reshape(shape).to(dtype)


@given(shapes, scales)
def test_first_frame_only_in_space_others_by_the_full_factor(shape, scale):
    x = video(shape)
    y = nearest_upsample3d(x, scale)
    assert y.shape[2] == 1 + scale[0] * (shape[2] - 1)
    first = F.interpolate(x[:, :, 0], scale_factor=scale[1:], mode="nearest")
    assert torch.equal(y[:, :, 0], first)
    if shape[2] > 1:
        rest = F.interpolate(x[:, :, 1:], scale_factor=scale, mode="nearest")
        assert torch.equal(y[:, :, 1:], rest)


@given(shapes, scales, st.booleans())
def test_sampling_the_output_gives_the_input_back(shape, scale, channels_last):
    x = video(shape)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last_3d)
    y = nearest_upsample3d(x, scale)
    assert torch.equal(y[:, :, :: scale[0], :: scale[1], :: scale[2]], x)


@given(shapes, scales)
def test_backward_is_the_adjoint(shape, scale):
    x = video(shape, torch.float64).requires_grad_()
    y = nearest_upsample3d(x, scale)
    g = torch.randn_like(y)
    (dx,) = torch.autograd.grad(y, x, g)
    torch.testing.assert_close((dx * x).sum(), (g * y).sum())


@pytest.mark.parametrize(
    ("x", "scale", "message"),
    [
        (torch.ones(1, 2, 3, 4), (2, 2, 2), r"x must be \[B, C, T, H, W\]"),
        (torch.ones(1, 2, 0, 4, 4), (2, 2, 2), "at least one frame"),
        (torch.ones(1, 2, 1, 4, 4), (2, 0, 2), r"scale must be .* got \[2, 0, 2\]"),
        (torch.ones(1, 2, 1, 4, 4), (2, 2), "three numbers"),
    ],
)
def test_bad_input(x, scale, message):
    with pytest.raises(ValueError, match=message):
        nearest_upsample3d(x, scale)
