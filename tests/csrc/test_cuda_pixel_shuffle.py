"""The shortcuts' CUDA kernels: what they refuse (anywhere), every form of launch (on a GPU)."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from opensora_fast.kernels import native
from opensora_fast.kernels.channel_duplicate_shuffle3d import _cuda as duplicate
from opensora_fast.kernels.channel_duplicate_shuffle3d import reference as duplicate_reference
from opensora_fast.kernels.pixel_unshuffle_average3d import _cuda as average
from opensora_fast.kernels.pixel_unshuffle_average3d import reference as average_reference


@pytest.fixture
def with_cuda_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the extension had CUDA kernels: `why_not` asks nothing of a device."""
    monkeypatch.setattr(native, "why_no_cuda", lambda: None)


def video(
    *shape: int,
    dtype: torch.dtype = torch.bfloat16,
    device: str = "meta",
    layout: torch.memory_format = torch.channels_last_3d,
) -> Tensor:
    return torch.randn(shape, device=device).to(dtype).contiguous(memory_format=layout)


@pytest.mark.usefixtures("with_cuda_kernels")
def test_what_is_refused_and_why() -> None:
    x, space = video(1, 16, 2, 4, 4), (1, 2, 2)
    assert average.why_not(x, 32, space, None) is None
    assert average.backward_why_not(x, 16, space) is None
    assert duplicate.why_not(x, 8, space, None) is None
    assert "torch.float64" in str(average.why_not(x.double(), 32, space, None))
    added = video(1, 32, 2, 2, 2, dtype=torch.float32)
    assert "added is torch.float32" in str(average.why_not(x, 32, space, added))
    assert "not channels-last" in str(average.why_not(x.contiguous(), 32, space, None))
    assert "[1, 1, 1] pixels: the kernel" in str(average.why_not(x, 2, (1, 1, 1), None))
    assert "64 channels for 16 of blocks" in str(average.why_not(x, 64, space, None))
    assert "4 channels of blocks are no multiple of 8" in str(duplicate.why_not(x, 4, space, None))
    huge = video(1, 128, 128, 2048, 2048)
    assert "not fewer than" in str(average.why_not(huge, 256, space, None))


def test_an_extension_without_cuda_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "why_no_cuda", lambda: native.NO_CUDA)
    assert average.why_not(video(1, 16, 2, 4, 4), 32, (1, 2, 2), None) == native.NO_CUDA


def assert_close(got: Tensor, want: Tensor, like: Tensor) -> None:
    assert got.is_contiguous(memory_format=torch.channels_last_3d)
    unit = torch.finfo(like.dtype).eps if like.dtype is not torch.float32 else 4e-7
    torch.testing.assert_close(got.double(), want, rtol=unit, atol=unit)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("runs", [1, 2])
@pytest.mark.parametrize("scale", [(1, 2, 2), (2, 2, 2), (2, 1, 2), (2, 4, 1)], ids=str)
def test_equals_the_definition(scale: Sequence[int], runs: int, dtype: torch.dtype) -> None:
    if (why := native.why_no_cuda()) is not None:
        pytest.skip(why)
    torch.manual_seed(2)
    size = (3, 5, 37)
    large = video(2, 24, *(n * s for n, s in zip(size, scale, strict=True)), dtype=dtype,
                  device="cuda")  # fmt: skip
    small = video(2, 24 * runs, *size, dtype=dtype, device="cuda")
    wide_large, wide_small = large.double(), small.double()
    for added in (None, small):
        assert average.why_not(large, 24 * runs, scale, added) is None
        want = average_reference.forward(
            wide_large, 24 * runs, scale, None if added is None else wide_small
        )
        assert_close(average.forward(large, 24 * runs, scale, added), want, large)
    for added in (None, large):
        assert duplicate.why_not(small, 24, scale, added) is None
        want = duplicate_reference.forward(
            wide_small, 24, scale, None if added is None else wide_large
        )
        assert_close(duplicate.forward(small, 24, scale, added), want, large)
    want = average_reference.backward(wide_small, 24, scale)
    assert_close(average.backward(small, 24, scale), want, large)
    want = duplicate_reference.backward(wide_large, 24 * runs, scale)
    assert_close(duplicate.backward(large, 24 * runs, scale), want, large)


@pytest.mark.gpu
def test_takes_a_video_that_starts_anywhere() -> None:
    if (why := native.why_no_cuda()) is not None:
        pytest.skip(why)
    torch.manual_seed(3)
    flat = torch.randn(4 * 6 * 16 + 1, device="cuda")[1:]
    x = flat.view(1, 1, 4, 6, 16).movedim(-1, 1)
    want = average_reference.forward(x.double(), 32, (1, 2, 2), None)
    assert_close(average.forward(x, 32, (1, 2, 2), None), want, x)
