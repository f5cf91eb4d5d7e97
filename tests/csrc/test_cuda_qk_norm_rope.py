"""qk_norm_rope in CUDA C++: what it refuses (anywhere), every path of its launch (on a GPU)."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from opensora_fast.kernels import native
from opensora_fast.kernels.qk_norm_rope import _cuda, reference


@pytest.fixture
def with_cuda_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the extension had CUDA kernels: `why_not` asks nothing of a device."""
    monkeypatch.setattr(native, "why_no_cuda", lambda: None)


def arguments(
    shape: tuple[int, int, int, int],
    dtype: torch.dtype = torch.bfloat16,
    device: str = "meta",
    layout: str = "half",
    per_sample: bool = False,
) -> list[Any]:
    q, k = torch.randn(2, *shape, device=device).to(dtype)
    scales = torch.randn(2, shape[3], device=device).to(dtype)
    table = (*shape[:1], shape[1], shape[3] // 2) if per_sample else (shape[1], shape[3] // 2)
    angles = torch.randn(table, device=device)
    return [q, k, *scales, angles.cos(), angles.sin(), layout, 1e-6]


@pytest.mark.usefixtures("with_cuda_kernels")
def test_what_is_refused_and_why() -> None:
    usual = arguments((1, 5, 3, 64))
    assert _cuda.why_not(*usual) is None
    assert "512 channels" in str(_cuda.why_not(*arguments((1, 5, 3, 512))))
    assert "float64" in str(_cuda.why_not(*arguments((1, 5, 3, 64), torch.float64)))
    assert "rows" in str(_cuda.why_not(*arguments((1, 2**20, 2**10, 2))))
    wide = [*usual[:2], usual[2].float(), *usual[3:]]
    assert "scales are torch.float32 and torch.bfloat16" in str(_cuda.why_not(*wide))
    assert "cos is torch.float64" in str(_cuda.why_not(*usual[:4], usual[4].double(), *usual[5:]))


def test_an_extension_without_cuda_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "why_no_cuda", lambda: native.NO_CUDA)
    assert _cuda.why_not(*arguments((1, 5, 3, 64))) == native.NO_CUDA


def check(given: list[Any]) -> None:
    if (why := native.why_no_cuda()) is not None:
        pytest.skip(why)
    assert _cuda.why_not(*given) is None
    wide = [a.double() if isinstance(a, torch.Tensor) else a for a in given]
    dtype = given[0].dtype
    # The roundings after the norm and after the scale are the contract's, and one is the result's.
    unit = torch.finfo(dtype).eps if dtype is not torch.float32 else 4e-7
    outputs, again = _cuda.forward(*given), _cuda.forward(*given)
    for got, second, want in zip(outputs, again, reference.forward(*wide), strict=True):
        assert got.is_contiguous()
        scale = float(want.abs().max())
        torch.testing.assert_close(got.double(), want, rtol=2 * unit, atol=unit * scale)
        assert torch.equal(got, second)


@pytest.mark.gpu
@pytest.mark.parametrize("layout", ["half", "interleaved"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(
    "shape",
    [
        (2, 37, 24, 128),
        (1, 3, 5, 64),
        (3, 7, 1, 96),  # lanes of a team with nothing to do
        (1, 11, 2, 72),  # half a head is no multiple of a vector of 16 bits
        (2, 5, 3, 10),  # interleaved pairs across the middle of a head
        (1, 2, 2, 2),
        (1, 9, 4, 256),
        (1, 20000, 3, 32),
    ],
    ids=str,
)
def test_equals_the_definition(
    shape: tuple[int, int, int, int], dtype: torch.dtype, layout: str
) -> None:
    torch.manual_seed(2)
    check(arguments(shape, dtype, "cuda", layout, per_sample=shape[0] > 1))


@pytest.mark.gpu
@pytest.mark.parametrize("layout", ["half", "interleaved"])
def test_takes_parts_of_a_fused_projection_and_misaligned_starts(layout: str) -> None:
    torch.manual_seed(3)
    given = arguments((2, 19, 4, 128), torch.bfloat16, "cuda", layout)
    fused = torch.randn(2, 19, 3, 4, 128, device="cuda").to(torch.bfloat16)
    check([fused[:, :, 0], fused[:, :, 1], *given[2:]])
    shifted = torch.randn(2 * 19 * 4 * 128 + 1, device="cuda").to(torch.bfloat16)
    check([shifted[1:].view(2, 19, 4, 128), *given[1:]])
    check([given[0][:1].expand(2, -1, -1, -1), *given[1:]])
    check([*given[:2], given[2].float(), given[3].float(), *given[4:]])
