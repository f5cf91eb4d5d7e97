"""group_norm_silu in CUDA C++: what it refuses (anywhere), every path of its launch (on a GPU)."""

from __future__ import annotations

import pytest
import torch

from opensora_fast.kernels import native
from opensora_fast.kernels.group_norm_silu import _cuda, reference


@pytest.fixture
def with_cuda_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the extension had CUDA kernels: `why_not` asks nothing of a device."""
    monkeypatch.setattr(native, "why_no_cuda", lambda: None)


def reason(x: torch.Tensor, num_groups: int = 1) -> str | None:
    channel = torch.ones(x.shape[1])
    return _cuda.why_not(x, channel, channel, num_groups, 1e-6, True)


@pytest.mark.usefixtures("with_cuda_kernels")
def test_rows_wider_than_a_block_are_refused() -> None:
    def channels_last(channels: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        x = torch.empty(1, channels, 2, 2, 2, dtype=dtype)
        return x.contiguous(memory_format=torch.channels_last_3d)

    assert reason(channels_last(1024)) is None
    assert reason(channels_last(2048, torch.bfloat16)) is None
    assert reason(channels_last(255)) is None  # no multiple of four: one value a thread
    assert "1024 channels" in str(reason(channels_last(1028)))
    assert "256 channels" in str(reason(channels_last(257)))
    assert "256 groups" in str(reason(channels_last(1024), num_groups=512))
    assert reason(torch.empty(1, 4096, 2, 2, 2), num_groups=512) is None  # contiguous: no bound


def test_without_cuda_kernels_there_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "why_no_cuda", lambda: native.NO_CUDA)
    assert reason(torch.empty(1, 8, 2, 2, 2)) == native.NO_CUDA


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d], ids=str)
@pytest.mark.parametrize(
    ("shape", "num_groups"),
    [
        ((1, 128, 5, 32, 32), 32),  # vectors; several chunks in a group
        ((2, 96, 3, 17, 19), 32),  # an odd number of positions: single values when contiguous
        ((1, 6, 3, 5, 7), 3),  # an odd number of channels: single values when channels last
        ((3, 512, 2, 8, 8), 32),
        ((1, 1024, 2, 4, 4), 1),  # one group: many chunks are combined
        ((1, 4, 33, 128, 128), 2),
    ],
    ids=str,
)
def test_equals_the_definition(
    shape: tuple[int, ...], num_groups: int, layout: torch.memory_format, dtype: torch.dtype
) -> None:
    if (why := native.why_no_cuda()) is not None:
        pytest.skip(why)
    torch.manual_seed(5)
    x = (torch.randn(shape, device="cuda") + 2).to(dtype).contiguous(memory_format=layout)
    weight = torch.randn(shape[1], device="cuda").to(dtype)
    bias = torch.randn(shape[1], device="cuda").to(dtype)
    arguments = (x, weight, bias, num_groups, 1e-6, True)
    assert _cuda.why_not(*arguments) is None
    got = _cuda.forward(*arguments)
    want = reference.forward(x.double(), weight.double(), bias.double(), *arguments[3:])
    assert got[0].stride() == x.stride()
    # One rounding of the output's format, and a few of float.
    unit = torch.finfo(dtype).eps / 2
    torch.testing.assert_close(got[0].double(), want[0], rtol=max(unit, 1e-6), atol=4e-6)
    torch.testing.assert_close(got[1].double(), want[1], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(got[2].double(), want[2], rtol=1e-6, atol=1e-6)
    again = _cuda.forward(*arguments)
    assert all(torch.equal(first, second) for first, second in zip(got, again, strict=True))


@pytest.mark.gpu
def test_obeys_the_current_stream_and_a_misaligned_start() -> None:
    if (why := native.why_no_cuda()) is not None:
        pytest.skip(why)
    store = torch.randn(8 * 4 * 16 * 16 + 1, device="cuda")
    x = store[1:].view(1, 8, 4, 16, 16)  # four bytes past what a vector needs
    weight, bias = torch.ones(8, device="cuda"), torch.zeros(8, device="cuda")
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        y, _, _ = _cuda.forward(x, weight, bias, 4, 1e-6, False)
    stream.synchronize()
    want, _, _ = reference.forward(x.double(), weight.double(), bias.double(), 4, 1e-6, False)
    torch.testing.assert_close(y.double(), want, rtol=1e-6, atol=4e-6)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    "shape",
    [
        (2, 128, 3, 17, 19),
        (1, 6, 2, 5, 1),  # single values; more threads on rows than a line has pixels
        (1, 512, 1, 1, 7),
        (1, 32, 9, 64, 60),
    ],
    ids=str,
)
def test_writes_the_border_and_the_affine_form(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    if (why := native.why_no_cuda()) is not None:
        pytest.skip(why)
    torch.manual_seed(6)
    x = (torch.randn(shape, device="cuda") + 2).to(dtype)
    x = x.contiguous(memory_format=torch.channels_last_3d)
    weight, bias = torch.randn(2, shape[1], device="cuda")
    y, mean, rstd = _cuda.forward(x, weight, bias, 2, 1e-6, True)
    bordered = _cuda.forward_with_border(x, weight, bias, 2, 1e-6, True)
    frames = y.transpose(1, 2).flatten(0, 1)
    padded = torch.nn.functional.pad(frames.float(), (1, 1, 1, 1), mode="replicate").to(dtype)
    want = padded.view(shape[0], shape[2], *padded.shape[1:]).permute(0, 1, 3, 4, 2)
    assert bordered.is_contiguous()
    assert torch.equal(bordered, want)

    scale, shift = _cuda.affine(x, weight, bias, 2, 1e-6)
    group = torch.arange(shape[1], device="cuda") // (shape[1] // 2)
    torch.testing.assert_close(scale, rstd[:, group] * weight)
    torch.testing.assert_close(shift, bias - mean[:, group] * rstd[:, group] * weight)
