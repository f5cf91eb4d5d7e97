"""Launch choice of the convolution's backward: pure functions, tested without a GPU."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from opensora_fast.kernels.causal_conv3d import launch_backward, reference
from opensora_fast.kernels.causal_conv3d.launch_backward import Problem, of_convolution
from opensora_fast.kernels.common.compile import SHARED_MEMORY_LIMIT
from opensora_fast.kernels.upsample_conv3d import launch as upsample

CHANNELS = st.integers(1, 1100)
PROBLEMS = st.builds(
    Problem,
    channels=CHANNELS,
    out_channels=CHANNELS,
    taps=st.integers(1, 64),
    half_precision=st.booleans(),
)


@given(problem=PROBLEMS, capability=st.sampled_from([80, 86, 90, 100, 120]))
def test_tiles_fit_shared_memory(problem: Problem, capability: int) -> None:
    size = 2 if problem.half_precision else 4
    one = launch_backward.pick_input(problem, capability)
    shared = one.num_stages * one.block_k * (one.block_m + one.block_n) * size
    assert shared <= SHARED_MEMORY_LIMIT[capability]
    assert one.block_n >= min(problem.channels, 64)
    other = launch_backward.pick_weight(problem, capability, 132)
    shared = other.num_stages * other.block_p * (other.block_c + other.block_o) * size
    assert shared <= SHARED_MEMORY_LIMIT[capability]


@given(problem=PROBLEMS, num_blocks=st.integers(1, 2**31), num_sms=st.integers(1, 200))
def test_all_positions_are_shared_out(problem: Problem, num_blocks: int, num_sms: int) -> None:
    config = launch_backward.pick_weight(problem, 90, num_sms)
    programs, blocks = config.splits(problem, num_blocks)
    assert (programs - 1) * blocks < num_blocks <= programs * blocks


@pytest.mark.parametrize("pad_mode", ["replicate", "zeros", "valid"])
def test_the_geometry_is_that_of_the_reference(pad_mode: str) -> None:
    geometry = of_convolution((3, 5, 2), (1, 2, 3), pad_mode)
    x = torch.zeros(1, 1, 4, 6, 7)
    padded = reference.pad(x, (3, 5, 2), pad_mode)
    assert geometry.padded(x.shape[2:]) == tuple(padded.shape[2:])
    rows = padded[0, 0, 0].numel() - x[0, 0, 0].numel()
    assert geometry.ring_rows(x.shape[2:]) == (rows if pad_mode == "replicate" else 0)
    assert geometry.walked(x.shape[2:], (4, 3, 2)) == (4, 3, 2)


def test_an_upsampling_is_walked_over_its_padded_input() -> None:
    assert upsample.geometry((2, 2, 2)).walked((3, 4, 5), (5, 8, 10)) == (4, 6, 7)
    assert upsample.geometry((1, 2, 2)).walked((3, 4, 5), (3, 8, 10)) == (3, 6, 7)


def test_what_is_refused() -> None:
    def why(grad: tuple[int, ...], x: tuple[int, ...], weight: tuple[int, ...]) -> str:
        tensors = (torch.empty(s, dtype=torch.bfloat16, device="meta") for s in (grad, x, weight))
        return launch_backward.why_not(*tensors, (1, 1, 1), "replicate", (True,) * 3) or ""

    taps = (3, 3, 3)
    assert "empty" in why((0, 4, 2, 2, 2), (0, 4, 2, 2, 2), (4, 4, *taps))
    large = (1, 2**9, 1, 2**11, 2**11)
    assert "a frame has" in why(large, large, (2**9, 2**9, *taps))
    long = (1, 1, 2**11, 2**10, 2**10)
    assert "positions" in why(long, long, (1, 1, *taps))
    many = (1, 2**14, 1, 1, 1)
    assert "the weight has" in why(many, many, (2**14, 2**14, *taps))
