"""gate_residual's Triton kernels in the interpreter."""

from __future__ import annotations

import pytest
import torch

from opensora_fast.kernels import gate_residual
from opensora_fast.kernels.agreement import assert_agrees, noise, outputs_and_gradients
from opensora_fast.kernels.common.launch import multiprocessors
from opensora_fast.kernels.gate_residual import launch

DTYPES = (torch.float32, torch.float16)


def inputs(batch: int, length: int, width: int, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    x, branch = (noise(batch, length, width, dtype=dtype, seed=s) for s in (0, 1))
    return x, noise(batch, width, dtype=dtype, seed=2), branch


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("batch", "length", "width"),
    [(2, 7, 48), (1, 37, 1), (2, 3, 1030), (3, 1, 130), (2, 0, 8), (0, 3, 8), (2, 3, 0)],
)
def test_gate_residual(batch: int, length: int, width: int, dtype: torch.dtype) -> None:
    assert_agrees(gate_residual, inputs(batch, length, width, dtype))


def test_gate_residual_in_several_tiles_per_program() -> None:
    problem = launch.Problem(batch=1, length=301, width=130, backward=True)
    assert launch.pick(problem, multiprocessors(torch.device("cpu"))).tiles_per_program > 2
    assert_agrees(gate_residual, inputs(1, 301, 130, torch.float32))


def test_gate_residual_reads_strided_inputs() -> None:
    x = noise(5, 48, 4, dtype=torch.float32, seed=0).permute(2, 0, 1)[::2]
    branch = noise(1, 5, 96, dtype=torch.float32, seed=1)[..., ::2].expand(2, 5, 48)
    gate = noise(2, 3, 48, dtype=torch.float32, seed=2)[:, 1]
    assert_agrees(gate_residual, (x, gate, branch))


def test_gate_residual_mixes_dtypes() -> None:
    x, gate, _ = inputs(2, 5, 24, torch.float32)
    branch = noise(2, 5, 24, dtype=torch.float16, seed=3)
    assert_agrees(gate_residual, (x, gate.half(), branch))


def test_equal_inputs_give_equal_bits() -> None:
    found = [
        outputs_and_gradients(gate_residual, "triton", inputs(1, 300, 8, torch.float32))
        for _ in "ab"
    ]
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
