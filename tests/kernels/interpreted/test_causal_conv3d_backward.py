"""causal_conv3d's Triton backward in the interpreter."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from opensora_fast.kernels.agreement import noise
from opensora_fast.kernels.causal_conv3d import _triton_backward, launch_backward, reference
from opensora_fast.kernels.registry import OPS, use_backend
from opensora_fast.kernels.testing import assert_as_accurate

# Several blocks of every kind, the last ones partly filled.
INPUT = launch_backward.InputConfig(block_m=16, block_n=16, block_k=16, num_warps=4, num_stages=2)
WEIGHT = launch_backward.WeightConfig(
    block_c=16, block_o=16, block_p=16, num_warps=4, num_stages=2, max_programs=200
)


def problem(
    size: Sequence[int], kernel: Sequence[int], stride: Sequence[int], pad_mode: str,
    dtype: torch.dtype, batch: int = 1, channels: int = 3, out_channels: int = 2,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:  # fmt: skip
    x = noise(batch, channels, *size, dtype=dtype, seed=0)
    weight = noise(out_channels, channels, *kernel, dtype=dtype, seed=1) / 8
    shape = reference.output_shape(x.shape, weight.shape, stride, pad_mode)
    return noise(*shape, dtype=dtype, seed=2), x, weight


def exact_and_naive(
    grad: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, *rest: object
) -> tuple[tuple[torch.Tensor, ...], tuple[torch.Tensor, ...]]:
    wide = (grad.double(), x.double(), weight.double())
    return reference.backward(*wide, *rest), reference.backward(grad, x, weight, *rest)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "pad_mode"),
    [
        ((2, 3, 4), (3, 3, 3), (1, 1, 1), "replicate"),
        ((3, 5, 4), (3, 3, 3), (2, 2, 2), "replicate"),
        ((3, 5, 4), (3, 3, 3), (2, 2, 2), "zeros"),
        ((3, 5, 4), (3, 3, 3), (2, 1, 2), "valid"),
        ((3, 4, 6), (2, 1, 5), (1, 3, 2), "replicate"),  # a kernel shorter than its stride
        ((3, 2, 4), (1, 2, 2), (3, 1, 2), "zeros"),  # even kernels
    ],
    ids=["plain", "strided", "strided-zeros", "strided-valid", "oblong", "even"],
)
def test_gradients(
    size: Sequence[int], kernel: Sequence[int], stride: Sequence[int], pad_mode: str
) -> None:
    grad, x, weight = problem(size, kernel, stride, pad_mode, torch.float32)
    rest = (stride, pad_mode, (True, True, True))
    got = _triton_backward.backward(grad, x, weight, *rest)
    for i, (out, exact, naive) in enumerate(
        zip(got, *exact_and_naive(grad, x, weight, *rest), strict=True)
    ):
        assert_as_accurate(out, exact, naive, roundings=2, slack=2e-5, what=f"gradient {i}")


def test_tiles_that_end_everywhere() -> None:
    grad, x, weight = problem(
        (1, 3, 5), (1, 3, 3), (1, 1, 1), "replicate", torch.float16, channels=17, out_channels=18
    )
    rest = ((1, 1, 1), "replicate", (True, True, True))
    (dx, dweight, _), (naive_dx, naive_dweight, _) = exact_and_naive(grad, x, weight, *rest)
    geometry = launch_backward.of_convolution((1, 3, 3), *rest[:2])
    dy = _triton_backward.channels_last(grad)
    got = _triton_backward.input_gradient(dy, weight, (1, 1, 3, 5), geometry, INPUT)
    got = got.permute(0, 4, 1, 2, 3)
    assert_as_accurate(got, dx, naive_dx, roundings=2, slack=2e-5, what="x")
    got = torch.empty_like(weight)
    dense = _triton_backward.channels_last(x)
    _triton_backward.weight_gradient(dense, dy, got, geometry, WEIGHT)
    assert_as_accurate(got, dweight, naive_dweight, roundings=2, slack=2e-5, what="weight")


@pytest.mark.parametrize("size", [(1, 1, 9), (2, 9, 1), (1, 2, 2)], ids=str)
def test_frames_that_are_all_border(size: Sequence[int]) -> None:
    grad, x, weight = problem(size, (1, 3, 3), (1, 1, 1), "replicate", torch.float32)
    rest = ((1, 1, 1), "replicate", (True, False, False))
    got = _triton_backward.backward(grad, x, weight, *rest)[0]
    (exact, _, _), (naive, _, _) = exact_and_naive(grad, x, weight, *rest)
    assert_as_accurate(got, exact, naive, roundings=2, slack=2e-5)


def test_positions_are_split_among_programs_and_summed_in_order() -> None:
    sizes = ((2, 5, 8), (1, 1, 1), (1, 1, 1))
    grad, x, weight = problem(*sizes, "zeros", torch.float32, batch=2)
    geometry = launch_backward.of_convolution((1, 1, 1), (1, 1, 1), "zeros")
    dense, dy = _triton_backward.channels_last(x), _triton_backward.channels_last(grad)
    results = []
    for _ in range(2):
        out = torch.empty_like(weight)
        _triton_backward.weight_gradient(dense, dy, out, geometry, WEIGHT)
        results.append(out)
    assert WEIGHT.splits(
        launch_backward.Problem(channels=3, out_channels=2, taps=1, half_precision=False), 12
    ) == (12, 1)
    assert torch.equal(*results)
    expected = torch.einsum("bothw,bcthw->oc", grad, x)
    torch.testing.assert_close(results[0][:, :, 0, 0, 0], expected)


@pytest.mark.parametrize("needed", [0, 1, 2])
def test_only_what_is_needed_is_computed(needed: int) -> None:
    grad, x, weight = problem((2, 3, 3), (3, 3, 3), (1, 1, 1), "replicate", torch.float32)
    needs = [i == needed for i in range(3)]
    with use_backend("triton"):
        got = OPS["causal_conv3d_backward"](grad, x, weight, (1, 1, 1), "replicate", needs)
    assert [g.numel() > 0 for g in got] == needs


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_what_is_not_finite_stays_where_it_is() -> None:
    """Padding is masked, not multiplied by zero."""
    grad, x, weight = problem((2, 3, 4), (3, 3, 3), (1, 1, 1), "zeros", torch.float32)
    x[0, 0, 1, 2, 3] = torch.inf
    rest = ((1, 1, 1), "zeros", (False, True, False))
    got = _triton_backward.backward(grad, x, weight, *rest)[1]
    expected = reference.backward(grad, x, weight, *rest)[1]
    assert torch.equal(got.isfinite(), expected.isfinite()) and not got.isfinite().all()
