"""Launch choice and availability of the Triton kernels: pure functions, tested without a GPU."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from opensora_fast.kernels.common import availability
from opensora_fast.kernels.common.launch import Launch, next_power_of_two, share_tiles
from opensora_fast.kernels.frame_causal_attention import launch as frame_causal_attention
from opensora_fast.kernels.layer_norm_modulate import launch as layer_norm_modulate
from opensora_fast.kernels.qk_norm_rope import launch as qk_norm_rope
from opensora_fast.kernels.registry import use_backend

SIZES = st.one_of(st.integers(0, 70), st.integers(0, 2**33))


@given(tiles=SIZES, batch=st.integers(0, 9), programs=st.integers(1, 4000))
def test_programs_share_all_tiles_and_none_is_idle(tiles: int, batch: int, programs: int) -> None:
    for max_tiles in (None, 4):
        walk = share_tiles(tiles, batch, programs, max_tiles)
        assert walk.programs * walk.tiles >= tiles
        assert (walk.programs - 1) * walk.tiles < max(tiles, 1)
        assert max_tiles is None or walk.tiles <= max_tiles
    # Without a bound on the walk, at most one more program per batch item than asked for.
    assert share_tiles(tiles, batch, programs).programs * batch <= programs + batch


@given(n=st.integers(0, 2**40))
def test_next_power_of_two(n: int) -> None:
    power = next_power_of_two(n)
    assert power >= n and power & (power - 1) == 0 and (n <= 1 or power < 2 * n)


@given(
    length=SIZES,
    width=st.integers(1, layer_norm_modulate.MAX_WIDTH),
    backward=st.booleans(),
    num_sms=st.integers(1, 200),
)
def test_layer_norm_modulate_covers_every_row_with_a_tile_that_fits(
    length: int, width: int, backward: bool, num_sms: int
) -> None:
    problem = layer_norm_modulate.Problem(batch=2, length=length, width=width, backward=backward)
    config = layer_norm_modulate.pick(problem, num_sms)
    assert config.block_m >= width
    assert config.programs_per_item * config.tiles_per_program * config.block_l >= length
    assert config.block_l * config.block_m <= 16 * 32 * config.num_warps or config.num_warps == 1
    assert config.num_warps <= 16
    for other in layer_norm_modulate.candidates(problem, num_sms):
        assert other.block_m == config.block_m
        assert other.programs_per_item * other.tiles_per_program * other.block_l >= length


@given(
    length=SIZES,
    num_heads=st.integers(1, 64),
    half=st.integers(1, qk_norm_rope.MAX_HEAD_DIM // 2),
    backward=st.booleans(),
)
def test_qk_norm_rope_covers_every_row_with_a_tile_that_fits(
    length: int, num_heads: int, half: int, backward: bool
) -> None:
    problem = qk_norm_rope.Problem(
        batch=1, length=length, num_heads=num_heads, head_dim=2 * half, backward=backward
    )
    config = qk_norm_rope.pick(problem, 132)
    rows = config.programs_per_item * config.tiles_per_program * config.block_r
    assert rows >= length * num_heads
    assert config.block_half >= half
    assert config.block_r * config.block_half <= 1024


@pytest.mark.parametrize(("capability", "descriptors"), [(80, False), (90, True), (120, False)])
def test_descriptors_are_for_devices_with_room_for_their_tiles(
    capability: int, descriptors: bool
) -> None:
    problem = frame_causal_attention.Problem(head_dim=512, half_precision=True, describable=True)
    assert frame_causal_attention.pick(problem, capability).descriptors == descriptors


def test_what_descriptors_cannot_hold() -> None:
    x = torch.zeros(2, 6, 16, dtype=torch.bfloat16)
    assert frame_causal_attention.describable(x)
    assert not frame_causal_attention.describable(x.transpose(1, 2))
    assert not frame_causal_attention.describable(x[:, :, 1:9])
    assert not frame_causal_attention.describable(x[:, :1].expand(2, 6, 16))
    assert not frame_causal_attention.describable(x[:, :, :15].contiguous())


def test_sizes_beyond_the_index_range_are_refused() -> None:
    def meta(*shape: int) -> torch.Tensor:
        return torch.empty(shape, dtype=torch.bfloat16, device="meta")

    x = meta(1, 2**31, 8)
    assert "tokens exceed" in (frame_causal_attention.why_not(x, x, x, 1) or "")
    x = meta(1, 512, 2**24).transpose(1, 2)
    assert "span 2^31 elements" in (frame_causal_attention.why_not(x, x, x, 1) or "")
    q, weight, table = meta(1, 2**26, 32, 8), meta(8), meta(2**26, 4)
    why = qk_norm_rope.why_not(q, q, weight, weight, table, table, "half", 1e-6)
    assert why is not None and "rows" in why


def test_a_machine_without_triton_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(availability, "triton_installed", lambda: False)
    monkeypatch.setattr(availability, "interpreted", lambda: True)
    with use_backend("triton"):
        assert availability.triton_why_not(torch.zeros(1)) == "triton is not installed"


def test_an_empty_grid_starts_nothing() -> None:
    Launch(kernel=None, grid=(0,), arguments={"x": torch.zeros(1)}).run()
