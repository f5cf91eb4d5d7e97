"""Which kernels serve conv3d: pure functions, tested without a GPU."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from opensora_fast.kernels.conv3d import launch, reference
from opensora_fast.kernels.conv3d.launch import geometry, leading, pick, shortcut_of

ONE = (1, 1, 1)
TAPS = (3, 3, 3)


@pytest.mark.parametrize(
    ("kernel", "stride", "scale", "way"),
    [
        (TAPS, ONE, ONE, "plane"),
        (ONE, ONE, ONE, "plane"),
        (TAPS, (1, 2, 2), ONE, "gather"),
        (TAPS, ONE, (1, 2, 2), "doubled"),
        (TAPS, ONE, (2, 2, 2), "doubled"),
        (TAPS, ONE, (3, 1, 2), "gather"),
        (ONE, ONE, (2, 2, 2), "gather"),
    ],
)
def test_the_way_that_serves(
    kernel: tuple[int, ...], stride: tuple[int, ...], scale: tuple[int, ...], way: str
) -> None:
    assert pick(kernel, stride, scale) == way


@given(size=st.integers(1, 6), factor=st.integers(1, 4), pixels=st.integers(1, 5))
def test_taps_meet_as_in_the_enlarged_video(size: int, factor: int, pixels: int) -> None:
    """By enumeration along one axis: which tap of an output sees which pixel."""
    expected = set()
    for y in range(factor * pixels + 2 * (size // 2) - size + 1):
        for tap in range(size):
            seen = y + tap - size // 2
            if 0 <= seen < factor * pixels:
                expected.add((y, seen // factor, tap))
    meeting, first = geometry((size,) * 3, ONE, (factor,) * 3), leading((size,) * 3, (factor,) * 3)
    found = set()
    for pixel in range(pixels):
        p = pixel + meeting.front[0]
        for tap in range(meeting.kernel[0]):
            for copy in range(factor):  # each puts another tap into the sum
                single = tap - first[0] - copy
                if 0 <= single < size:
                    found.add((factor * p - tap, pixel, single))
    outputs = range(factor * pixels + 2 * (size // 2) - size + 1)
    assert expected <= found
    # What lies beyond the output is cut off by the kernels.
    assert {meets for meets in found if meets[0] in outputs} == expected


@pytest.mark.parametrize(
    ("channels", "out_channels", "stride", "scale", "pools", "group"),
    [
        (128, 256, (1, 2, 2), ONE, True, 2),
        (512, 512, (2, 2, 2), ONE, True, 8),
        (16, 128, (2, 2, 2), ONE, True, 1),
        (1024, 128, ONE, ONE, True, 8),
        (64, 64, ONE, ONE, True, 1),
        (128, 1024, ONE, ONE, False, 8),
        (256, 128, ONE, (1, 2, 2), False, 2),
        (64, 64, ONE, (2, 2, 2), False, 8),
    ],
)
def test_a_shortcut_averages_or_repeats(
    channels: int,
    out_channels: int,
    stride: tuple[int, ...],
    scale: tuple[int, ...],
    pools: bool,
    group: int,
) -> None:
    assert shortcut_of(channels, out_channels, stride, scale) == launch.Shortcut(
        pools=pools, group=group
    )


def meta(*shape: int) -> torch.Tensor:
    return torch.empty(shape, dtype=torch.bfloat16, device="meta")


def test_sizes_beyond_the_index_range_are_refused() -> None:
    def why(x: torch.Tensor, weight: torch.Tensor, *rest: object) -> str:
        return launch.why_not_sizes(x, weight, *rest) or ""

    video = meta(1, 128, 128, 768, 768)
    assert why(video, meta(128, 128, *TAPS), ONE, ONE, False) == ""
    assert "empty" in why(meta(0, 8, 1, 2, 2), meta(8, 8, *TAPS), ONE, ONE, False)
    long = meta(1, 8, 2**15, 2**8, 2**8)
    assert "padded pixels" in why(long, meta(8, 8, *TAPS), ONE, ONE, False)
    enlarged = meta(1, 8, 2**12, 2**9, 2**8)
    assert "the output has" in why(enlarged, meta(8, 8, *ONE), ONE, (2, 2, 2), False)
    assert "rows" in why(meta(1, 8, 2**12, 2**9, 2**9), meta(8, 8, *TAPS), ONE, (2, 2, 2), False)
    # Two frames of a block that is averaged, but not one, exceed 32 bits.
    large = meta(1, 2**10, 2, 2**10, 2**10 + 2**9)
    assert why(large, meta(2**10, 2**10, *TAPS), (2, 2, 2), ONE, False) == ""
    assert "2 frames have" in why(large, meta(2**10, 2**10, *TAPS), (2, 2, 2), ONE, True)


def test_gradients_of_other_dtypes_are_refused() -> None:
    x, weight = torch.zeros(1, 4, 1, 2, 2).double(), torch.zeros(2, 4, 1, 1, 1).double()
    grad = torch.zeros(1, 2, *reference.output_size((1, 2, 2), ONE, ONE, ONE)).double()
    assert launch.why_not(x, weight, None, ONE, ONE, False, False, True)
    refused = launch.backward_why_not(grad, x, weight, ONE, ONE, False, False, True, (True,) * 3)
    assert refused is not None and "Triton" in refused
