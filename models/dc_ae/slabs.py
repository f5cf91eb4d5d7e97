"""The Video DC-AE within a bound on memory: exact, with its convolutional stages in slabs of rows.

Stages of residual blocks see a few pixels around each output; they hold 94 % of the operations and
nearly all of the memory, and go through `models.slabs`. Stages of linear attention need every
position at once; at 1/8 of the resolution and below they are small, and run whole. So do stages in
between where the budget has room for them: slabs of a few rows of many channels are slow.
"""

from __future__ import annotations

import functools
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from opensora_fast.kernels import pixel_unshuffle_average3d

from ..slabs import (
    LAYOUT,
    Slabs,
    Step,
    Window,
    collected,
    doubling,
    in_slabs,
    neighbours,
    pieces,
    pointwise,
)
from .blocks import Decoder, Downsample, Encoder, ResBlock, Upsample, layers_of
from .config import RES_BLOCK, VideoDCAEConfig

Task = Literal["encode", "decode"]


def num_slab_stages(config: VideoDCAEConfig) -> int:
    """Stages, counted from the pixels, that can go in slabs: those before the first attention."""
    kinds = config.block_types
    return next((i for i, kind in enumerate(kinds) if kind != RES_BLOCK), len(kinds))


class Cut(NamedTuple):
    """Which stages go in slabs, and how high these are.

    Args:
        stages: so many, counted from the pixels, up to `num_slab_stages`.
        rows: of what comes in there: pixels to encode, what stage `stages` made to decode.
    """

    stages: int
    rows: int


def height_cut(config: VideoDCAEConfig, task: Task, height: int, stages: int) -> int:
    """Rows that there are to cut, of a video to encode or a latent to decode of `height` rows."""
    if task == "encode":
        return height
    return (height << (config.num_stages - 1)) // _space_factor(config, stages)


def extra_work(config: VideoDCAEConfig, task: Task, cut: Cut) -> float:
    """About how much more work slabs are than the whole, as a part of the cut stages' work.

    Rows are copied to lie next to their neighbours, and convolutions of few rows compute some that
    are not there and read their weights once more; from times on two cores.
    """
    widths, depths = config.decoder_widths, config.decoder_depths
    if task == "encode":
        widths, depths = config.encoder_widths, config.encoder_depths
    total, frames = 0.0, 1.0
    for i in range(cut.stages):
        scale = _space_factor(config, i)
        rows = cut.rows / scale
        if task == "decode":
            rows = cut.rows * _space_factor(config, cut.stages) / scale
        total += depths[i] * widths[i] ** 2 / scale**2 * frames * (0.05 + 2 / rows)
        frames /= 1 + config.temporal_downsample[i]
    return total


def encode_in_slabs(encoder: Encoder, config: VideoDCAEConfig, x: Tensor, cut: Cut) -> Tensor:
    """Encode x `[B, in_channels, T, H, W]` with its first stages in slabs; see `Encoder`."""
    count, rows = cut
    conv = functools.partial(encoder.project_in, pad_rows=False)
    steps: list[Step] = [functools.partial(neighbours, layer=conv)]
    limit = rows
    for stage in encoder.stages[:count]:
        for module in layers_of(stage):
            if isinstance(module, ResBlock):
                steps.append(functools.partial(_residual, block=module, limit=limit))
            else:
                assert isinstance(module, Downsample)
                steps.append(functools.partial(_downsample, module=module))
                limit = max(limit // 2, 1)
    factor = _space_factor(config, count)
    channels = config.encoder_widths[min(count, config.num_stages - 1)]
    frames = x.shape[2]
    for temporal in config.temporal_downsample[:count]:
        frames = frames // 2 if temporal and frames > 1 else frames
    shape = (x.shape[0], channels, frames, x.shape[3] // factor, x.shape[4] // factor)
    return encoder.from_stage(collected(in_slabs(x, rows, steps), shape, x, LAYOUT), count)


def decode_in_slabs(decoder: Decoder, config: VideoDCAEConfig, z: Tensor, cut: Cut) -> Tensor:
    """Decode z `[B, latent_channels, t, h, w]` with its last stages in slabs; see `Decoder`."""
    count, rows = cut
    h = decoder.until_stage(z, count)
    steps: list[Step] = []
    limit = rows
    for stage in reversed(decoder.stages[:count]):
        for module in layers_of(stage):
            if isinstance(module, ResBlock):
                steps.append(functools.partial(_residual, block=module, limit=limit))
            else:
                assert isinstance(module, Upsample)
                steps.append(functools.partial(_upsample, module=module, limit=limit))
                limit *= 2
    norm, _, conv = decoder.project_out.op_list
    steps += [
        functools.partial(pointwise, function=functools.partial(norm, activation="relu")),
        functools.partial(neighbours, layer=functools.partial(conv, pad_rows=False)),
    ]
    factor, frames = _space_factor(config, count), h.shape[2]
    if frames > 1:
        frames *= 2 ** sum(config.temporal_downsample[:count])
    shape = (z.shape[0], config.in_channels, frames, h.shape[3] * factor, h.shape[4] * factor)
    return collected(in_slabs(h, rows, steps), shape, h, torch.contiguous_format)


def _space_factor(config: VideoDCAEConfig, count: int) -> int:
    """How much larger pixels are than what leaves the first `count` stages of the encoder."""
    return int(2 ** min(count, config.num_stages - 1))


def _residual(slabs: Slabs, block: ResBlock, limit: int) -> Slabs:
    """Run a residual block: one window of x serves the first convolution and the shortcut."""
    of_x, of_h = Window(), Window()
    done = 0
    conv1, conv2 = block.main.conv1, block.main.conv2
    for slab, last in pieces(slabs, limit):
        x = of_x.joined(slab, last)
        del slab
        if x is None:
            continue
        h = of_h.joined(conv1(x, pad_rows=False), last)
        if h is None:
            continue
        y = conv2(h, silu=True, pad_rows=False)
        del h
        start, count = done - of_x.first, y.shape[3]
        done += count
        # A norm would copy rows that do not lie side by side, unseen by whoever counts.
        shortcut = x[:, :, :, start : start + count].contiguous(memory_format=LAYOUT)
        del x
        handed = [conv2.normed(y, shortcut)]
        del shortcut, y
        yield handed.pop(), last


def _downsample(slabs: Slabs, module: Downsample) -> Slabs:
    def layer(rows: Tensor) -> Tensor:
        factors = module.factors(rows)
        y = module.main(rows, stride=factors, pad_rows=False)
        pairs = rows[:, :, :, 1 : 1 + 2 * y.shape[3]]
        return pixel_unshuffle_average3d(pairs, y.shape[1], factors, added=y)

    return neighbours(slabs, layer, stride=2)


def _upsample(slabs: Slabs, module: Upsample, limit: int) -> Slabs:
    return doubling(pieces(slabs, limit), module)
