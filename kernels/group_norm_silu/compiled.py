"""The launches of group_norm_silu, to be compiled without a GPU."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ..common.catalogue import NUM_MULTIPROCESSORS, Compiled, meta
from ..common.launch import Launch
from . import _triton, _triton_backward, _triton_statistics
from .launch import pick_elementwise, pick_statistics, pick_transpose

NUM_GROUPS = 32
# The last stage of the released decoder, 129 frames of 768 x 768, has 128 channels.
CHANNELS, NUM_FRAMES, HEIGHT, WIDTH = 128, 129, 768, 768
# Half-precision rows, and rows along memory, are read 16 bytes at a time.
WIDE = ("ld.global.v4",)


def launches(capability: int) -> Iterator[Compiled]:
    """Every pass over both layouts in bf16, the largest of them in fp32."""
    num_sms = NUM_MULTIPROCESSORS[capability]
    for last in (False, True):
        layout = "channels_last" if last else "contiguous"
        x = video(last)
        yield Compiled(name=f"moments.{layout}", launch=moments(x, num_sms), promises=WIDE)
        yield Compiled(name=f"forward.{layout}", launch=forward(x, num_sms), promises=WIDE)
        yield Compiled(name=f"activate.{layout}", launch=activate(x, num_sms), promises=WIDE)
        sums, dx = backward(x, num_sms)
        yield Compiled(name=f"backward.sums.{layout}", launch=sums, promises=WIDE)
        yield Compiled(name=f"backward.dx.{layout}", launch=dx, promises=WIDE)
    x = video(True, torch.float32)
    yield Compiled(name="moments.fp32", launch=moments(x, num_sms))
    yield Compiled(name="activate.fp32", launch=activate(x, num_sms))
    sums, dx = backward(x, num_sms)
    yield Compiled(name="backward.sums.fp32", launch=sums)
    yield Compiled(name="backward.dx.fp32", launch=dx)
    yield from merges()


def video(channels_last: bool, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    """The activations of the last stage."""
    x = meta(1, CHANNELS, NUM_FRAMES, HEIGHT, WIDTH, dtype=dtype)
    return x.to(memory_format=torch.channels_last_3d) if channels_last else x


def moments(x: torch.Tensor, num_sms: int) -> Launch:
    """The statistics' pass over x."""
    problem = _triton_statistics.statistics_problem(x, NUM_GROUPS)
    config = pick_statistics(problem, num_sms)
    partial = _triton_statistics.new_partial(x, problem, config)
    return _triton_statistics.plan_moments(x, problem, partial, config)


def merges() -> Iterator[Compiled]:
    """Of moments to the statistics, and of a convolution's sums in two stages."""
    rows = NUM_FRAMES * HEIGHT * WIDTH
    mean = meta(1, NUM_GROUPS, dtype=torch.float32)
    partial = meta(2, 1, 1024, CHANNELS, dtype=torch.float32)
    count = rows * CHANNELS // NUM_GROUPS
    launch = _triton_statistics.plan_merge(partial, mean, mean, count, 1e-6, rows, rows // 1024)
    yield Compiled(name="merge.moments", launch=launch)
    partial = meta(2, 1, 2**18, CHANNELS, dtype=torch.float32)
    sums = meta(2, 1, 128, NUM_GROUPS, dtype=torch.float64)
    launch = _triton_statistics.plan_merge(partial, sums[0], sums[1], count, 1e-6, None, 1)
    yield Compiled(name="merge.sums", launch=launch)
    launch = _triton_statistics.plan_merge(sums, mean, mean, count, 1e-6, None, 1)
    yield Compiled(name="merge.last", launch=launch)


def forward(x: torch.Tensor, num_sms: int) -> Launch:
    """The op's second pass."""
    config = pick_elementwise(_triton.elementwise_problem(x), num_sms)
    return _triton.plan_forward(x, *_parameters(x), x, True, config)


def activate(x: torch.Tensor, num_sms: int) -> Launch:
    """The producer of a 3x3 convolution's input."""
    problem = _triton.activate_problem(x)
    config = (pick_elementwise if problem.along_columns else pick_transpose)(problem, num_sms)
    y = meta(1, NUM_FRAMES, HEIGHT + 2, WIDTH + 2, CHANNELS, dtype=x.dtype)
    return _triton.plan_activate(x, *_parameters(x), y, True, config)


def backward(x: torch.Tensor, num_sms: int) -> tuple[Launch, Launch]:
    """Both passes over the gradient."""
    problem = _triton.elementwise_problem(x)
    mean, rstd, weight, bias = _parameters(x)
    inputs = (x, x, mean, rstd, weight, bias, True)
    config = pick_statistics(problem, num_sms)
    partial = _triton_statistics.new_partial(x, problem, config)
    sums = _triton_backward.plan_sums(*inputs, partial, config)
    config = pick_elementwise(problem, num_sms)
    coefficients = meta(2, 1, NUM_GROUPS, dtype=torch.float32)
    return sums, _triton_backward.plan_dx(*inputs, coefficients, x, config)


def _parameters(
    x: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    mean = meta(1, NUM_GROUPS, dtype=torch.float32)
    weight = meta(CHANNELS, dtype=x.dtype)
    return mean, mean, weight, weight
