"""rms_norm3d's Triton kernels in the interpreter."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from opensora_fast.kernels import rms_norm3d
from opensora_fast.kernels.agreement import assert_agrees, noise, outputs_and_gradients
from opensora_fast.kernels.rms_norm3d import _triton, launch

DTYPES = (torch.float32, torch.float16)
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last_3d}


def inputs(
    *shape: int, dtype: torch.dtype = torch.float32, layout: str = "contiguous"
) -> tuple[Tensor, Tensor, Tensor]:
    x = noise(*shape, dtype=dtype).contiguous(memory_format=LAYOUTS[layout])
    return x, noise(shape[1], dtype=dtype, seed=1), noise(shape[1], dtype=dtype, seed=2)


@pytest.fixture
def in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no tile hold all channels: what happens to wide positions, without the width."""

    def pick(problem: launch.Problem, num_sms: int) -> launch.Config:
        tiles = {"programs_per_item": -(-problem.positions // 8), "tiles_per_program": 1}
        config = launch.pick(problem, num_sms)
        return dataclasses.replace(config, whole=False, block_p=8, block_c=16, **tiles)

    monkeypatch.setattr(_triton, "pick", pick)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("activation", ["none", "silu", "relu"])
def test_rms_norm3d(activation: str, layout: str, dtype: torch.dtype) -> None:
    assert_agrees(
        rms_norm3d, inputs(2, 12, 3, 5, 7, dtype=dtype, layout=layout), (1e-5, activation)
    )


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_residual(layout: str, whole: bool, request: pytest.FixtureRequest) -> None:
    if not whole:
        request.getfixturevalue("in_pieces")
    residual = noise(2, 12, 1, 5, 7, dtype=torch.float16, seed=3)

    def with_residual(x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor) -> Tensor:
        return rms_norm3d(x, weight, bias, 1e-5, "silu", residual)

    assert_agrees(with_residual, (*inputs(2, 12, 1, 5, 7, layout=layout), residual))


@pytest.mark.usefixtures("in_pieces")
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("activation", ["none", "silu", "relu"])
def test_positions_in_pieces(activation: str, layout: str) -> None:
    assert_agrees(rms_norm3d, inputs(2, 37, 1, 3, 5, layout=layout), (1e-5, activation))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_several_tiles_per_program(layout: str) -> None:
    assert_agrees(rms_norm3d, inputs(1, 129, 1, 19, 17, layout=layout))


@pytest.mark.parametrize("whole", [True, False])
def test_without_bias(whole: bool, request: pytest.FixtureRequest) -> None:
    if not whole:
        request.getfixturevalue("in_pieces")
    x, weight, _ = inputs(1, 20, 2, 3, 5)
    assert_agrees(rms_norm3d, (x, weight), (None, 1e-5, "silu"))


def test_other_strides_and_dtypes() -> None:
    x = noise(2, 5, 6, 11, 4, dtype=torch.float16).transpose(1, 2)[:, :, 1:]
    weight, bias = noise(6, 2).unbind(1)
    assert_agrees(rms_norm3d, (x, weight, bias))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("whole", [True, False])
def test_positions_past_the_end_do_not_poison_the_sums(
    whole: bool, request: pytest.FixtureRequest
) -> None:
    """eps = 0 makes 1 / rms of an empty position infinite."""
    if not whole:
        request.getfixturevalue("in_pieces")
    assert_agrees(rms_norm3d, inputs(1, 8, 1, 1, 3), (0.0,))


def test_a_nan_stays_one() -> None:
    x, weight, bias = inputs(1, 4, 1, 1, 3)
    x[0, 1, 0, 0, 1] = torch.nan
    y, *_ = outputs_and_gradients(rms_norm3d, "triton", (x, weight, bias), (1e-5, "relu"))
    assert y[..., 1].isnan().all() and not y[..., [0, 2]].isnan().any()


def test_equal_inputs_give_equal_bits() -> None:
    arguments = inputs(1, 24, 2, 20, 15)
    first, second = (outputs_and_gradients(rms_norm3d, "triton", arguments) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
