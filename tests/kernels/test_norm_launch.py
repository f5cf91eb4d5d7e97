"""Launch choice of the norms of videos: pure functions, tested without a GPU."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from opensora_fast.kernels.group_norm_silu import launch as group_norm_silu
from opensora_fast.kernels.rms_norm3d import launch as rms_norm3d

SIZES = st.one_of(st.integers(1, 70), st.integers(1, 2**33))
CHANNELS = st.one_of(st.integers(1, 300), st.integers(1, 20_000))


@given(
    batch=st.integers(1, 200),
    rows=SIZES,
    columns=CHANNELS,
    along_columns=st.booleans(),
    num_sms=st.integers(1, 200),
)
def test_group_norm_silu_covers_every_value_with_tiles_that_fit(
    batch: int, rows: int, columns: int, along_columns: bool, num_sms: int
) -> None:
    problem = group_norm_silu.Problem(
        batch=batch, rows=rows, columns=columns, along_columns=along_columns
    )
    for pick in (
        group_norm_silu.pick_statistics,
        group_norm_silu.pick_elementwise,
        group_norm_silu.pick_transpose,
    ):
        config = pick(problem, num_sms)
        assert config.column_blocks * config.block_c >= columns
        walked = config.tiles_per_program * config.block_r
        assert config.programs_per_item * walked >= rows
        # No program is idle: the statistics divide by what each has read.
        assert (config.programs_per_item - 1) * walked < rows
        assert config.block_r * config.block_c <= 16 * 32 * config.num_warps
        assert config.tiles_per_program <= 64
        blocks = batch * config.column_blocks * config.programs_per_item
        assert blocks * min(config.block_r, rows) <= 2 * batch * rows * config.column_blocks


@given(num_partials=st.integers(1, 2**40))
def test_group_norm_silu_merges_no_more_than_a_program_may_walk(num_partials: int) -> None:
    splits = group_norm_silu.merge_splits(num_partials)
    assert -(-num_partials // splits) <= 8192 < max(num_partials, 8193)
    assert splits == 1 or num_partials > 8192


def test_what_group_norm_silu_refuses() -> None:
    x, weight = torch.zeros(1, 8192, 1), torch.ones(8192)
    assert "8192 channels, at most 4096" in str(
        group_norm_silu.why_not(x, weight, weight, 1, 1e-6, True)
    )
    assert "empty" in str(group_norm_silu.why_not(x[:0], weight, weight, 1, 1e-6, True))


@given(
    batch=st.integers(1, 9),
    positions=SIZES,
    channels=CHANNELS,
    channels_last=st.booleans(),
    backward=st.booleans(),
    num_sms=st.integers(1, 200),
)
def test_rms_norm3d_covers_every_position_with_a_tile_that_fits(
    batch: int, positions: int, channels: int, channels_last: bool, backward: bool, num_sms: int
) -> None:
    problem = rms_norm3d.Problem(
        batch=batch,
        positions=positions,
        channels=channels,
        channels_last=channels_last,
        backward=backward,
    )
    config = rms_norm3d.pick(problem, num_sms)
    assert config.programs_per_item * config.tiles_per_program * config.block_p >= positions
    assert config.block_c >= channels or not config.whole
    assert config.block_p * config.block_c <= 16 * 32 * config.num_warps
    assert config.num_warps <= 16
    # One tile's partial sums are stored as they come: there is none to add to.
    assert config.whole or not backward or config.tiles_per_program == 1
