"""conv3d's Triton kernels in the interpreter: what the conformance cases do not reach."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from opensora_fast.kernels import conv3d
from opensora_fast.kernels.agreement import assert_agrees, noise
from opensora_fast.kernels.causal_conv3d import _triton as convolution
from opensora_fast.kernels.causal_conv3d import _triton_border
from opensora_fast.kernels.conv3d import _triton, reference
from opensora_fast.kernels.registry import OPS, use_backend
from opensora_fast.kernels.testing import assert_as_accurate

ONE = (1, 1, 1)


def inputs(
    channels: int,
    out_channels: int,
    size: tuple[int, int, int],
    kernel: tuple[int, int, int] = (3, 3, 3),
    *,
    batch: int = 1,
    dtype: torch.dtype = torch.float16,
) -> tuple[Tensor, Tensor, Tensor]:
    x = noise(batch, channels, *size, dtype=dtype)
    weight = noise(out_channels, channels, *kernel, dtype=torch.float64, seed=1)
    weight = weight.div((channels * kernel[0] * kernel[1] * kernel[2]) ** 0.5).to(dtype)
    return x, weight, noise(out_channels, dtype=dtype, seed=2)


@pytest.mark.parametrize(
    ("channels", "out_channels", "kernel", "silu"),
    [
        (32, 16, (3, 1, 1), False),  # x is read as it is
        (16, 32, (1, 1, 3), True),  # x is written, activated
    ],
    ids=["averaging", "repeating"],
)
def test_a_shortcut_is_added_to_planes(
    channels: int, out_channels: int, kernel: tuple[int, int, int], silu: bool
) -> None:
    args = inputs(channels, out_channels, (2, 1, 3), kernel, batch=2)
    assert_agrees(conv3d, args, (ONE, ONE, silu, True), num_differentiable=0)


@pytest.mark.parametrize("depth", [2, 3])
def test_runs_of_frames_are_the_whole(depth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long video is activated a few frames at a time; its frames see those around the run."""
    x, weight, bias = inputs(16, 16, (3, 1, 2), (depth, 1, 1), batch=2)
    args = (x, weight, bias, ONE, ONE, True, depth == 3)
    with use_backend("triton"):
        whole = conv3d(*args)
        monkeypatch.setattr(_triton_border, "MAX_PLANE_BYTES", 2 * 1 * 2 * 16 * 2)  # two frames
        parts = conv3d(*args)
    assert torch.equal(parts, whole)


def test_columns_of_a_few_frames_see_zeros_on_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convolution, "frames_at_once", lambda *_: 2)
    args = inputs(64, 2, (3, 2, 3), batch=2)
    assert_agrees(conv3d, args, (ONE, ONE, True, True), num_differentiable=0)


@pytest.mark.parametrize(
    ("kernel", "stride", "scale", "channels", "silu"),
    [
        ((3, 3, 3), (1, 1, 1), (2, 2, 2), (4, 2), True),  # both columns of one channel
        ((3, 3, 3), (1, 1, 1), (1, 2, 2), (4, 3), True),  # three pixels share one
        ((3, 3, 3), (2, 1, 2), (1, 1, 1), (6, 8), True),
        ((1, 3, 1), (1, 1, 1), (3, 1, 2), (6, 2), True),
        ((1, 1, 1), (1, 1, 1), (2, 2, 1), (4, 3), False),
    ],
    ids=str,
)
def test_the_shortcut_goes_around_everything(
    kernel: tuple[int, int, int],
    stride: tuple[int, int, int],
    scale: tuple[int, int, int],
    channels: tuple[int, int],
    silu: bool,
) -> None:
    args = inputs(*channels, (2, 1, 4), kernel, dtype=torch.float32)
    assert_agrees(conv3d, args, (stride, scale, silu, True), num_differentiable=0)


@pytest.mark.parametrize(
    ("kernel", "stride", "scale", "channels", "silu"),
    [
        ((3, 1, 3), (1, 1, 1), (1, 1, 2), (4, 6), True),
        ((1, 3, 1), (1, 1, 1), (3, 1, 2), (3, 2), False),  # taps that meet nothing come first
        ((3, 1, 3), (2, 1, 2), (1, 1, 1), (3, 4), True),
        ((1, 1, 1), (1, 1, 1), (1, 1, 1), (6, 2), True),
        ((1, 1, 3), (1, 1, 1), (1, 1, 1), (2, 6), False),
    ],
    ids=str,
)
def test_gradients(
    kernel: tuple[int, int, int],
    stride: tuple[int, int, int],
    scale: tuple[int, int, int],
    channels: tuple[int, int],
    silu: bool,
) -> None:
    x, weight, _ = inputs(*channels, (2, 1, 2), kernel, dtype=torch.float32)
    shape = (1, channels[1], *reference.output_size((2, 1, 2), kernel, stride, scale))
    rest: tuple[Any, ...] = (stride, scale, silu, True, True, (True, True, True))
    args = (noise(*shape, seed=3), x, weight)
    with use_backend("triton"):
        got = OPS["conv3d_backward"](*args, *rest)
    exact = reference.backward(*(a.double() for a in args), *rest)
    naive = reference.backward(*args, *rest)
    for i, gradients in enumerate(zip(got, exact, naive, strict=True)):
        assert_as_accurate(*gradients, roundings=2, slack=2e-5, what=f"gradient {i}")


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("scale", [ONE, (1, 2, 2)], ids=str)
def test_zeros_around_are_not_multiplied(scale: tuple[int, int, int]) -> None:
    """What is not finite stays where it is: no product of zero and infinity in time."""
    x, weight, bias = inputs(16, 16, (3, 1, 2), (3, 3, 3))
    x[0, 0, 2] = torch.inf
    with use_backend("triton"):
        y = conv3d(x, weight, bias, scale=scale)
    assert y[:, :, 0].isfinite().all() and not y[:, :, 1:].isfinite().any()


def test_only_what_is_needed_is_computed() -> None:
    x, weight, _ = inputs(2, 2, (1, 1, 2), ONE)
    grad = noise(1, 2, 1, 1, 2, dtype=torch.float16)
    for needed in range(3):
        needs = [i == needed for i in range(3)]
        with use_backend("triton"):
            got = OPS["conv3d_backward"](grad, x, weight, ONE, ONE, True, True, True, needs)
        assert [g.numel() > 0 for g in got] == needs


def test_the_copy_is_left_out_where_nothing_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    copies = []
    with_border = _triton.with_border

    def counted(*args: Any) -> Tensor:
        copies.append(1)
        return with_border(*args)

    monkeypatch.setattr(_triton, "with_border", counted)
    for kernel, silu, expected in ((ONE, False, 0), ((3, 1, 1), False, 0), (ONE, True, 1)):
        args = inputs(16, 16, (1, 2, 2), kernel)
        with use_backend("triton"):
            conv3d(*args, silu=silu)
        assert len(copies) == expected
