"""nearest_upsample3d's Triton kernels in the interpreter."""

from __future__ import annotations

import pytest
import torch

from opensora_fast.kernels import nearest_upsample3d
from opensora_fast.kernels.agreement import assert_agrees, noise, outputs_and_gradients

DTYPES = (torch.float32, torch.float16)
LAYOUTS = (torch.contiguous_format, torch.channels_last_3d)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize(
    ("shape", "scale"),
    [
        ((2, 3, 3, 5, 7), (2, 2, 2)),
        ((1, 4, 3, 2, 5), (1, 2, 2)),
        ((1, 3, 1, 3, 2), (2, 2, 2)),
        ((1, 2, 3, 3, 1), (3, 1, 5)),
        ((2, 2, 2, 3, 3), (1, 1, 1)),
        ((0, 2, 2, 3, 3), (2, 2, 2)),
        ((1, 1, 1, 3, 1100), (1, 1, 2)),
    ],
)
def test_nearest_upsample3d(
    shape: tuple[int, ...],
    scale: tuple[int, int, int],
    layout: torch.memory_format,
    dtype: torch.dtype,
) -> None:
    x = noise(*shape, dtype=dtype, seed=0).contiguous(memory_format=layout)
    assert_agrees(nearest_upsample3d, (x,), (scale,))


def test_nearest_upsample3d_copies_bits_of_strided_inputs() -> None:
    x = noise(3, 3, 2, 2, 4, dtype=torch.float16, seed=0).permute(4, 2, 3, 1, 0)[::2]
    found, defined = (
        outputs_and_gradients(nearest_upsample3d, backend, (x,), ((2, 3, 2),))
        for backend in ("triton", "reference")
    )
    assert torch.equal(found[0], defined[0])
    assert_agrees(nearest_upsample3d, (x,), ((2, 3, 2),))
