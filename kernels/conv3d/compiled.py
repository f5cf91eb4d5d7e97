"""The launches of conv3d that its two ops do not have, to be compiled without a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from ..causal_conv3d import _triton_input_gradient as of_input
from ..causal_conv3d import _triton_weight_gradient as of_weight
from ..causal_conv3d import compiled as causal
from ..causal_conv3d import launch as conv
from ..causal_conv3d._triton_border import plan_border
from ..causal_conv3d._triton_gather import plan_gather
from ..causal_conv3d._triton_shortcut import plan_shortcut
from ..causal_conv3d.launch_backward import pick_input, pick_weight
from ..common.catalogue import NUM_MULTIPROCESSORS, Compiled, meta
from ..common.launch import Launch
from ..upsample_conv3d import _triton as upsample
from ..upsample_conv3d import launch as doubled
from ._triton import border_of
from .launch import geometry, shortcut_of
from .reference import output_size

KERNEL = (3, 3, 3)


@dataclass(frozen=True, kw_only=True, slots=True)
class Layer:
    """A layer of the Video DC-AE with a shortcut: x is [1, channels, *size]."""

    channels: int
    out_channels: int
    size: tuple[int, int, int]
    stride: tuple[int, int, int] = (1, 1, 1)
    scale: tuple[int, int, int] = (1, 1, 1)

    @property
    def out_size(self) -> tuple[int, int, int]:
        """T', H', W'."""
        return output_size(self.size, KERNEL, self.stride, self.scale)

    @property
    def shortcut(self) -> conv.Shortcut:
        """How x is added to y."""
        return shortcut_of(self.channels, self.out_channels, self.stride, self.scale)


DOWN = Layer(channels=128, out_channels=256, size=(32, 256, 256), stride=(1, 2, 2))
DOWN_IN_TIME = Layer(channels=512, out_channels=1024, size=(32, 32, 32), stride=(2, 2, 2))
UP = Layer(channels=256, out_channels=128, size=(32, 128, 128), scale=(1, 2, 2))
UP_IN_TIME = Layer(channels=1024, out_channels=512, size=(16, 16, 16), scale=(2, 2, 2))
FROM_LATENTS = Layer(channels=128, out_channels=1024, size=(8, 8, 8))
TO_LATENTS = Layer(channels=1024, out_channels=128, size=(8, 8, 8))
BLOCK = causal.Layer(channels=128, out_channels=128, size=(32, 256, 256))


def launches(capability: int) -> Iterator[Compiled]:
    """What the Video DC-AE needs beside causal_conv3d's launches and upsample_conv3d's."""
    matrix = ("wgmma.mma_async",) if capability == 90 else ()
    boxes = (*matrix, "cp.async.bulk.tensor") if capability == 90 else ()
    for name, layer in (("space", DOWN), ("time", DOWN_IN_TIME), ("repeating", FROM_LATENTS)):
        launch = plan_looked_up(layer, capability)
        yield Compiled(name=f"gather.{name}", launch=launch, promises=matrix)
    for name, layer in (("space", UP), ("time", UP_IN_TIME)):
        launch = plan_doubled(layer, capability)
        yield Compiled(name=f"product.{name}", launch=launch, promises=boxes)
    for name, layer in (("gather", DOWN), ("product", UP)):
        plan = plan_looked_up if name == "gather" else plan_doubled
        launch = plan(layer, capability, dtype=torch.float32)
        yield Compiled(name=f"{name}.fp32", launch=launch)
    launch = plan_doubled(UP, capability, step="difference")
    yield Compiled(name="difference.silu", launch=launch, promises=("ld.global.v4",))
    x = meta(1, *BLOCK.size, BLOCK.channels)
    launch = plan_border(x, causal.bordered(BLOCK, x.dtype), border_of(KERNEL), True, True)
    yield Compiled(name="border.silu", launch=launch, promises=("ld.global.v4",))
    for name, layer in (("averaging", TO_LATENTS), ("repeating", FROM_LATENTS)):
        source, y = meta(1, *layer.size, layer.channels), meta(1, *layer.size, layer.out_channels)
        yield Compiled(name=f"shortcut.{name}", launch=plan_shortcut(source, y, layer.shortcut))
    for name, layer in (("down", DOWN_IN_TIME), ("up", UP_IN_TIME)):
        launch = plan_gradient("input", layer, capability)
        yield Compiled(name=f"backward.input.{name}", launch=launch, promises=matrix)
    launch = plan_gradient("input", DOWN, capability, dtype=torch.float32)
    yield Compiled(name="backward.input.fp32", launch=launch)
    launch = plan_gradient("weight", UP_IN_TIME, capability)
    yield Compiled(name="backward.weight.up", launch=launch, promises=matrix)


def plan_looked_up(layer: Layer, capability: int, *, dtype: torch.dtype = torch.bfloat16) -> Launch:
    """The launch of the form that looks every pixel up."""
    strided = max(layer.stride) > 1
    # With a stride of 1 only devices without descriptors look up.
    problem = conv.Problem(
        channels=layer.channels,
        out_channels=layer.out_channels,
        kernel=KERNEL,
        half_precision=dtype.itemsize == 2,
        aligned=strided,
        plane="none" if strided else "copied",
    )
    config = conv.pick(problem, capability)
    x = meta(1, *layer.size, layer.channels, dtype=dtype)
    y = meta(1, *layer.out_size, layer.out_channels, dtype=dtype)
    packed = meta(*config.packed_shape(layer.channels, layer.out_channels, 27)[:2], dtype=dtype)
    bias = meta(layer.out_channels, dtype=dtype)
    return plan_gather(
        x, packed, bias, y, KERNEL, layer.stride, border_of(KERNEL), config, True, layer.scale,
        (x, layer.shortcut),
    )  # fmt: skip


def plan_doubled(
    layer: Layer, capability: int, *, step: str = "product", dtype: torch.dtype = torch.bfloat16
) -> Launch:
    """The product of a doubled video, or the pass before it, that activates."""
    x = meta(1, layer.channels, *layer.size, dtype=dtype)
    x = x.contiguous(memory_format=torch.channels_last_3d)
    problem = doubled.Problem(
        channels=layer.channels, out_channels=layer.out_channels, half_precision=dtype.itemsize == 2
    )
    config = doubled.pick(problem, capability)
    d = upsample.new_differences(x, config)
    if step == "difference":
        return upsample.plan_difference(x, d, zeros=True, silu=True)
    slabs = 48 if layer.scale[0] == 2 else 36
    u = meta(slabs, *config.padded(layer.channels, layer.out_channels), dtype=dtype)
    y = meta(1, *layer.out_size, layer.out_channels, dtype=dtype)
    bias = meta(layer.out_channels, dtype=dtype)
    return upsample.plan_product(
        x, d, u, bias, y, layer.scale, config, zeros=True, shortcut=layer.shortcut
    )


def plan_gradient(
    of: str, layer: Layer, capability: int, *, dtype: torch.dtype = torch.bfloat16
) -> Launch:
    """The gradient of the activated input with its shortcut, or of the weight."""
    meeting = geometry(KERNEL, layer.stride, layer.scale)
    x = meta(1, *layer.size, layer.channels, dtype=dtype)
    dy = meta(1, *layer.out_size, layer.out_channels, dtype=dtype)
    problem = of_weight.problem_of(x, dy, meeting)
    if of == "input":
        taps = meta(problem.taps, layer.out_channels, layer.channels, dtype=dtype)
        ring = of_input.new_ring(x.shape, meeting, x)
        return of_input.plan_input_gradient(
            dy, taps, x, ring, meeting, pick_input(problem, capability),
            activated=x, shortcut=layer.shortcut,
        )  # fmt: skip
    config = pick_weight(problem, capability, NUM_MULTIPROCESSORS[capability])
    partial = of_weight.new_partial(x, dy, meeting, config)
    return of_weight.plan_weight_gradient(x, dy, partial, meeting, config)
