"""group_norm_silu_conv3d in CUDA C++: what it refuses and how it packs (anywhere), values (GPU).

The arithmetic and the order of its copies and waits are tested without a GPU in
csrc/tests/test_cuda_group_norm_silu_conv3d.cpp.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from opensora_fast.kernels import native
from opensora_fast.kernels.contract import layout_of
from opensora_fast.kernels.group_norm_silu_conv3d import _cuda, op, reference
from opensora_fast.kernels.moments import channel_moments

BF16 = torch.bfloat16


@pytest.fixture
def with_cuda_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the extension had CUDA kernels: `why_not` asks nothing of a device."""
    monkeypatch.setattr(native, "why_no_cuda", lambda: None)


def arguments(
    channels: int = 128,
    outputs: int = 128,
    kernel: int = 3,
    dtype: torch.dtype = BF16,
    size: tuple[int, int, int] = (2, 3, 4),
) -> tuple[Any, ...]:
    x = torch.empty(1, channels, *size, dtype=dtype, device="meta")
    scale = torch.empty(channels, device="meta")
    weight = torch.empty(outputs, channels, kernel, kernel, kernel, dtype=dtype, device="meta")
    return x, scale, scale, 32, 1e-6, weight, None, None, None, True, True


def with_weight(weight: torch.Tensor) -> tuple[Any, ...]:
    return (*arguments()[:5], weight, None, None, None, True, True)


@pytest.mark.usefixtures("with_cuda_kernels")
def test_what_is_refused_and_why() -> None:
    assert _cuda.why_not(*arguments()) is None
    assert _cuda.why_not(*arguments(512, 256)) is None
    for refused, reason in (
        (arguments(dtype=torch.float16), "x is torch.float16, the kernel takes torch.bfloat16"),
        (arguments(kernel=1), "[1, 1, 1] taps"),
        (arguments(channels=96), "96 -> 128 channels, both must be multiples of 128"),
        (arguments(outputs=3), "128 -> 3 channels"),
        (arguments(channels=4096), "2048 channels"),
        (arguments(size=(1, 2**16, 2**15)), "frames of 65536 x 32768 pixels"),
        (arguments(size=(0, 2, 2)), "empty"),
        (arguments(outputs=1024), "moments of 1024 channels are wanted, at most 512"),
        ((*arguments()[:-1], False), "which a slab of rows has none of"),
        (with_weight(torch.empty(128, 128, 3, 3, 3, device="meta")), "weight is torch.float32"),
    ):
        assert reason in str(_cuda.why_not(*refused))


@pytest.mark.usefixtures("with_cuda_kernels")
def test_other_devices_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for found, served in ((80, True), (86, False), (90, True), (100, False)):
        monkeypatch.setattr(_cuda, "capability", lambda device, found=found: found)
        assert (_cuda.why_not(*arguments()) is None) == served


def test_an_extension_without_cuda_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "why_no_cuda", lambda: native.NO_CUDA)
    assert _cuda.why_not(*arguments()) == native.NO_CUDA


def test_weights_are_packed_as_the_header_states() -> None:
    torch.manual_seed(0)
    weight = torch.randn(256, 384, 3, 3, 3).to(BF16)
    packed = _cuda.pack(weight)
    assert packed.shape == (2, 3, 3, 3, 3, 2, 128, 8, 8)
    assert packed.is_contiguous()
    for o, c, *tap in torch.stack([torch.randint(n, (500,)) for n in weight.shape]).T.tolist():
        place = (o // 128, c // 128, *tap, c % 128 // 64, o % 128, (c % 64 // 8) ^ (o % 8), c % 8)
        assert packed[place] == weight[(o, c, *tap)]


def test_moments_give_the_same_affine_form_as_the_video() -> None:
    torch.manual_seed(4)
    x, (weight, bias) = torch.randn(2, 128, 2, 3, 5) + 3, torch.randn(2, 128)
    scale, shift = _cuda.affine_of(channel_moments(x), weight, bias, 32, 1e-6)
    affine = x * scale[..., None, None, None] + shift[..., None, None, None]
    want = torch.nn.functional.group_norm(x, 32, weight, bias, 1e-6)
    torch.testing.assert_close(affine, want, rtol=1e-5, atol=2e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("layout", [torch.channels_last_3d, torch.contiguous_format], ids=str)
@pytest.mark.parametrize(
    ("shape", "outputs"),
    [
        ((1, 128, 3, 16, 16), 128),  # whole tiles
        ((2, 128, 4, 19, 33), 128),  # tiles that the frame cuts off
        ((1, 128, 1, 1, 1), 256),
        ((1, 256, 3, 9, 40), 128),  # two pieces of channels
        ((1, 512, 5, 24, 24), 512),
        ((1, 128, 9, 200, 208), 128),  # several tiles a block
    ],
    ids=str,
)
def test_equals_the_definition(
    shape: tuple[int, ...], outputs: int, layout: torch.memory_format
) -> None:
    torch.manual_seed(1)
    x = (torch.randn(shape, device="cuda") + 1).to(BF16).contiguous(memory_format=layout)
    scale, shift = torch.randn(2, shape[1], device="cuda")
    weight = torch.randn(outputs, shape[1], 3, 3, 3, device="cuda") * (27 * shape[1]) ** -0.5
    bias = torch.randn(outputs, device="cuda").to(BF16)
    residual = torch.randn(shape[0], outputs, *shape[2:], device="cuda").to(BF16)
    call = (x, scale, shift, 32, 1e-6, weight.to(BF16), bias, residual, None, True, True)
    if (why := op.FORWARD.backends[0].reason("cuda", call)) is not None:
        pytest.skip(why)
    for given in (call, (*call[:6], None, None, channel_moments(x), False, True)):
        got, gathered = _cuda.forward(*given)
        assert got.is_contiguous(memory_format=layout_of(x))
        wide = (a.double() if isinstance(a, torch.Tensor) else a for a in given)
        want = reference.forward(*wide)[0]
        # Inputs activated and rounded to bf16, as by every library: their errors add up at random.
        torch.testing.assert_close(got.double(), want, rtol=2**-8, atol=0.03)
        assert (got.double() - want).square().mean().sqrt() < 4e-3
        assert torch.equal(got, _cuda.forward(*given)[0])
        if given[-2]:
            torch.testing.assert_close(gathered, channel_moments(got), rtol=1e-4, atol=1e-5)
