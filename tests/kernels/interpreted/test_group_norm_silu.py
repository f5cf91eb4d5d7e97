"""group_norm_silu's Triton kernels in the interpreter, and what convolutions take from them."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from opensora_fast.kernels import group_norm_silu
from opensora_fast.kernels.agreement import assert_agrees, noise, outputs_and_gradients
from opensora_fast.kernels.group_norm_silu import _triton, launch, reference

DTYPES = (torch.float32, torch.float16)
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last_3d}


def video(*shape: int, dtype: torch.dtype = torch.float32, layout: str = "contiguous") -> Tensor:
    return (2 * noise(*shape, dtype=dtype) + 3).contiguous(memory_format=LAYOUTS[layout])


def parameters(channels: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    return noise(channels, dtype=dtype, seed=1), noise(channels, dtype=dtype, seed=2)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("shape", "num_groups", "silu"),
    [((2, 12, 3, 5, 7), 3, True), ((1, 12, 2, 1, 5), 4, True), ((2, 3, 1, 4, 3), 1, False)],
)
def test_group_norm_silu(
    shape: tuple[int, ...], num_groups: int, silu: bool, layout: str, dtype: torch.dtype
) -> None:
    x = video(*shape, dtype=dtype, layout=layout)
    inputs = (x, *parameters(shape[1], dtype))
    assert_agrees(group_norm_silu, inputs, (num_groups, 1e-6, silu))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_several_tiles_per_program(layout: str) -> None:
    x = video(2, 2, 2, 41, 53, layout=layout)
    assert_agrees(group_norm_silu, (x, *parameters(2)), (2,))


def test_other_ranks_and_strides() -> None:
    x = noise(2, 6, 11, 4).transpose(2, 3)[:, :, 1:]
    weight, bias = noise(6, 2).unbind(1)
    assert_agrees(group_norm_silu, (x, weight, bias), (2,))
    assert_agrees(group_norm_silu, (noise(3, 8), weight[0].expand(8), noise(8, seed=1)), (2,))


def test_mixed_dtypes() -> None:
    x = video(2, 4, 2, 3, 5, dtype=torch.float16)
    assert_agrees(group_norm_silu, (x, *parameters(4)), (2,))


def test_equal_inputs_give_equal_bits() -> None:
    inputs = (video(1, 2, 2, 40, 41), *parameters(2))
    first, second = (
        outputs_and_gradients(group_norm_silu, "triton", inputs, (2,)) for _ in range(2)
    )
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("mean", [300.0, -1e4])
def test_statistics_where_the_mean_is_many_deviations(layout: str, mean: float) -> None:
    """E[x^2] - E[x]^2 in fp32 would leave no digit of the second."""
    x = (noise(2, 4, 3, 31, 47) + mean).contiguous(memory_format=LAYOUTS[layout])
    _, *exact = reference.forward(x.double(), *parameters(4), 2, 1e-6, False)
    for got, true in zip(_triton.statistics(x, 2, 1e-6), exact, strict=True):
        torch.testing.assert_close(got.double(), true, rtol=5e-6, atol=0)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_statistics_of_a_step(layout: str) -> None:
    """The first tile says little about the rest, which has almost no variance of its own."""
    x = torch.full((1, 2, 8, 32, 32), 1000.0).contiguous(memory_format=LAYOUTS[layout])
    x[:, :, 0] = noise(1, 2, 32, 32)
    _, *exact = reference.forward(x.double(), *parameters(2), 1, 1e-6, False)
    for got, true in zip(_triton.statistics(x, 1, 1e-6), exact, strict=True):
        torch.testing.assert_close(got.double(), true, rtol=1e-6, atol=0)


@pytest.mark.parametrize("stages", [1, 3])
def test_sums_of_an_epilogue_merge_into_statistics(
    stages: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A convolution's programs leave sums over a few rows each, the last over fewer."""
    x = video(2, 12, 3, 5, 7)
    runs = x.flatten(2).split(16, dim=2)
    partial = torch.stack([torch.stack([run.sum(2), run.square().sum(2)]) for run in runs], dim=2)
    per_group = partial.shape[2] * 12 // 3
    monkeypatch.setattr(launch, "_MAX_PARTIALS", -(-per_group // stages))
    assert launch.merge_splits(per_group) == stages
    _, mean, rstd = reference.forward(x.double(), *parameters(12), 3, 1e-6, False)
    # The layout is the caller's: here channels first.
    partial = partial.transpose(2, 3).contiguous().transpose(2, 3)
    got = _triton.merge_partials(partial, 3, math.prod(x.shape[1:]) // 3, 1e-6)
    for statistic, exact in zip(got, (mean, rstd), strict=True):
        torch.testing.assert_close(statistic.double(), exact, rtol=2e-6, atol=0)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("size", "border"),
    [((5, 7), (1, 1)), ((1, 1), (1, 1)), ((2, 80), (0, 2)), ((3, 4), (2, 0)), ((3, 5), (0, 0))],
)
def test_activate_writes_what_a_convolution_reads(
    size: tuple[int, int], border: tuple[int, int], layout: str, dtype: torch.dtype
) -> None:
    x = video(1, 6, 2, *size, dtype=dtype, layout=layout)
    weight, bias = parameters(6, dtype)
    mean, rstd = _triton.statistics(x, 3, 1e-6)
    y = _triton.activate(x, mean, rstd, weight, bias, 3, silu=True, border=border)
    assert y.is_contiguous() and y.dtype == dtype
    inner, _, _ = reference.forward(x, weight, bias, 3, 1e-6, True)
    rows, columns = border
    around = (columns, columns, rows, rows, 0, 0)
    expected = F.pad(inner.float(), around, mode="replicate").permute(0, 2, 3, 4, 1)
    torch.testing.assert_close(
        y.float(), expected, rtol=2e-3 if dtype.itemsize == 2 else 1e-5, atol=1e-5
    )
    # The border is a copy: the same bits.
    middle = y[:, :, rows : rows + size[0], columns : columns + size[1]].permute(0, 4, 1, 2, 3)
    again = F.pad(middle.float(), around, mode="replicate").permute(0, 2, 3, 4, 1)
    assert torch.equal(y.float(), again)


def test_a_border_too_wide_is_refused() -> None:
    x = video(1, 4, 1, 2, 2)
    mean, rstd = torch.zeros(1, 2), torch.ones(1, 2)
    with pytest.raises(ValueError, match=r"border \(4, 0\) is not within 0 to 3"):
        _triton.activate(x, mean, rstd, *parameters(4), 2, border=(4, 0))
