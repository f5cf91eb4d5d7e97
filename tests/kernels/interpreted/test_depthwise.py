"""The shared Triton kernels of depthwise convolutions in the interpreter."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from opensora_fast.kernels.agreement import noise
from opensora_fast.kernels.common._triton_depthwise import (
    depthwise,
    depthwise_gradients,
    new_partial,
)

LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last_3d}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("shape", "kernel"),
    [
        ((2, 5, 2, 3, 4), (3, 3, 3)),
        ((1, 70, 3, 2, 5), (1, 3, 3)),  # two tiles of channels
        ((2, 3, 1, 1, 1), (5, 5, 5)),  # nothing but zeros around
        ((2, 4, 4, 9, 16), (1, 1, 5)),  # several runs of tiles, the last one cut off
    ],
    ids=str,
)
def test_depthwise(shape: tuple[int, ...], kernel: tuple[int, ...], layout: str) -> None:
    channels = shape[1]
    x = noise(*shape, dtype=torch.float32).contiguous(memory_format=LAYOUTS[layout])
    weight = noise(channels, 1, *kernel, dtype=torch.float32, seed=1)
    bias = noise(channels, dtype=torch.float32, seed=2)
    grad = noise(*shape, dtype=torch.float32, seed=3)
    exact = [a.double().requires_grad_() for a in (x, weight)]
    padding = [size // 2 for size in kernel]
    y = F.conv3d(*exact, bias.double(), padding=padding, groups=channels)
    y.backward(grad.double())
    got = (depthwise(x, weight, bias), *depthwise_gradients(grad, x, weight))
    for ours, want in zip(got, (y, exact[0].grad, exact[1].grad), strict=True):
        assert want is not None and ours.shape == want.shape
        torch.testing.assert_close(ours.double(), want.detach(), rtol=1e-5, atol=1e-4)


def test_the_last_case_above_has_several_runs() -> None:
    assert new_partial(torch.zeros(2, 4, 4, 9, 16), (1, 1, 5)).shape == (1, 5, 3, 4)
