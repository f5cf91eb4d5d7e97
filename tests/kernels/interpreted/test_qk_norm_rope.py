"""qk_norm_rope's Triton kernels in the interpreter."""

from __future__ import annotations

import pytest
import torch

from opensora_fast.kernels import joint_qk_norm_rope, qk_norm_rope
from opensora_fast.kernels.agreement import assert_agrees, noise, outputs_and_gradients
from opensora_fast.kernels.common.launch import multiprocessors
from opensora_fast.kernels.joint_qk_norm_rope.cases import Case, make_inputs
from opensora_fast.kernels.qk_norm_rope import launch

DTYPES = (torch.float32, torch.float16)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", ["half", "interleaved"])
@pytest.mark.parametrize(
    ("batch", "length", "heads", "head_dim"),
    [(2, 7, 3, 16), (1, 5, 2, 6), (1, 2, 3, 250), (1, 1, 1, 2), (1, 0, 2, 4), (2, 150, 1, 10)],
)
def test_qk_norm_rope(
    batch: int,
    length: int,
    heads: int,
    head_dim: int,
    layout: str,
    dtype: torch.dtype,
) -> None:
    q, k = (noise(batch, length, heads, head_dim, dtype=dtype, seed=s) for s in (0, 1))
    weights = [noise(head_dim, dtype=dtype, seed=s) for s in (2, 3)]
    angle = noise(length, head_dim // 2, dtype=torch.float32, seed=4)
    inputs = (q, k, *weights, angle.cos(), angle.sin())
    assert_agrees(qk_norm_rope, inputs, (layout,), num_differentiable=4)


@pytest.mark.parametrize("layout", ["half", "interleaved"])
def test_qk_norm_rope_reads_strided_inputs_and_tables_per_sample(layout: str) -> None:
    fused = noise(2, 9, 3, 4, 12, dtype=torch.float32, seed=0)
    q = fused[:, :, 0].transpose(1, 2).contiguous().transpose(1, 2)
    k = fused[:, :, 1]
    weight = noise(24, dtype=torch.float32, seed=1)[::2]
    angle = noise(2, 6, 9, dtype=torch.float32, seed=2).transpose(1, 2)
    inputs = (q, k, weight, weight, angle.cos(), angle.sin())
    assert_agrees(qk_norm_rope, inputs, (layout,), num_differentiable=4)


def test_qk_norm_rope_in_several_tiles_per_program() -> None:
    problem = launch.Problem(batch=1, length=131, num_heads=3, head_dim=64, backward=True)
    config = launch.pick(problem, multiprocessors(torch.device("cpu")))
    assert config.tiles_per_program > 2
    q, k = (noise(1, 131, 3, 64, dtype=torch.float32, seed=s) for s in (0, 1))
    weight = noise(64, dtype=torch.float32, seed=2)
    angle = noise(131, 32, dtype=torch.float32, seed=3)
    inputs = (q, k, weight, weight, angle.cos(), angle.sin())
    assert_agrees(qk_norm_rope, inputs, ("half",), num_differentiable=4)


@pytest.mark.parametrize("layout", ["half", "interleaved"])
def test_qk_norm_rope_reads_channels_that_are_not_dense(layout: str) -> None:
    q = noise(1, 5, 2, 32, dtype=torch.float32, seed=0)[..., ::2]
    k = noise(1, 16, 2, 5, dtype=torch.float32, seed=1).transpose(1, 3)
    weight = noise(16, dtype=torch.float32, seed=2)
    angle = noise(5, 8, dtype=torch.float32, seed=3)
    inputs = (q, k, weight, weight, angle.cos(), angle.sin())
    assert_agrees(qk_norm_rope, inputs, (layout,), num_differentiable=4)


def test_qk_norm_rope_rounds_where_the_released_models_do() -> None:
    """A rounding less would be nearer the exact value, and differ from theirs in a quarter."""
    q = noise(1, 50, 2, 64, dtype=torch.float16, seed=0)
    weight = noise(64, dtype=torch.float16, seed=1)
    inputs = (q, q, weight, weight, torch.ones(50, 32), torch.zeros(50, 32))
    got, defined = (
        outputs_and_gradients(qk_norm_rope, b, inputs, (), 0)[0] for b in ("triton", "reference")
    )
    assert float((got != defined).double().mean()) < 0.01


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_two_streams_are_written_side_by_side(dtype: torch.dtype) -> None:
    case = Case(name="", batch=2, text=3, image=7, num_heads=3, head_dim=16)
    *inputs, layout, _ = make_inputs(case, "cpu", dtype)
    assert_agrees(joint_qk_norm_rope, tuple(inputs), (layout,), num_differentiable=10)
