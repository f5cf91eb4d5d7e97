"""causal_conv3d's Triton kernels in the interpreter."""

from __future__ import annotations

from math import prod
from typing import Any

import pytest
import torch
from torch import Tensor

from opensora_fast.kernels import causal_conv3d
from opensora_fast.kernels.agreement import assert_agrees, noise
from opensora_fast.kernels.causal_conv3d import _triton, _triton_weights, launch, reference
from opensora_fast.kernels.causal_conv3d._triton_border import plan_border
from opensora_fast.kernels.common.availability import capability
from opensora_fast.kernels.moments import channel_moments
from opensora_fast.kernels.registry import use_backend
from opensora_fast.kernels.testing import assert_as_accurate

DTYPES = (torch.float32, torch.float16)
CPU = torch.device("cpu")


def weight_of(*shape: int, dtype: torch.dtype, seed: int = 1) -> Tensor:
    return noise(*shape, dtype=torch.float64, seed=seed).div(prod(shape[1:]) ** 0.5).to(dtype)


def inputs(
    channels: int, out_channels: int, size: tuple[int, ...], kernel: tuple[int, ...], **kwargs: Any
) -> tuple[Tensor, Tensor, Tensor]:
    x = noise(kwargs.get("batch", 1), channels, *size, dtype=kwargs["dtype"])
    weight = weight_of(out_channels, channels, *kernel, dtype=kwargs["dtype"])
    return x, weight, noise(out_channels, dtype=kwargs["dtype"], seed=2)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("channels", "out_channels", "size", "kernel", "stride", "pad_mode"),
    [
        (18, 5, (2, 2, 3), (2, 3, 3), (1, 2, 2), "replicate"),
        (20, 17, (3, 2, 4), (2, 1, 3), (2, 1, 2), "zeros"),
        (17, 3, (3, 3, 2), (2, 3, 1), (1, 1, 2), "valid"),
        (3, 20, (1, 9, 8), (3, 3, 3), (1, 1, 1), "replicate"),
        (3, 4, (3, 5, 4), (3, 3, 3), (2, 2, 2), "zeros"),
        (24, 40, (2, 3, 4), (1, 3, 3), (1, 1, 1), "valid"),
        (40, 300, (2, 3, 5), (1, 1, 1), (1, 1, 1), "replicate"),
        (16, 150, (3, 2, 3), (2, 1, 1), (1, 1, 1), "zeros"),
    ],
)
def test_causal_conv3d(
    channels: int,
    out_channels: int,
    size: tuple[int, int, int],
    kernel: tuple[int, int, int],
    stride: tuple[int, int, int],
    pad_mode: str,
    dtype: torch.dtype,
) -> None:
    args = inputs(channels, out_channels, size, kernel, batch=2, dtype=dtype)
    assert_agrees(causal_conv3d, args, (stride, pad_mode), num_differentiable=0)


@pytest.mark.parametrize("pad_mode", ["replicate", "zeros"])
def test_a_border_is_copied_where_it_pays(pad_mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    copies = []
    with_border = _triton.with_border

    def counted(*args: Any) -> Tensor:
        copies.append(1)
        return with_border(*args)

    monkeypatch.setattr(_triton, "with_border", counted)
    args = inputs(24, 115, (2, 3, 4), (1, 3, 3), dtype=torch.float16)
    assert_agrees(causal_conv3d, args, ((1, 1, 1), pad_mode), num_differentiable=0)
    assert copies
    # Channels-last in, channels-last out; assert_agrees compares strides.
    x = args[0].contiguous(memory_format=torch.channels_last_3d)
    assert_agrees(causal_conv3d, (x, *args[1:2]), (None, (1, 1, 1), pad_mode), 0)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("batch", "channels", "out_channels", "size", "kernel", "has_bias", "has_residual"),
    [
        (2, 20, 24, (2, 2, 4), (2, 3, 3), True, True),
        (1, 16, 3, (1, 2, 70), (3, 1, 3), True, False),
        (1, 16, 300, (2, 2, 3), (1, 3, 1), False, True),
    ],
)
def test_convolve_plane(
    batch: int,
    channels: int,
    out_channels: int,
    size: tuple[int, int, int],
    kernel: tuple[int, int, int],
    has_bias: bool,
    has_residual: bool,
    dtype: torch.dtype,
) -> None:
    x, weight, bias = inputs(channels, out_channels, size, kernel, batch=batch, dtype=dtype)
    residual = noise(batch, out_channels, *size, dtype=dtype, seed=3) if has_residual else None
    args = (x, weight, bias if has_bias else None, residual)
    y = _triton.convolve_plane(bordered(x, kernel), *args[1:])
    agrees(y, args)


@pytest.mark.parametrize(
    ("pad_mode", "dtype"),
    [("replicate", torch.float16), ("zeros", torch.float32), ("valid", torch.float16)],
)
def test_taps_as_columns(
    pad_mode: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_triton, "frames_at_once", lambda *_: 2)  # of 3 or 2 frames
    args = inputs(68, 3, (3, 2, 3), (2, 2, 3), dtype=dtype)
    assert_agrees(causal_conv3d, args, ((1, 1, 1), pad_mode), num_differentiable=0)


def test_taps_as_columns_with_a_residual() -> None:
    x, weight, bias = inputs(64, 5, (1, 2, 130), (3, 1, 2), dtype=torch.float16)
    args = (x, weight, bias, noise(1, 5, 1, 2, 130, dtype=torch.float16, seed=3))
    plane = torch.cat([bordered(x, (1, 1, 1)), torch.zeros(1, 1, 2, 1, 64).half()], dim=3)
    y = _triton.convolve_plane(plane, *args[1:])
    x = torch.nn.functional.pad(x, (0, 1))
    results = []
    for dtype in (torch.float64, torch.float32):
        pad = x.to(dtype)[:, :, [0, 0, 0]]
        result = reference.forward(pad, weight.to(dtype), bias.to(dtype), (1, 1, 1), "valid")
        results.append(result + args[3].to(dtype))
    out = y.permute(0, 4, 1, 2, 3)
    assert_as_accurate(out, results[0], results[1].half(), roundings=1, what="y")


@pytest.mark.parametrize(("target", "along"), [(90, True), (100, False)])
def test_moments_for_the_norm_behind(
    target: int, along: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the convolution's own pass, or behind it where that would cost a smaller tile."""
    passes = []
    merge = _triton.merge_partials

    def counted(partial: Tensor, *args: Any) -> tuple[Tensor, Tensor]:
        passes.append(partial.shape[2])
        return merge(partial, *args)

    monkeypatch.setattr(_triton, "merge_partials", counted)
    monkeypatch.setattr(_triton, "capability", lambda _: target)
    x, weight, bias = inputs(16, 20, (2, 3, 90), (1, 1, 3), batch=2, dtype=torch.float16)
    with use_backend("triton"):
        y, moments = causal_conv3d(x, weight, bias, pad_mode="valid", gather_moments=True)
    assert_agrees(causal_conv3d, (x, weight, bias), ((1, 1, 1), "valid"), num_differentiable=0)
    torch.testing.assert_close(moments, channel_moments(y), rtol=1e-5, atol=1e-5)
    # Several sums a frame.
    assert [number > y.shape[2] for number in passes] == ([True] if along else [])


def bordered(x: Tensor, kernel: tuple[int, int, int]) -> Tensor:
    """x with what a producer of planes writes around it."""
    plane = reference.pad(x, (1, *kernel[1:]), "replicate")
    return plane.permute(0, 2, 3, 4, 1).contiguous()


def agrees(y: Tensor, args: tuple[Tensor | None, ...]) -> None:
    """Raise unless y [B, T, H, W, O] is as accurate as the definition in y's dtype."""
    results = []
    for dtype in (torch.float64, torch.float32):
        x, weight, bias, residual = (None if a is None else a.to(dtype) for a in args)
        assert x is not None and weight is not None
        result = reference.forward(x, weight, bias, (1, 1, 1), "replicate")
        results.append(result if residual is None else result + residual)
    out = y.permute(0, 4, 1, 2, 3)
    assert_as_accurate(
        out, results[0], results[1].to(y.dtype), roundings=1, precision=y.dtype, what="y"
    )


def test_later_frames_change_no_bit() -> None:
    x, weight, bias = inputs(24, 115, (3, 2, 3), (2, 3, 3), dtype=torch.float16)
    changed = x.clone()
    changed[:, :, 2] = 7
    with use_backend("triton"):
        before, after = (causal_conv3d(v, weight, bias) for v in (x, changed))
    assert torch.equal(before[:, :, :2], after[:, :, :2])
    assert not torch.equal(before[:, :, 2], after[:, :, 2])


@pytest.mark.parametrize("pad_mode", ["replicate", "zeros"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_the_copy_with_a_border(pad_mode: str, layout: torch.memory_format) -> None:
    x = noise(2, 130, 1, 2, 33, dtype=torch.float16).contiguous(memory_format=layout)
    padding = reference.padding((1, 5, 3), pad_mode)
    expected = reference.pad(x, (1, 5, 3), pad_mode).permute(0, 2, 3, 4, 1).contiguous()
    plane = torch.full_like(expected, float("nan"))
    plan_border(x.permute(0, 2, 3, 4, 1), plane, padding, pad_mode == "zeros").run()
    assert torch.equal(plane, expected)


def config_of(weight: Tensor) -> launch.Config:
    problem = launch.Problem(
        channels=weight.shape[1],
        out_channels=weight.shape[0],
        kernel=(1, 1, 1),
        half_precision=False,
        aligned=True,
        plane="given",
    )
    return launch.pick(problem, capability(CPU))


def packed(weight: Tensor) -> Tensor:
    return _triton_weights.packed_weight(weight, config_of(weight))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_a_packed_weight_is_tap_major_and_padded(layout: torch.memory_format) -> None:
    weight = noise(5, 20, 1, 2, 2).contiguous(memory_format=layout)
    values = packed(weight)
    assert values.shape == (4 * 32, 16)
    rows = values.view(4, 32, 16)
    assert torch.equal(rows[:, :20, :5], weight.flatten(2).permute(2, 1, 0))
    assert not rows[:, 20:].any() and not rows[:, :, 5:].any()


@pytest.mark.parametrize(
    "change",
    [
        lambda w: w.mul_(2.0),
        lambda w: w.data.mul_(2.0),  # not counted by the tensor's version
        lambda w: setattr(w, "data", w.data.flip(0)),
    ],
    ids=["in place", "behind its back", "replaced"],
)
def test_a_changed_weight_is_packed_again(change: Any) -> None:
    weight = noise(70, 20, 1, 1, 1)
    packed(weight)
    change(weight)
    assert torch.equal(packed(weight)[:20, :70], weight.view(70, 20).t())


def test_an_unchanged_weight_is_packed_once() -> None:
    weight = noise(16, 16, 1, 1, 1)
    first = packed(weight)
    first[3, 4] = 9  # a second packing would write over it
    second = packed(weight)
    assert second.data_ptr() == first.data_ptr() and second[3, 4] == 9


def test_a_weight_of_another_dtype_is_packed_anew() -> None:
    weight = noise(16, 16, 1, 1, 1)
    packed(weight)
    weight.data = weight.data.half()
    assert packed(weight).dtype is torch.float16
