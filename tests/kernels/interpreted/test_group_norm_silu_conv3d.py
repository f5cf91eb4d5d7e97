"""group_norm_silu_conv3d's Triton forward in the interpreter."""

from __future__ import annotations

import pytest
import torch

from opensora_fast.kernels import group_norm_silu_conv3d
from opensora_fast.kernels.agreement import noise
from opensora_fast.kernels.group_norm_silu_conv3d import reference
from opensora_fast.kernels.registry import explain, use_backend
from opensora_fast.kernels.testing import assert_as_accurate

LAYOUTS = (torch.contiguous_format, torch.channels_last_3d)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize(
    ("channels", "out_channels", "size", "kernel", "layout", "has_residual"),
    [
        (16, 20, (2, 2, 3), (2, 3, 3), torch.channels_last_3d, True),
        (20, 3, (1, 2, 4), (3, 1, 3), torch.contiguous_format, False),
        (12, 20, (3, 2, 2), (1, 1, 1), torch.contiguous_format, True),
    ],
)
def test_group_norm_silu_conv3d(
    channels: int,
    out_channels: int,
    size: tuple[int, int, int],
    kernel: tuple[int, int, int],
    layout: torch.memory_format,
    has_residual: bool,
    dtype: torch.dtype,
) -> None:
    x = noise(2, channels, *size, dtype=dtype).contiguous(memory_format=layout)
    scale = 1 + noise(channels, dtype=dtype, seed=1) / 5
    shift = noise(channels, dtype=dtype, seed=2) / 5
    weight = noise(out_channels, channels, *kernel, dtype=dtype, seed=3) / (5 * channels**0.5)
    bias = noise(out_channels, dtype=dtype, seed=4)
    residual = noise(2, out_channels, *size, dtype=dtype, seed=5) if has_residual else None
    with use_backend("triton"):
        y = group_norm_silu_conv3d(x, scale, shift, 4, weight, bias, residual)
    args = (x, scale, shift, 4, 1e-6, weight, bias, residual)
    exact = reference.forward(*(a.double() if isinstance(a, torch.Tensor) else a for a in args))
    naive = reference.forward(*args)
    assert_as_accurate(y, exact, naive, roundings=1, precision=dtype, slack=2e-5)
    assert y.stride() == naive.stride()


def test_moments_go_from_one_to_the_next() -> None:
    x = noise(1, 12, 2, 2, 3, dtype=torch.float16)
    gain, weight = noise(12, seed=1), noise(12, 12, 1, 1, 3, dtype=torch.float16, seed=2) / 6
    with use_backend("triton"):
        y, moments = group_norm_silu_conv3d(x, gain, gain, 4, weight, gather_moments=True)
        given, computed = (
            group_norm_silu_conv3d(y, gain, gain, 4, weight, moments=known)
            for known in (moments, None)
        )
        other = group_norm_silu_conv3d(y, gain, gain, 4, weight, moments=2 * moments)
    torch.testing.assert_close(given, computed, rtol=2e-3, atol=2e-3)
    assert not torch.allclose(other, computed, rtol=2e-2, atol=2e-2)  # they are used


def test_what_does_not_fit_is_refused() -> None:
    x, gain, weight = torch.zeros(1, 4, 1, 9, 9), torch.zeros(4), torch.zeros(2, 4, 1, 9, 1)
    with use_backend("triton"):
        verdicts = explain("group_norm_silu_conv3d", x, gain, gain, 2, weight)
    reason = next(v.reason for v in verdicts if v.backend == "triton")
    assert reason is not None and "wider border" in reason
