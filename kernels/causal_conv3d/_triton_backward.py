"""The backward of causal_conv3d in Triton, and its three gradients for the ops that build on it."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch

from ..common.availability import capability
from ..common.launch import multiprocessors
from ..contract import layout_of
from . import _triton_input_gradient as of_input
from . import _triton_weight_gradient as of_weight
from .launch import Shortcut
from .launch_backward import (
    Geometry,
    InputConfig,
    Problem,
    WeightConfig,
    of_convolution,
    pick_input,
    pick_weight,
)


def backward(
    grad: torch.Tensor,
    x: torch.Tensor,
    weight: torch.Tensor,
    stride: Sequence[int],
    pad_mode: str,
    needs: Sequence[bool],
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Run the backward as the op's schema has it: gradients of x, weight and bias."""
    geometry = of_convolution(weight.shape[2:], stride, pad_mode)
    dy = channels_last(grad)
    dx, dweight, dbias = (x.new_empty(0) for _ in range(3))
    if needs[0]:
        dx = input_gradient(dy, weight, (x.shape[0], *x.shape[2:]), geometry)
        dx = dx.permute(0, 4, 1, 2, 3).contiguous(memory_format=layout_of(x))
    if needs[1]:
        dweight = weight.new_empty(weight.shape)
        weight_gradient(channels_last(x), dy, dweight, geometry)
    if needs[2]:
        dbias = bias_gradient(dy, weight.dtype)
    return dx, dweight, dbias


def input_gradient(
    dy: torch.Tensor,
    weight: torch.Tensor,
    size: Sequence[int],
    geometry: Geometry,
    config: InputConfig | None = None,
    *,
    activated: torch.Tensor | None = None,
    shortcut: Shortcut | None = None,
) -> torch.Tensor:
    """The gradient [B, T, H, W, C] of an input of B, T, H, W; dy and weight [O, C, ...] are its.

    ``activated``, ``shortcut``: see `of_input.plan_input_gradient`.
    """
    taps = weight.permute(2, 3, 4, 0, 1).contiguous()
    dx = torch.empty((*size, weight.shape[1]), dtype=dy.dtype, device=dy.device)
    ring = of_input.new_ring(dx.shape, geometry, dx)
    problem = Problem(
        channels=weight.shape[1],
        out_channels=weight.shape[0],
        taps=prod(geometry.kernel),
        half_precision=dy.element_size() == 2,
    )
    config = config or pick_input(problem, capability(dy.device))
    of_input.plan_input_gradient(
        dy, taps, dx, ring, geometry, config, activated=activated, shortcut=shortcut
    ).run()
    if ring.numel():
        of_input.plan_fold(dx, ring, geometry).run()
    return dx


def weight_gradient(
    x: torch.Tensor,
    dy: torch.Tensor,
    out: torch.Tensor,
    geometry: Geometry,
    config: WeightConfig | None = None,
) -> None:
    """Write the gradient of a weight, out [O, C, kT, kH, kW], dense; x and dy channels-last."""
    problem = of_weight.problem_of(x, dy, geometry)
    config = config or pick_weight(problem, capability(x.device), multiprocessors(x.device))
    partial = of_weight.new_partial(x, dy, geometry, config)
    of_weight.plan_weight_gradient(x, dy, partial, geometry, config).run()
    of_weight.plan_sum_splits(partial, out).run()


def bias_gradient(dy: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The gradient [O] of a bias; dy channels-last."""
    launch, partial = of_weight.plan_bias_gradient(dy, multiprocessors(dy.device))
    launch.run()
    out = torch.empty(dy.shape[-1:], dtype=dtype, device=dy.device)
    of_weight.plan_sum_splits(partial, out).run()
    return out


def channels_last(x: torch.Tensor) -> torch.Tensor:
    """`x` [B, C, T, H, W] as [B, T, H, W, C], dense; no copy where its channels are innermost."""
    return x.permute(0, 2, 3, 4, 1).contiguous()
