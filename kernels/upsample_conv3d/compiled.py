"""The launches of upsample_conv3d, to be compiled without a GPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from ..causal_conv3d import _triton_input_gradient as of_input
from ..causal_conv3d import _triton_weight_gradient as of_weight
from ..causal_conv3d.launch_backward import pick_input, pick_weight
from ..common.catalogue import NUM_MULTIPROCESSORS, Compiled, meta
from ..common.launch import Launch
from . import _triton, _triton_weights
from .launch import Problem, geometry, pick
from .reference import output_size

SIZE = (33, 64, 64)  # a tile of 256 pixels of a 129-frame video, before the second upsampler


def launches(capability: int) -> Iterator[Compiled]:
    """The VAE's upsamplers in bf16, of both scales; in fp32; and what prepares their products."""
    matrix = ("wgmma.mma_async",) if capability == 90 else ()
    hopper = (*matrix, "cp.async.bulk.tensor") if capability == 90 else ()
    for channels, scale in ((512, (2, 2, 2)), (256, (2, 2, 2)), (512, (1, 2, 2))):
        launch = plan(channels, capability, scale)
        name = f"product.{channels}.{'x'.join(map(str, scale))}"
        yield Compiled(name=name, launch=launch, promises=hopper)
    launch = plan(256, capability, dtype=torch.float32)
    yield Compiled(name="product.256.fp32", launch=launch)
    launch = plan(256, capability, step="difference")
    yield Compiled(name="difference.256", launch=launch, promises=("ld.global.v4",))
    for stale in (False, True):
        launch = plan(256, capability, step="stale" if stale else "kept")
        yield Compiled(name=f"pack.stale={stale}", launch=launch)
    for of in ("input", "weight"):
        launch = plan_backward(of, 256, capability)
        yield Compiled(name=f"backward.{of}.256", launch=launch, promises=matrix)


def plan(
    channels: int,
    capability: int,
    scale: Sequence[int] = (2, 2, 2),
    step: str = "product",
    dtype: torch.dtype = torch.bfloat16,
) -> Launch:
    """The product, the difference, or the packing of a kept or a stale weight."""
    x = meta(1, channels, *SIZE, dtype=dtype).contiguous(memory_format=torch.channels_last_3d)
    weight = meta(channels, channels, 3, 3, 3, dtype=dtype)
    problem = Problem(channels=channels, out_channels=channels, half_precision=dtype.itemsize == 2)
    config = pick(problem, capability)
    d = _triton.new_differences(x, config)
    u = meta(*_triton_weights.packed_shape(weight, scale, config), dtype=dtype)
    if step == "difference":
        return _triton.plan_difference(x, d)
    if step in ("kept", "stale"):
        return _triton_weights.plan_pack(weight, u, scale, stale=step == "stale")
    y = meta(1, *output_size(SIZE, scale), channels, dtype=dtype)
    return _triton.plan_product(x, d, u, weight[:, 0, 0, 0, 0], y, scale, config)


def plan_backward(of: str, channels: int, capability: int) -> Launch:
    """A launch of the gradient of the input or of the weight, for a doubled video."""
    scale = (2, 2, 2)
    meeting = geometry(scale)
    x, dy = meta(1, *SIZE, channels), meta(1, *output_size(SIZE, scale), channels)
    problem = of_weight.problem_of(x, dy, meeting)
    if of == "input":
        ring, taps = of_input.new_ring(x.shape, meeting, x), meta(64, channels, channels)
        config = pick_input(problem, capability)
        return of_input.plan_input_gradient(dy, taps, x, ring, meeting, config)
    weight_config = pick_weight(problem, capability, NUM_MULTIPROCESSORS[capability])
    partial = of_weight.new_partial(x, dy, meeting, weight_config)
    return of_weight.plan_weight_gradient(x, dy, partial, meeting, weight_config)
