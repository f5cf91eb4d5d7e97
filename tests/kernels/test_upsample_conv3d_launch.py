"""Launch choice of upsample_conv3d: pure functions, tested without a GPU."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from opensora_fast.kernels.common.compile import SHARED_MEMORY_LIMIT
from opensora_fast.kernels.upsample_conv3d.launch import Problem, pick, why_not


@given(
    channels=st.integers(1, 1100),
    out_channels=st.integers(1, 1100),
    half_precision=st.booleans(),
    capability=st.sampled_from([80, 86, 90, 100, 120]),
)
def test_tiles_fit_and_whole_blocks_hold_all_channels(
    channels: int, out_channels: int, half_precision: bool, capability: int
) -> None:
    problem = Problem(channels=channels, out_channels=out_channels, half_precision=half_precision)
    config = pick(problem, capability)
    size = 2 if half_precision else 4
    shared = config.num_stages * config.block_k * (config.block_m + config.block_n) * size
    assert shared < SHARED_MEMORY_LIMIT[capability]
    padded_c, padded_o = config.padded(channels, out_channels)
    assert channels <= padded_c < channels + max(config.block_k, 16)
    assert out_channels <= padded_o < out_channels + max(config.block_n, 16)
    assert padded_c % config.block_k == 0 and padded_o % config.block_n == 0


@pytest.mark.parametrize(("capability", "descriptors"), [(80, False), (90, True), (120, False)])
def test_descriptors_are_for_devices_with_room_for_their_boxes(
    capability: int, descriptors: bool
) -> None:
    problem = Problem(channels=256, out_channels=256, half_precision=True)
    assert pick(problem, capability).descriptors == descriptors


def test_what_is_refused() -> None:
    def why(
        x: tuple[int, ...], weight: tuple[int, ...], scale: tuple[int, int, int] = (2, 2, 2)
    ) -> str:
        tensors = (torch.empty(s, dtype=torch.bfloat16, device="meta") for s in (x, weight))
        return why_not(*tensors, None, scale) or ""

    small, weight = (1, 8, 2, 2, 2), (8, 8, 3, 3, 3)
    assert "3x3x3" in why(small, (8, 8, 1, 3, 3))
    assert "(2, 2, 2), not (3, 1, 2)" in why(small, weight, (3, 1, 2))
    assert "empty" in why((0, 8, 2, 2, 2), weight)
    assert "rows" in why((1, 8, 2**10, 2**10, 2**10), weight)
    assert "the weight has" in why((1, 2**13, 2, 2, 2), (2**13, 2**13, 3, 3, 3))
    assert "meta" in why(small, weight)
