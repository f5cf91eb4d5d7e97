"""Tiling a network that treats every place alike changes nothing; ramps are the original's."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from opensora_fast.models.tiling import TileSizes, blend_into, tile_in_space, tile_in_time

# Windows in multiples of 4 with overlap 1/4: truncation never bites, as in the released models.
QUARTERS = st.sampled_from([4, 8, 12])


def video(t: int, h: int, w: int) -> torch.Tensor:
    return torch.randn(1, 2, t, h, w, generator=torch.Generator().manual_seed(t * h * w))


@settings(deadline=None, max_examples=30, derandomize=True)
@given(QUARTERS, st.integers(1, 17), st.integers(1, 17))
def test_upsampling_in_space(window: int, h: int, w: int) -> None:
    def network(x):
        return F.interpolate(x, scale_factor=(1, 2, 2))

    x = video(2, h, w)
    sizes = TileSizes.from_windows(window, 2 * window, 0.25)
    torch.testing.assert_close(tile_in_space(x, network, sizes), network(x))


@settings(deadline=None, max_examples=30, derandomize=True)
@given(QUARTERS, st.integers(1, 10), st.integers(1, 10))
def test_downsampling_in_space(window: int, h: int, w: int) -> None:
    def network(x):
        return F.avg_pool3d(x, (1, 2, 2))

    x = video(1, 2 * h, 2 * w)
    sizes = TileSizes.from_windows(2 * window, window, 0.25)
    torch.testing.assert_close(tile_in_space(x, network, sizes), network(x))


@settings(deadline=None, max_examples=30, derandomize=True)
@given(QUARTERS, st.integers(1, 40))
def test_causal_networks_in_time(window: int, t: int) -> None:
    def decode(x):
        later = x[:, :, 1:].repeat_interleave(4, dim=2)
        return torch.cat([x[:, :, :1], later], dim=2)

    def encode(x):
        # A latent frame of four pixel frames; of fewer, when the video ends within them.
        later = [chunk.mean(dim=2, keepdim=True) for chunk in x[:, :, 1:].split(4, dim=2)]
        return torch.cat([x[:, :, :1], *(later if x.shape[2] > 1 else [])], dim=2)

    z = video(t, 2, 3)
    sizes = TileSizes.from_windows(window, 4 * window, 0.25)
    torch.testing.assert_close(tile_in_time(z, decode, sizes, causal=True), decode(z))
    x = video(4 * (t - 1) + 1, 2, 3)
    sizes = TileSizes.from_windows(4 * window, window, 0.25)
    torch.testing.assert_close(tile_in_time(x, encode, sizes, causal=True), encode(x))


@settings(deadline=None, max_examples=30, derandomize=True)
@given(QUARTERS, st.integers(1, 40))
def test_other_networks_in_time(window: int, t: int) -> None:
    def network(x):
        return x.repeat_interleave(2, dim=2)

    x = video(t, 2, 3)
    sizes = TileSizes.from_windows(window, 2 * window, 0.25)
    torch.testing.assert_close(tile_in_time(x, network, sizes, causal=False), network(x))


def test_ramp() -> None:
    before, after = torch.zeros(1, 1, 1, 1, 6), torch.ones(1, 1, 1, 1, 5)
    blended = blend_into(before, after, extent=4, dim=4)
    assert blended.flatten().tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]
    # A shorter tile shortens the ramp; the last elements of the one before take part.
    before = torch.arange(6.0).view(1, 1, 1, 1, 6)
    blended = blend_into(before, torch.zeros(1, 1, 1, 1, 2), extent=4, dim=4)
    assert blended.flatten().tolist() == [4.0, 2.5]


def test_tiles_go_in_raster_order_and_blend_with_blended_neighbours() -> None:
    """Against the rule written out element by element, with a network that tells tiles apart."""
    count = iter(range(100))

    def network(x):
        return x * 0 + next(count)

    sizes = TileSizes(window=4, step=3, blend=2, keep=2)
    out = tile_in_space(torch.zeros(1, 1, 1, 4, 4), network, sizes)[0, 0, 0]
    # 2 x 2 tiles of 4, 4x1, 1x4 and 1x1 elements, numbered 0..3 in raster order.
    tiles = [[torch.full((4, 4), 0.0), torch.full((4, 1), 1.0)],
             [torch.full((1, 4), 2.0), torch.full((1, 1), 3.0)]]  # fmt: skip
    for i in range(2):
        for j in range(2):
            tile = tiles[i][j]
            if i:
                n = min(tile.shape[0], 2)
                for y in range(n):
                    above = tiles[i - 1][j][-n + y]
                    tile[y] = above * (1 - y / n) + tile[y] * (y / n)
            if j:
                n = min(tile.shape[1], 2)
                for y in range(n):
                    left = tiles[i][j - 1][:, -n + y]
                    tile[:, y] = left * (1 - y / n) + tile[:, y] * (y / n)
    rows = [torch.cat([tile[:2, :2] for tile in row], dim=1) for row in tiles]
    assert torch.equal(out, torch.cat(rows))


def test_gradients_reach_every_pixel() -> None:
    x = video(9, 9, 7).requires_grad_()
    sizes = TileSizes.from_windows(4, 4, 0.25)
    tile_in_time(
        x, lambda y: tile_in_space(y, lambda z: z * 1, sizes), sizes, True
    ).sum().backward()
    torch.testing.assert_close(x.grad, torch.ones_like(x))


@pytest.mark.parametrize(("window", "overlap"), [(1, 0.5), (4, 0.99)])
def test_a_tile_that_does_not_move(window, overlap) -> None:
    with pytest.raises(ValueError, match="leaves a step of 0"):
        TileSizes.from_windows(window, window, overlap)
