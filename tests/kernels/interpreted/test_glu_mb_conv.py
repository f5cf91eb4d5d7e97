"""glu_mb_conv's Triton kernels in the interpreter."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from opensora_fast.kernels import glu_mb_conv
from opensora_fast.kernels.agreement import assert_agrees, noise, outputs_and_gradients
from opensora_fast.kernels.glu_mb_conv import walk

LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last_3d}


def inputs(
    batch: int,
    channels: int,
    width: int,
    *size: int,
    dtype: torch.dtype = torch.float32,
    layout: str = "contiguous",
) -> tuple[Tensor, ...]:
    shapes = (
        (2 * width, channels, 1, 1, 1),
        (2 * width,),
        (2 * width, 1, 3, 3, 3),
        (2 * width,),
        (3, width, 1, 1, 1),
    )
    x = noise(batch, channels, *size, dtype=dtype).contiguous(memory_format=LAYOUTS[layout])
    return (x, *(noise(*s, dtype=dtype, seed=i + 1) * 0.3 for i, s in enumerate(shapes)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_glu_mb_conv(layout: str, dtype: torch.dtype) -> None:
    arguments = inputs(2, 5, 9, 3, 4, 5, dtype=dtype, layout=layout)
    assert_agrees(glu_mb_conv, arguments, num_differentiable=0)


@pytest.mark.parametrize(("frames", "rows"), [(1, 2), (2, 7), (3, 3)])
def test_slabs_strips_and_chunks(frames: int, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = walk.Plan(frames=frames, rows=rows, channels=24)
    monkeypatch.setattr(walk, "choose", lambda *_: plan)
    assert_agrees(glu_mb_conv, inputs(1, 4, 37, 5, 7, 3), num_differentiable=0)


def test_several_tiles_of_channels() -> None:
    assert_agrees(glu_mb_conv, inputs(1, 3, 70, 2, 5, 9), num_differentiable=0)


def test_equal_inputs_give_equal_bits() -> None:
    arguments = inputs(1, 4, 8, 2, 5, 3)
    first, second = (
        outputs_and_gradients(glu_mb_conv, "triton", arguments, (), 0) for _ in range(2)
    )
    assert torch.equal(first[0], second[0])
