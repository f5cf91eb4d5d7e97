"""The launches of causal_conv3d, to be compiled without a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from ..common.catalogue import Compiled, meta
from ..common.launch import Launch
from . import compiled_backward
from ._triton_border import plan_border
from ._triton_columns import columns_weight, frames_at_once, new_z, plan_sum_columns
from ._triton_gather import plan_gather
from ._triton_plane import new_partial, plan_plane
from ._triton_weights import plan_pack
from .launch import Config, Plane, Problem, pick
from .reference import output_shape, padding


@dataclass(frozen=True, kw_only=True, slots=True)
class Layer:
    """A layer of the released autoencoder: x is [1, channels, *size]."""

    channels: int
    out_channels: int
    size: tuple[int, int, int]
    kernel: tuple[int, int, int] = (3, 3, 3)
    stride: tuple[int, int, int] = (1, 1, 1)


LAST = Layer(channels=128, out_channels=128, size=(129, 768, 768))
MIDDLE = Layer(channels=512, out_channels=512, size=(33, 96, 96))
SHORTCUT = Layer(channels=256, out_channels=128, size=(129, 768, 768), kernel=(1, 1, 1))
TO_PIXELS = Layer(channels=128, out_channels=3, size=(129, 768, 768))
FROM_PIXELS = Layer(channels=3, out_channels=128, size=(129, 768, 768))
DOWN = Layer(channels=256, out_channels=256, size=(129, 384, 384), stride=(2, 2, 2))


def launches(capability: int) -> Iterator[Compiled]:
    """Every form that the released layers take, and fp32; then the backward's."""
    matrix, boxes = "wgmma.mma_async", "cp.async.bulk.tensor"
    hopper = (matrix, boxes) if capability == 90 else ()
    for name, layer in (("128", LAST), ("512", MIDDLE), ("1x1x1", SHORTCUT)):
        yield Compiled(
            name=f"plane.{name}", launch=plan(layer, capability, "given"), promises=hopper
        )
    product, total = plan_columns(TO_PIXELS, capability)
    yield Compiled(name="columns.to-3", launch=product, promises=hopper)
    yield Compiled(name="columns.to-3.sum", launch=total)
    gathered = (matrix,) if capability == 90 else ()
    for name, layer in (("gather.down", DOWN), ("joint.from-3", FROM_PIXELS)):
        yield Compiled(name=name, launch=plan(layer, capability, "none"), promises=gathered)
    forms: tuple[tuple[str, Layer, Plane], ...] = (
        ("plane", LAST, "given"),
        ("gather", DOWN, "none"),
        ("joint", FROM_PIXELS, "none"),
    )
    for name, layer, plane in forms:
        launch = plan(layer, capability, plane, dtype=torch.float32)
        yield Compiled(name=f"{name}.fp32", launch=launch)
        launch = plan(layer, capability, plane, zeros=True)
        yield Compiled(name=f"{name}.zeros", launch=launch)
    for zeros in (False, True):
        launch = plan_copy(LAST, zeros=zeros)
        yield Compiled(name=f"border.zeros={zeros}", launch=launch, promises=("ld.global.v4",))
    for stale in (False, True):
        yield Compiled(name=f"pack.stale={stale}", launch=plan_packing(MIDDLE, stale))
    yield from compiled_backward.launches(capability)


def plan(
    layer: Layer,
    capability: int,
    plane: Plane,
    *,
    dtype: torch.dtype = torch.bfloat16,
    residual: bool = False,
    statistics: bool = False,
    zeros: bool = False,
) -> Launch:
    """The launch for a layer, on a plane (border written) or on the video itself."""
    question = replace(problem(layer, plane, dtype), statistics=statistics)
    config = pick(question, capability)
    x = meta(1, *layer.size, layer.channels, dtype=dtype)
    weight = (layer.out_channels, layer.channels, *layer.kernel)
    shape = output_shape((1, layer.channels, *layer.size), weight, layer.stride, "replicate")
    y = meta(1, *shape[2:], layer.out_channels, dtype=dtype)
    bias = meta(layer.out_channels, dtype=dtype)
    packed = packed_for(layer, config, dtype)
    border = padding(layer.kernel, "replicate")
    if config.form != "plane":
        return plan_gather(x, packed, bias, y, layer.kernel, layer.stride, border, config, zeros)
    video = bordered(layer, dtype)
    return plan_plane(
        video,
        packed,
        bias,
        y if residual else None,
        y,
        layer.kernel,
        config,
        front=border[0][0],
        zeros=zeros,
        partial=new_partial(video, y, config) if statistics else None,
    )


def plan_columns(layer: Layer, capability: int) -> tuple[Launch, Launch]:
    """The launches for a layer to few channels: columns of as many frames as fit, and their sum."""
    config = pick(problem(layer, "given", torch.bfloat16), capability)
    assert config.form == "columns"
    kt, kh, kw = layer.kernel
    spread = columns_weight(meta(layer.out_channels, layer.channels, kt, kh, kw))
    video = bordered(layer, torch.bfloat16)
    height, columns, front = layer.size[1], spread.shape[0], kt - 1
    step = frames_at_once(video, height, columns, front)
    video = video[:, : step + front]
    z = new_z(video, step + front, height, columns)
    packed = meta(*config.packed_shape(layer.channels, columns, kh)[:2])
    product = plan_plane(video, packed, None, None, z, (1, kh, 1), config, front=0)
    y = meta(*layer.size, layer.out_channels)
    frames = (step, 2 * step)
    bias = meta(layer.out_channels)
    total = plan_sum_columns(
        z[0], bias, None, y, layer.kernel, frames, step - front, front, zeros=False
    )
    return product, total


def problem(layer: Layer, plane: Plane, dtype: torch.dtype) -> Problem:
    """What the choice depends on."""
    return Problem(
        channels=layer.channels,
        out_channels=layer.out_channels,
        kernel=layer.kernel,
        half_precision=dtype.itemsize == 2,
        aligned=layer.channels * dtype.itemsize % 16 == 0,
        plane=plane,
    )


def bordered(layer: Layer, dtype: torch.dtype) -> torch.Tensor:
    """The video with its border, as the plane form reads it."""
    frames, height, width = layer.size
    _, rows, columns = layer.kernel
    return meta(1, frames, height + rows - 1, width + columns - 1, layer.channels, dtype=dtype)


def packed_for(layer: Layer, config: Config, dtype: torch.dtype) -> torch.Tensor:
    """The packed weight."""
    kt, kh, kw = layer.kernel
    shape = config.packed_shape(layer.channels, layer.out_channels, kt * kh * kw)
    return meta(*shape[:2], dtype=dtype)


def plan_copy(layer: Layer, *, zeros: bool) -> Launch:
    """The launch of the copy that writes the border."""
    x = meta(1, *layer.size, layer.channels)
    border = padding(layer.kernel, "replicate")
    return plan_border(x, bordered(layer, x.dtype), border, zeros)


def plan_packing(layer: Layer, stale: bool) -> Launch:
    """The launch that packs a weight for Hopper."""
    config = pick(problem(layer, "given", torch.bfloat16), 90)
    packed = packed_for(layer, config, torch.bfloat16)
    kt, kh, kw = layer.kernel
    taps = meta(layer.out_channels, layer.channels, kt * kh * kw)
    return plan_pack(taps, packed, layer.channels, stale=stale)
