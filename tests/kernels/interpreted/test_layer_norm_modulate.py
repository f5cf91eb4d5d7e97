"""layer_norm_modulate's Triton kernels in the interpreter."""

from __future__ import annotations

import pytest
import torch

from opensora_fast.kernels import layer_norm_modulate
from opensora_fast.kernels.agreement import assert_agrees, noise, outputs_and_gradients
from opensora_fast.kernels.common.launch import multiprocessors
from opensora_fast.kernels.layer_norm_modulate import launch

DTYPES = (torch.float32, torch.float16)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("batch", "length", "width"),
    [(2, 7, 48), (1, 37, 1), (3, 1, 130), (1, 5, 3072), (2, 33, 7), (0, 3, 8), (2, 0, 8)],
)
def test_layer_norm_modulate(batch: int, length: int, width: int, dtype: torch.dtype) -> None:
    x = noise(batch, length, width, dtype=dtype, seed=0) + 3
    shift, scale = (noise(batch, width, dtype=dtype, seed=s) for s in (1, 2))
    assert_agrees(layer_norm_modulate, (x, shift, scale))


def test_layer_norm_modulate_in_several_tiles_per_program() -> None:
    problem = launch.Problem(batch=1, length=301, width=130, backward=True)
    assert launch.pick(problem, multiprocessors(torch.device("cpu"))).tiles_per_program > 5
    x = noise(1, 301, 130, dtype=torch.float32, seed=0)
    assert_agrees(layer_norm_modulate, (x, x[:, 0], x[:, 1]))


def test_layer_norm_modulate_reads_strided_inputs() -> None:
    x = noise(5, 48, 4, dtype=torch.float32, seed=0).permute(2, 0, 1)[::2]
    modulation = noise(2, 3, 48, dtype=torch.float32, seed=1)
    shift, scale = modulation[:, 0], modulation[:1, 2].expand(2, 48)
    assert_agrees(layer_norm_modulate, (x, shift, scale))


def test_layer_norm_modulate_mixes_dtypes() -> None:
    x = noise(2, 5, 24, dtype=torch.float16, seed=0)
    shift, scale = (noise(2, 24, dtype=torch.float32, seed=s) for s in (1, 2))
    assert_agrees(layer_norm_modulate, (x, shift, scale))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_rows_past_the_end_do_not_poison_the_sums() -> None:
    """eps = 0 makes 1 / deviation of an empty row infinite."""
    x = noise(1, 3, 8, dtype=torch.float32, seed=0)
    assert_agrees(layer_norm_modulate, (x, x[:, 0], x[:, 1]), (0.0,))


def test_equal_inputs_give_equal_bits() -> None:
    x = noise(1, 300, 8, dtype=torch.float32, seed=0)
    first, second = (
        outputs_and_gradients(layer_norm_modulate, "triton", (x, x[:, 0], x[:, 1])) for _ in "ab"
    )
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
