"""Which form of the Triton convolution runs, and how: pure functions, tested without a GPU."""

from __future__ import annotations

from math import prod

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from opensora_fast.kernels.causal_conv3d import launch
from opensora_fast.kernels.causal_conv3d.launch import Problem, pick
from opensora_fast.kernels.group_norm_silu_conv3d import launch as joined

# Bytes of shared memory that a block may have, by capability.
SHARED = {80: 166_912, 86: 101_376, 89: 101_376, 90: 232_448, 100: 232_448, 120: 101_376}


def problem(channels: int = 128, out_channels: int = 128, **changes: object) -> Problem:
    facts: dict[str, object] = {
        "kernel": (3, 3, 3),
        "half_precision": True,
        "aligned": True,
        "plane": "copied",
    }
    return Problem(channels=channels, out_channels=out_channels, **(facts | changes))  # type: ignore[arg-type]


@given(
    channels=st.integers(1, 700),
    out_channels=st.integers(1, 700),
    kernel=st.sampled_from([(1, 1, 1), (3, 3, 3), (1, 3, 3), (2, 1, 5)]),
    half_precision=st.booleans(),
    aligned=st.booleans(),
    plane=st.sampled_from(["given", "copied", "none"]),
    capability=st.sampled_from(sorted(SHARED)),
    statistics=st.booleans(),
)
def test_tiles_cover_the_weight_and_fit(
    channels: int,
    out_channels: int,
    kernel: tuple[int, int, int],
    half_precision: bool,
    aligned: bool,
    plane: str,
    capability: int,
    statistics: bool,
) -> None:
    asked = problem(
        channels,
        out_channels,
        kernel=kernel,
        half_precision=half_precision,
        aligned=aligned,
        plane=plane,
        statistics=statistics,
    )
    default = pick(asked, capability)
    others = launch.candidates(asked, capability)
    assert default not in others
    for config in (default, *others):
        check(asked, config, capability)


def check(asked: Problem, config: launch.Config, capability: int) -> None:
    channels, out_channels, kernel = asked.channels, asked.out_channels, asked.kernel
    taps = prod(kernel)
    if config.form == "columns":
        out_channels, taps = out_channels * kernel[0] * kernel[2], kernel[1]
        assert out_channels <= config.block_n
    rows, columns, per_tap = config.packed_shape(channels, out_channels, taps)
    assert columns >= out_channels and columns % config.block_n == 0
    assert rows % config.block_k == 0 and rows >= taps * channels
    assert config.form == "joint" or (rows == taps * per_tap and per_tap % config.block_k == 0)
    assert per_tap - channels < max(config.block_k, 16)
    assert min(config.block_m, config.block_n, config.block_k) >= 16
    itemsize = 2 if asked.half_precision else 4
    tiles = (config.block_m + config.block_n) * config.block_k * itemsize * config.num_stages
    assert tiles + 1024 <= SHARED[capability]
    # A thread's share of the sums leaves registers for the rest.
    assert config.block_m * config.block_n <= 128 * 32 * config.num_warps
    walks = config.form in ("plane", "columns")
    assert walks or asked.plane != "given"
    assert not walks or asked.plane != "none"
    assert not config.descriptors or (
        asked.aligned and asked.half_precision and 90 <= capability < 120
    )


def test_a_border_is_copied_only_where_it_pays() -> None:
    assert pick(problem(128, 128), 90).form == "plane"
    assert pick(problem(128, 24), 90).form == "gather"
    assert pick(problem(128, 128, kernel=(1, 3, 1)), 90).form == "gather"
    # By pointers the plane's loop is no shorter.
    assert pick(problem(128, 128), 80).form == "gather"
    assert pick(problem(20, 128, aligned=False), 90).form == "gather"
    assert pick(problem(128, 24, plane="given"), 80).form == "plane"


def test_few_channels_share_an_index_with_the_taps() -> None:
    config = pick(problem(3, 128, aligned=False), 90)
    assert config.form == "joint"
    assert config.packed_shape(3, 128, 27)[0] == 96  # 81 rows, where a row of 16 each makes 432


def test_to_pixels_most_taps_are_columns() -> None:
    for capability in (80, 90):
        for plane in ("given", "copied"):
            config = pick(problem(128, 3, plane=plane), capability)
            assert (config.form, config.block_n) == ("columns", 32)
    assert pick(problem(128, 3, plane="none"), 90).form == "gather"
    assert pick(problem(128, 4, plane="given"), 90).form == "plane"  # 36 columns
    assert pick(problem(16, 3, plane="given"), 90).form == "plane"
    assert pick(problem(128, 3, plane="given", kernel=(1, 3, 1)), 90).form == "plane"


def test_wide_outputs_take_wide_tiles() -> None:
    given_plane = {"plane": "given"}
    tiles = {n: pick(problem(128, n, **given_plane), 90) for n in (16, 128, 512)}
    assert [(c.block_m, c.block_n) for c in tiles.values()] == [(256, 16), (256, 128), (128, 256)]
    assert tiles[128].split and not tiles[16].split
    small = pick(problem(128, 512, **given_plane), 80)
    assert (small.block_m, small.block_n, small.block_k) == (128, 128, 32)


def meta(*shape: int) -> torch.Tensor:
    return torch.empty(shape, dtype=torch.bfloat16, device="meta")


def test_sizes_beyond_the_index_range_are_refused() -> None:
    weight = meta(8, 8, 3, 3, 3)
    x = meta(1, 128, 129, 768, 768)
    assert launch.why_not_sizes(x, meta(128, 128, 3, 3, 3), "replicate") is None
    x = meta(1, 8, 2**15, 2**8, 2**8)
    assert "padded pixels" in (launch.why_not_sizes(x, weight, "replicate") or "")
    x = meta(1, 2**15, 1, 2**8, 2**8)
    assert "padded frame" in (launch.why_not_sizes(x, weight, "replicate") or "")
    assert "elements" in (
        launch.why_not_sizes(meta(1, 1, 1, 1, 1), meta(2**30, 2, 1, 1, 1), "valid") or ""
    )
    assert "empty" in (launch.why_not_sizes(meta(0, 8, 1, 2, 2), weight, "replicate") or "")


@pytest.mark.parametrize("dtype", [torch.float64])
def test_dtypes_are_refused_with_a_sentence(dtype: torch.dtype) -> None:
    x = torch.zeros(1, 4, 1, 2, 2, dtype=dtype)
    weight = torch.zeros(2, 4, 1, 1, 1, dtype=dtype)
    gain = torch.zeros(4, dtype=dtype)
    assert launch.why_not(x, weight, None, (1, 1, 1), "replicate", False)
    assert joined.why_not(x, gain, gain, 2, 1e-6, weight, None, None, None, False, True)
