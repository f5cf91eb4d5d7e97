"""linear_attention's Triton kernels in the interpreter."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from opensora_fast.kernels import linear_attention
from opensora_fast.kernels.agreement import assert_agrees, noise, outputs_and_gradients
from opensora_fast.kernels.linear_attention import _triton, launch

DTYPES = (torch.float32, torch.float16)
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last_3d}
REST = (16, 1e-15)


def inputs(
    *shape: int,
    dtype: torch.dtype = torch.float32,
    layout: str = "contiguous",
    kernel: tuple[int, int, int] = (3, 3, 3),
    head_dim: int = 16,
) -> tuple[Tensor, Tensor, Tensor]:
    # A mean above zero keeps the denominators away from it.
    qkv = (noise(*shape, dtype=dtype) + 0.5).contiguous(memory_format=LAYOUTS[layout])
    depth = noise(shape[1], 1, *kernel, dtype=dtype, seed=1) * 0.2
    return qkv, depth, noise(shape[1], head_dim, 1, 1, 1, dtype=dtype, seed=2) * 0.25


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_linear_attention(layout: str, dtype: torch.dtype) -> None:
    assert_agrees(linear_attention, inputs(2, 48, 3, 2, 5, dtype=dtype, layout=layout), REST, 0)


def test_the_released_kernel_and_heads() -> None:
    arguments = inputs(1, 96, 2, 3, 5, kernel=(5, 5, 5), head_dim=32, layout="channels_last")
    assert_agrees(linear_attention, arguments, (32, 1e-15), 0)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_several_tiles_and_programs(layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def pick(problem: launch.Problem, num_sms: int) -> launch.Config:
        assert problem.positions == 75
        return dataclasses.replace(
            launch.pick(problem, num_sms),
            block_p=16,
            programs_per_head=3,
            tiles_per_program=2,
            apply_block_p=32,
        )

    monkeypatch.setattr(_triton, "pick", pick)
    assert_agrees(
        linear_attention, inputs(1, 96, 3, 5, 5, layout=layout, kernel=(1, 1, 5)), REST, 0
    )


def test_other_strides() -> None:
    qkv, depth, point = inputs(2, 48, 4, 3, 2)
    assert_agrees(linear_attention, (qkv.transpose(2, 3)[:, :, 1:], depth, point), REST, 0)


def test_equal_inputs_give_equal_bits() -> None:
    arguments = inputs(1, 48, 2, 5, 15)
    first, second = (
        outputs_and_gradients(linear_attention, "triton", arguments, REST, 0) for _ in range(2)
    )
    assert torch.equal(first[0], second[0])


def test_without_a_positive_query_nothing_is_attended() -> None:
    qkv, depth, point = inputs(1, 48, 1, 3, 3)
    qkv[:, :16] = -1
    y, *_ = outputs_and_gradients(
        linear_attention, "triton", (qkv, depth.abs(), point.abs()), REST, 0
    )
    assert torch.equal(y, torch.zeros_like(y))


def test_what_the_kernels_do_not_take() -> None:
    qkv, depth, point = inputs(1, 15, 1, 1, 1, head_dim=5)
    reason = launch.why_not(qkv, depth, point, 5, 0.0)
    assert reason is not None and "head_dim is 5" in reason
