"""Properties of pixel_unshuffle_average3d and channel_duplicate_shuffle3d."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from opensora_fast.kernels import channel_duplicate_shuffle3d, pixel_unshuffle_average3d
from opensora_fast.kernels.common import pixel_shuffle_launch
from opensora_fast.kernels.common.pixel_shuffle import Split

scales = st.tuples(*[st.integers(1, 3)] * 3)
sizes = st.tuples(*[st.integers(1, 3)] * 3)
counts = st.integers(1, 4)
layouts = st.sampled_from((torch.contiguous_format, torch.channels_last_3d))


def video(*shape, layout=torch.contiguous_format, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    return x.contiguous(memory_format=layout)


def large_size(size, scale):
    return tuple(n * s for n, s in zip(size, scale, strict=True))


@st.composite
def problems(draw):
    """Channels of a large and of a small video that fit together, the small size, the scale."""
    scale, size, large = draw(scales), draw(sizes), draw(counts)
    unshuffled = large * math.prod(scale)
    small = draw(st.sampled_from([n for n in range(1, unshuffled + 1) if unshuffled % n == 0]))
    return large, small, size, scale


@given(problems(), layouts)
def test_averages_of_copies_are_what_was_copied(problem, layout):
    large, small, size, scale = problem
    x = video(2, small, *size, layout=layout)
    copies = channel_duplicate_shuffle3d(x, large, scale)
    torch.testing.assert_close(pixel_unshuffle_average3d(copies, small, scale), x)


@given(problems(), layouts)
def test_each_is_the_others_gradient_up_to_the_group(problem, layout):
    large, small, size, scale = problem
    group = large * math.prod(scale) // small
    x = video(1, large, *large_size(size, scale), layout=layout).requires_grad_()
    y = video(1, small, *size, layout=layout, seed=1).requires_grad_()
    (dx,) = torch.autograd.grad(pixel_unshuffle_average3d(x, small, scale), x, y.detach())
    torch.testing.assert_close(dx * group, channel_duplicate_shuffle3d(y.detach(), large, scale))
    (dy,) = torch.autograd.grad(channel_duplicate_shuffle3d(y, large, scale), y, x.detach())
    torch.testing.assert_close(dy / group, pixel_unshuffle_average3d(x.detach(), small, scale))


@given(sizes, st.integers(2, 3))
def test_space_alone_is_torchs_pixel_unshuffle(size, factor):
    x = video(2, 3, size[0], factor * size[1], factor * size[2])
    frames = x.movedim(2, 1).flatten(0, 1)
    expected = F.pixel_unshuffle(frames, factor).unflatten(0, (2, -1)).movedim(1, 2)
    scale = (1, factor, factor)
    assert torch.equal(pixel_unshuffle_average3d(x, 3 * factor**2, scale), expected)
    assert torch.equal(channel_duplicate_shuffle3d(expected, 3, scale), x)


@given(problems(), layouts)
def test_what_is_added_is_added_and_gets_the_gradient(problem, layout):
    large, small, size, scale = problem
    down = (video(1, large, *large_size(size, scale)), small)
    up = (video(1, small, *size), large)
    for op, (x, channels) in (
        (pixel_unshuffle_average3d, down),
        (channel_duplicate_shuffle3d, up),
    ):
        plain = op(x, channels, scale)
        added = video(*plain.shape, layout=layout, seed=2).requires_grad_()
        y = op(x, channels, scale, added)
        torch.testing.assert_close(y, plain + added)
        assert y.stride() == plain.stride()
        (grad,) = torch.autograd.grad(y, added, plain)
        assert torch.equal(grad, plain)


def test_only_what_wants_a_gradient_gets_one():
    x, added = video(1, 2, 2, 2, 2), video(1, 16, 1, 1, 1).to(torch.float32).requires_grad_()
    y = pixel_unshuffle_average3d(x, 16, (2, 2, 2), added)
    y.sum().backward()
    assert added.grad is not None and added.grad.dtype == torch.float32


@pytest.mark.parametrize(
    ("large", "small", "scale", "expected"),
    [
        (128, 256, (1, 2, 2), ((128, 1), ((1, 1), (2, 1), (1, 2)))),
        (512, 1024, (2, 2, 2), ((512, 1), ((2, 1), (1, 2), (1, 2)))),
        (1024, 128, (1, 1, 1), ((128, 8), ((1, 1), (1, 1), (1, 1)))),
        (512, 256, (1, 2, 2), ((256, 2), ((1, 1), (1, 2), (1, 2)))),
        (3, 2, (1, 2, 2), None),
    ],
)
def test_a_group_is_a_box_of_channels_and_pixels(large, small, scale, expected):
    assert Split.of(large, small, scale) == (None if expected is None else Split(*expected))


@given(problems(), st.integers(1, 5000), st.integers(1, 5000), st.booleans(), st.booleans())
def test_triton_launches_cover_every_pixel_and_channel(
    problem, width, times_channels, channels_last, spread
):
    large, small, _, scale = problem
    problem = pixel_shuffle_launch.Problem(
        rows=7,
        width=width,
        small_channels=small * times_channels,
        large_channels=large * times_channels,
        scale=scale,
        channels_last=channels_last,
    )
    assert problem.runs * problem.joined == problem.pixels
    assert problem.terms * problem.joined == problem.group
    config = pixel_shuffle_launch.pick(problem, spread=spread)
    at_large = config.whole_blocks or spread
    channels = problem.large_channels if at_large else problem.small_channels
    pixels = width * (scale[2] if spread and not config.whole_blocks else 1)
    rows = 7 * (scale[0] * scale[1] if spread and not config.whole_blocks else 1)
    assert config.rows == rows
    assert config.width_tiles * config.block_w >= pixels
    assert config.channel_tiles * config.block_c >= channels
    assert config.block_w * config.block_c <= 2048
    if config.whole_blocks:
        # A tile of blocks is a whole number of groups.
        assert config.block_c * problem.runs % problem.terms == 0


X = torch.ones(1, 4, 2, 4, 6)


@pytest.mark.parametrize("op", [pixel_unshuffle_average3d, channel_duplicate_shuffle3d])
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": torch.ones(2, 4)}, ValueError, r"x must be \[B, C, T, H, W\]"),
        ({"x": torch.ones(1, 4, 2, 2, 2).int()}, TypeError, "x must be floating-point"),
        ({"out_channels": 0}, ValueError, "out_channels must be at least 1, got 0"),
        ({"scale": (2, 2)}, ValueError, r"scale must be three numbers .* got \[2, 2\]"),
        ({"scale": (2, 0, 2)}, ValueError, r"scale must be three numbers .* got \[2, 0, 2\]"),
        ({"added": torch.ones(1, 4, 1, 2, 9)}, ValueError, r"added has shape \[1, 4, 1, 2, 9\]"),
        ({"added": torch.ones(1).int()}, TypeError, "added must be floating-point"),
    ],
)
def test_bad_input(op, change, error, message):
    with pytest.raises(error, match=message):
        op(**({"x": X, "out_channels": 4} | change))


def test_bad_sizes_and_channels():
    with pytest.raises(ValueError, match=r"T, H, W \[2, 4, 6\], not divisible by .*\[2, 2, 4\]"):
        pixel_unshuffle_average3d(X, 4, (2, 2, 4))
    with pytest.raises(ValueError, match="are 32, which do not make 5 equal groups"):
        pixel_unshuffle_average3d(X, 5)
    with pytest.raises(ValueError, match=r"are 24, .* equal groups for the 7 channels of x"):
        channel_duplicate_shuffle3d(torch.ones(1, 7, 2, 2, 2), 3)
