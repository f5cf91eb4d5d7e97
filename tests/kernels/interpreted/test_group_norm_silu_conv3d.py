"""group_norm_silu_conv3d's Triton forward in the interpreter."""

from __future__ import annotations

import pytest
import torch

from opensora_fast.kernels import group_norm_silu_conv3d
from opensora_fast.kernels.agreement import noise
from opensora_fast.kernels.causal_conv3d import _triton_border
from opensora_fast.kernels.causal_conv3d._triton import convolve_plane_and_sum
from opensora_fast.kernels.group_norm_silu._triton_statistics import merge_partials, statistics
from opensora_fast.kernels.group_norm_silu_conv3d import reference
from opensora_fast.kernels.moments import channel_moments
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
    args = (x, scale, shift, 4, 1e-6, weight, bias, residual, None, False, True)
    exact = reference.forward(*(a.double() if isinstance(a, torch.Tensor) else a for a in args))[0]
    naive = reference.forward(*args)[0]
    assert_as_accurate(y, exact, naive, roundings=1, precision=dtype, slack=2e-5)
    assert y.stride() == naive.stride()


def test_sums_of_the_convolution_give_the_statistics_of_the_norm_behind() -> None:
    weight = noise(20, 16, 1, 1, 3, dtype=torch.float16, seed=1) / 7
    plane = noise(2, 2, 3, 52, 16, dtype=torch.float16, seed=2)
    y, partial = convolve_plane_and_sum(plane, weight, None, None)
    y = y.permute(0, 4, 1, 2, 3)
    merged = merge_partials(partial, 5, y[0].numel() // 5, 1e-6)
    for got, expected in zip(merged, statistics(y, 5, 1e-6), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("depth", [1, 3])
def test_runs_of_frames_are_the_whole(depth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long video is activated a few frames at a time; its frames see those of the run before."""
    x = noise(2, 8, 5, 2, 3).contiguous(memory_format=torch.channels_last_3d)
    gain, residual = 1 + noise(8, seed=1) / 5, noise(2, 20, 5, 2, 3, seed=2)
    weight = noise(20, 8, depth, 3, 3, seed=3) / 9
    args = (x, gain, gain, 4, weight, None, residual, 1e-6, channel_moments(x), True)
    with use_backend("triton"):
        whole, moments = group_norm_silu_conv3d(*args)
        # Room for two frames and their border.
        monkeypatch.setattr(_triton_border, "MAX_PLANE_BYTES", 2 * 4 * 5 * 8 * x.element_size())
        parts, of_parts = group_norm_silu_conv3d(*args)
    assert torch.equal(parts, whole)
    torch.testing.assert_close(of_parts, moments, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(moments, channel_moments(whole), rtol=1e-5, atol=1e-5)


def test_what_does_not_fit_is_refused() -> None:
    x, gain, weight = torch.zeros(1, 4, 1, 9, 9), torch.zeros(4), torch.zeros(2, 4, 1, 9, 1)
    with use_backend("triton"):
        verdicts = explain("group_norm_silu_conv3d", x, gain, gain, 2, weight)
    reason = next(v.reason for v in verdicts if v.backend == "triton")
    assert reason is not None and "wider border" in reason
