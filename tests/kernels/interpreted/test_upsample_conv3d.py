"""upsample_conv3d's Triton kernels in the interpreter."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from opensora_fast.kernels import upsample_conv3d
from opensora_fast.kernels.agreement import assert_agrees, noise
from opensora_fast.kernels.registry import OPS, use_backend
from opensora_fast.kernels.testing import assert_as_accurate
from opensora_fast.kernels.upsample_conv3d import _triton, _triton_weights, launch, reference


def weight_and_bias(
    out_channels: int, channels: int, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    weight = noise(out_channels, channels, 3, 3, 3, dtype=torch.float64, seed=1)
    return (weight / (27 * channels) ** 0.5).to(dtype), noise(out_channels, dtype=dtype, seed=2)


@pytest.mark.parametrize(
    ("dtype", "scale", "descriptors"),
    [(torch.float16, (2, 2, 2), True), (torch.float32, (1, 2, 2), False)],
    ids=str,
)
def test_tiles_that_end_everywhere(
    dtype: torch.dtype, scale: tuple[int, int, int], descriptors: bool
) -> None:
    """Several blocks of every kind, the last ones partly filled."""
    x = noise(1, 17, 2, 3, 5, dtype=dtype)
    weight, bias = weight_and_bias(19, 17, dtype)
    config = launch.Config(
        descriptors=descriptors, block_m=16, block_n=16, block_k=16, num_warps=4, num_stages=2
    )
    got = _triton.run(x, weight, bias, scale, config)
    exact = reference.forward(x.double(), weight.double(), bias.double(), scale)
    naive = reference.forward(x, weight, bias, scale)
    assert_as_accurate(got, exact, naive, slack=2e-5)


@pytest.mark.parametrize("scale", launch.SCALES, ids=str)
def test_the_first_frame_is_enlarged_in_space_only(scale: tuple[int, int, int]) -> None:
    x = noise(1, 3, 1, 2, 3)
    weight, bias = weight_and_bias(2, 3, torch.float32)
    assert_agrees(upsample_conv3d, (x, weight, bias), (scale,), num_differentiable=0)


@pytest.mark.parametrize(
    ("dtype", "scale", "size"),
    [
        (torch.float32, (2, 2, 2), (2, 1, 3)),
        (torch.float16, (1, 2, 2), (2, 1, 1)),
    ],
    ids=str,
)
def test_gradients(
    dtype: torch.dtype, scale: tuple[int, int, int], size: tuple[int, int, int]
) -> None:
    x = noise(1, 3, *size, dtype=dtype)
    weight, _ = weight_and_bias(2, 3, dtype)
    shape = (1, 2, *reference.output_size(size, scale))
    args = (noise(*shape, dtype=dtype, seed=3), x, weight)
    needs = (True, True, True)
    with use_backend("triton"):
        got = OPS["upsample_conv3d_backward"](*args, scale, needs)
    exact = reference.backward(*(a.double() for a in args), scale, needs)
    naive = reference.backward(*args, scale, needs)
    for i, gradients in enumerate(zip(got, exact, naive, strict=True)):
        assert_as_accurate(*gradients, roundings=2, slack=2e-5, what=f"gradient {i}")


def test_any_layout_is_read() -> None:
    x = noise(2, 2, 4, 9, 2).permute(0, 2, 1, 4, 3)[:1, ..., ::5]
    weight, bias = weight_and_bias(4, 4, torch.float32)
    inputs = (x, weight.flip(2).transpose(0, 1), bias[::2].repeat_interleave(2))
    assert_agrees(upsample_conv3d, inputs, num_differentiable=0)


def test_frames_do_not_look_ahead() -> None:
    x = noise(1, 4, 3, 2, 2, dtype=torch.float16)
    weight, bias = weight_and_bias(4, 4, torch.float16)
    other = torch.cat((x[:, :, :1], noise(1, 4, 2, 2, 2, dtype=torch.float16, seed=7)), dim=2)
    config = dataclasses.replace(
        launch.pick(_triton.problem_of(x, weight), 90), block_m=16, descriptors=False
    )
    first, second = (_triton.run(v, weight, bias, (2, 2, 2), config) for v in (x, other))
    assert torch.equal(first[:, :, :1], second[:, :, :1])
    assert not torch.equal(first[:, :, 1], second[:, :, 1])


def test_a_weight_is_packed_once_and_again_when_it_changes() -> None:
    weight, _ = weight_and_bias(3, 2, torch.float16)
    config = launch.pick(launch.Problem(channels=2, out_channels=3, half_precision=True), 90)
    packed = _triton_weights.packed_weight(weight, (1, 2, 2), config)
    first = packed.clone()
    assert _triton_weights.packed_weight(weight, (1, 2, 2), config) is packed
    assert torch.equal(packed, first)
    weight.mul_(2.0)
    assert torch.equal(_triton_weights.packed_weight(weight, (1, 2, 2), config), 2 * first)
    weight.data.mul_(2.0)  # not counted by the tensor's version
    assert torch.equal(_triton_weights.packed_weight(weight, (1, 2, 2), config), 4 * first)
