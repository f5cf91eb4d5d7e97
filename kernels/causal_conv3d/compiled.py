"""The launches of causal_conv3d, to be compiled without a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from ..common.catalogue import Compiled, meta
from ..common.launch import Launch
from . import _triton, _triton_weights
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
    """Every form that the released layers take, and fp32."""
    matrix, boxes = "wgmma.mma_async", "cp.async.bulk.tensor"
    hopper = (matrix, boxes) if capability == 90 else ()
    for name, layer in (("128", LAST), ("512", MIDDLE), ("1x1x1", SHORTCUT), ("to-3", TO_PIXELS)):
        yield Compiled(
            name=f"plane.{name}", launch=plan(layer, capability, "given"), promises=hopper
        )
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
        launch = plan_border(LAST, zeros=zeros)
        yield Compiled(name=f"border.zeros={zeros}", launch=launch, promises=("ld.global.v4",))
    for stale in (False, True):
        yield Compiled(name=f"pack.stale={stale}", launch=plan_pack(MIDDLE, stale))


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
        return _triton.plan_gather(
            x, packed, bias, y, layer.kernel, layer.stride, border, config, zeros
        )
    video = bordered(layer, dtype)
    return _triton.plan_plane(
        video,
        packed,
        bias,
        y if residual else None,
        y,
        layer.kernel,
        config,
        front=border[0][0],
        zeros=zeros,
        partial=_triton.new_partial(video, y, config) if statistics else None,
    )


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


def plan_border(layer: Layer, *, zeros: bool) -> Launch:
    """The launch of the copy that writes the border."""
    x = meta(1, *layer.size, layer.channels)
    border = padding(layer.kernel, "replicate")
    return _triton.plan_border(x, bordered(layer, x.dtype), border, zeros)


def plan_pack(layer: Layer, stale: bool) -> Launch:
    """The launch that packs a weight for Hopper."""
    config = pick(problem(layer, "given", torch.bfloat16), 90)
    packed = packed_for(layer, config, torch.bfloat16)
    kt, kh, kw = layer.kernel
    taps = meta(layer.out_channels, layer.channels, kt * kh * kw)
    return _triton_weights.plan_pack(taps, packed, layer.channels, stale=stale)
