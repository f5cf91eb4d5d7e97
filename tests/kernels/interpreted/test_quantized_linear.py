"""The Triton kernels of quantize_rows, quantized_linear and its fused input, interpreted."""

from __future__ import annotations

import pytest
import torch

from opensora_fast.kernels import (
    layer_norm_modulate_quantized,
    quantize_rows,
    quantized_linear,
)
from opensora_fast.kernels.agreement import noise
from opensora_fast.kernels.quantized_linear import quantize_weight
from opensora_fast.kernels.registry import use_backend

DTYPES = (torch.float32, torch.float16)
FORMATS = ("int8", "fp8")


def both(op, *args):
    """What Triton and the definition return."""
    results = []
    for backend in ("triton", "reference"):
        with use_backend(backend):
            results.append(op(*args))
    return results


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(2, 5, 48), (3, 31), (7,), (1, 1), (0, 4), (2, 2051)], ids=str)
def test_quantize_rows_gives_the_definitions_bits(shape, dtype, format) -> None:
    x = noise(*shape, dtype=dtype, seed=0)
    (values, scales), (want, want_scales) = both(quantize_rows, x, format)
    assert values.dtype == want.dtype and torch.equal(values.float(), want.float())
    assert torch.equal(scales, want_scales)


@pytest.mark.parametrize("format", FORMATS)
def test_quantize_rows_rounds_ties_as_the_definition_does(format) -> None:
    limit = 127.0 if format == "int8" else 448.0
    x = torch.cat([torch.arange(-63.5, 64, 0.5), torch.tensor([limit])])
    (values, _), (want, _) = both(quantize_rows, x, format)
    assert torch.equal(values.float(), want.float())


def test_quantize_rows_reads_strided_rows_and_passes_zeros_on() -> None:
    x = noise(6, 3, 10, dtype=torch.float32, seed=0).permute(2, 1, 0)[::2]
    x[0] = 0
    (values, scales), (want, want_scales) = both(quantize_rows, x)
    assert torch.equal(values, want) and torch.equal(scales, want_scales)
    assert not values[0].any() and bool((scales[0] > 0).all())


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_row_with_nan_or_infinity_has_no_finite_scale() -> None:
    x = torch.ones(3, 8)
    x[0, 3], x[1, 4] = torch.nan, torch.inf
    for _, scales in both(quantize_rows, x):
        assert scales.isfinite().tolist() == [False, False, True]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("rows", "width_in", "width_out"), [(7, 48, 24), (70, 37, 19), (1, 1, 1), (3, 300, 5)]
)
def test_quantized_linear(rows, width_in, width_out, dtype, format) -> None:
    x, bias = noise(rows, width_in, dtype=dtype, seed=0), noise(width_out, dtype=dtype, seed=1)
    weight = noise(width_out, width_in, dtype=dtype, seed=2)
    values, scales = quantize_weight(weight, format)
    for b in (bias, None):
        got, naive = both(quantized_linear, x, values, scales, b)
        with use_backend("reference"):
            exact = quantized_linear(x.double(), values, scales, b)
        assert got.dtype == dtype and got.is_contiguous()
        bound = 2 * (naive - exact).abs().max() + torch.finfo(dtype).eps * exact.abs().max()
        assert (got - exact).abs().max() <= bound


def test_strided_operands() -> None:
    x = noise(96, 90, dtype=torch.float32, seed=0).T[:, ::2]
    values, scales = quantize_weight(noise(66, 96, dtype=torch.float32, seed=1)[:, ::2])
    strided = values.new_zeros(66, 96)
    strided[:, ::2] = values
    got, want = both(quantized_linear, x, strided[:, ::2], scales)
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    ("batch", "length", "width"), [(2, 7, 48), (1, 37, 3), (2, 0, 8), (0, 3, 8)]
)
def test_layer_norm_modulate_quantized(batch, length, width, format) -> None:
    x = noise(batch, length, width, dtype=torch.float16, seed=0)
    shift, scale = (noise(batch, width, dtype=torch.float16, seed=s) for s in (1, 2))
    (values, scales), (want, want_scales) = both(
        layer_norm_modulate_quantized, x, shift, scale, format
    )
    torch.testing.assert_close(scales, want_scales, rtol=1e-6, atol=0)
    distance = (values.float() - want.float()).abs()
    assert bool((distance <= (1 if format == "int8" else want.float().abs() / 8 + 0.01)).all())
    assert int((distance > 0).sum()) <= distance.numel() // 100


def test_already_quantised_rows_give_the_same_bits() -> None:
    x = noise(2, 5, 48, dtype=torch.float16, seed=0)
    weight = quantize_weight(noise(24, 48, dtype=torch.float16, seed=1))
    with use_backend("triton"):
        values, scales = quantize_rows(x)
        assert torch.equal(
            quantized_linear(values, *weight, None, scales, torch.float16),
            quantized_linear(x, *weight),
        )
