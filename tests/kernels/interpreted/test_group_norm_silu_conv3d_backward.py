"""group_norm_silu_conv3d's Triton backward in the interpreter."""

from __future__ import annotations

import pytest
import torch

from opensora_fast.kernels.agreement import noise
from opensora_fast.kernels.group_norm_silu_conv3d import reference
from opensora_fast.kernels.registry import OPS, use_backend
from opensora_fast.kernels.testing import assert_as_accurate


@pytest.mark.parametrize(
    ("dtype", "layout", "needs"),
    [
        (torch.float32, torch.contiguous_format, (True, True, True)),
        (torch.float16, torch.channels_last_3d, (True, True, True)),
        (torch.float32, torch.channels_last_3d, (False, True, False)),
        (torch.float32, torch.contiguous_format, (False, False, True)),
    ],
    ids=str,
)
def test_gradients(
    dtype: torch.dtype, layout: torch.memory_format, needs: tuple[bool, bool, bool]
) -> None:
    x = noise(2, 6, 2, 2, 3, dtype=dtype).contiguous(memory_format=layout)
    scale = 1 + noise(6, dtype=torch.float32, seed=1) / 5
    shift = noise(6, dtype=torch.float32, seed=2) / 5
    weight = noise(3, 6, 2, 1, 3, dtype=dtype, seed=3) / 6
    grad = noise(2, 3, 2, 2, 3, dtype=dtype, seed=4)
    args = (grad, x, scale, shift, 3, 1e-6, weight, None, True, needs)
    with use_backend("triton"):
        got = OPS["group_norm_silu_conv3d_backward"](*args)
    exact = reference.backward(*(a.double() if isinstance(a, torch.Tensor) else a for a in args))
    naive = reference.backward(*args)
    for i, gradients in enumerate(zip(got, exact, naive, strict=True)):
        # The activated video and its gradient are rounded between the two ops.
        assert_as_accurate(
            *gradients, roundings=2, precision=dtype, slack=2e-5, what=f"gradient {i}"
        )
