"""The launches of causal_conv3d's backward, to be compiled without a GPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from ..common.catalogue import NUM_MULTIPROCESSORS, Compiled, meta
from ..common.launch import Launch
from . import _triton_input_gradient as of_input
from . import _triton_weight_gradient as of_weight
from .launch_backward import of_convolution, pick_input, pick_weight
from .reference import output_shape

SIZE = (33, 64, 64)


def launches(capability: int) -> Iterator[Compiled]:
    """Gradients of the widest layer, of a strided one and of the image's, in bf16; one in fp32."""
    hopper = ("wgmma.mma_async",) if capability == 90 else ()
    for name, of, channels, stride in (
        ("512", "input", (512, 512), (1, 1, 1)),
        ("512", "weight", (512, 512), (1, 1, 1)),
        ("256.strided", "input", (256, 256), (2, 2, 2)),
        ("image", "input", (128, 3), (1, 1, 1)),
    ):
        launch = plan(of, *channels, capability, stride)
        yield Compiled(name=f"backward.{of}.{name}", launch=launch, promises=hopper)
    for of in ("input", "weight"):
        launch = plan(of, 256, 256, capability, dtype=torch.float32)
        yield Compiled(name=f"backward.{of}.fp32", launch=launch)
    for of in ("fold", "bias", "sum"):
        yield Compiled(name=f"backward.{of}", launch=plan(of, 256, 256, capability))


def plan(
    of: str,
    channels: int,
    out_channels: int,
    capability: int,
    stride: Sequence[int] = (1, 1, 1),
    dtype: torch.dtype = torch.bfloat16,
) -> Launch:
    """One of the launches of a backward: of input, weight, fold, bias or sum."""
    geometry = of_convolution((3, 3, 3), stride, "replicate")
    shape = output_shape((1, channels, *SIZE), (out_channels, channels, 3, 3, 3), stride, "zeros")
    x = meta(1, *SIZE, channels, dtype=dtype)
    dy = meta(1, *shape[2:], out_channels, dtype=dtype)
    num_sms = NUM_MULTIPROCESSORS[capability]
    problem = of_weight.problem_of(x, dy, geometry)
    ring = of_input.new_ring(x.shape, geometry, x)
    if of == "input":
        taps = meta(27, out_channels, channels, dtype=dtype)
        config = pick_input(problem, capability)
        return of_input.plan_input_gradient(dy, taps, x, ring, geometry, config)
    if of == "fold":
        return of_input.plan_fold(x, ring, geometry)
    if of == "bias":
        return of_weight.plan_bias_gradient(dy, num_sms)[0]
    weight_config = pick_weight(problem, capability, num_sms)
    partial = of_weight.new_partial(x, dy, geometry, weight_config)
    if of == "weight":
        return of_weight.plan_weight_gradient(x, dy, partial, geometry, weight_config)
    return of_weight.plan_sum_splits(partial, meta(out_channels, channels, 27, dtype=dtype))
