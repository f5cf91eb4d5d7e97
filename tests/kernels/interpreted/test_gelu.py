"""The Triton kernels of gelu and concat_gelu in the interpreter."""

from __future__ import annotations

import pytest
import torch

from opensora_fast.kernels import concat_gelu, gelu
from opensora_fast.kernels.agreement import assert_agrees, noise
from opensora_fast.kernels.registry import OPS, use_backend

DTYPES = (torch.float32, torch.float16)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(2, 7, 48), (37,), (3, 2051), (1, 1), (0, 4), (3, 0)], ids=str)
def test_gelu(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    assert_agrees(gelu, (3 * noise(*shape, dtype=dtype, seed=0),))


def test_gelu_reads_strided_inputs_and_keeps_the_layout() -> None:
    x = noise(2, 5, 3, 4, dtype=torch.float32, seed=0)
    assert_agrees(gelu, (x.permute(3, 1, 0, 2),))
    assert_agrees(gelu, (x[:1].expand(3, 5, 3, 4)[..., ::2],))
    video = noise(2, 5, 3, 4, 2, dtype=torch.float32, seed=1)
    assert_agrees(gelu, (video.contiguous(memory_format=torch.channels_last_3d),))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_gelu_far_out() -> None:
    x = torch.tensor([-1e30, -1e4, -9.6, -9.4, 0.0, 9.4, 9.6, 1e4, 1e30])
    with use_backend("triton"):
        assert torch.equal(gelu(x)[5:], x[5:]) and bool((gelu(x)[:4].abs() < 1e-30).all())
        slopes = OPS["gelu_backward"](torch.ones_like(x), x)
    expected = torch.tensor([0.0] * 4 + [0.5] + [1.0] * 4)
    torch.testing.assert_close(slopes, expected, rtol=0, atol=1e-6)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_gelu_passes_nan_on() -> None:
    x = torch.tensor([torch.nan, 1.0])
    with use_backend("triton"):
        for y in (gelu(x), OPS["gelu_backward"](torch.ones(2), x)):
            assert y.isnan().tolist() == [True, False]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("first", "second"), [(24, 48), (17, 31), (1, 1), (1030, 5), (0, 7), (7, 0)]
)
def test_concat_gelu(first: int, second: int, dtype: torch.dtype) -> None:
    a = noise(2, 5, first, dtype=dtype, seed=0)
    assert_agrees(concat_gelu, (a, noise(2, 5, second, dtype=dtype, seed=1)))


def test_concat_gelu_reads_columns_of_a_product() -> None:
    product = noise(2, 5, 40, dtype=torch.float32, seed=0)
    heads = noise(2, 3, 5, 4, dtype=torch.float32, seed=1).transpose(1, 2).flatten(2)
    assert_agrees(concat_gelu, (heads, product[..., 9:]))
