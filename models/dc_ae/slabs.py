"""The Video DC-AE within a bound on memory: exact, with its convolutional stages in slabs of rows.

Stages of residual blocks see a few pixels around each output; they hold 94 % of the operations and
nearly all of the memory, and go through `models.slabs`. Stages of linear attention need every
position at once; at 1/8 of the resolution and below they are small, and run whole.
"""

from __future__ import annotations

import torch
from torch import Tensor

from opensora_fast.kernels import pixel_unshuffle_average3d

from ..slabs import (
    LAYOUT,
    Added,
    Layer,
    Neighbours,
    Pointwise,
    Step,
    Strided,
    collected,
    in_slabs,
)
from .blocks import ConvLayer, Decoder, Downsample, Encoder, ResBlock, Stage, Upsample
from .config import RES_BLOCK, VideoDCAEConfig


def num_slab_stages(config: VideoDCAEConfig) -> int:
    """Stages, counted from the pixels, that can go in slabs: those before the first attention."""
    kinds = config.block_types
    return next((i for i, kind in enumerate(kinds) if kind != RES_BLOCK), len(kinds))


def encode_in_slabs(encoder: Encoder, config: VideoDCAEConfig, x: Tensor, rows: int) -> Tensor:
    """Encode x `[B, in_channels, T, H, W]` in slabs of pixel rows; see `Encoder`."""
    count = num_slab_stages(config)
    steps: list[Step] = [Neighbours(_plain(encoder.project_in))]
    for stage in encoder.stages[:count]:
        steps += _steps(stage)
    factor = _space_factor(config, count)
    channels = config.encoder_widths[min(count, config.num_stages - 1)]
    frames = x.shape[2]
    for temporal in config.temporal_downsample[:count]:
        frames = frames // 2 if temporal and frames > 1 else frames
    shape = (x.shape[0], channels, frames, x.shape[3] // factor, x.shape[4] // factor)
    return encoder.from_stage(collected(in_slabs(x, rows, steps), shape, x, LAYOUT), count)


def decode_in_slabs(decoder: Decoder, config: VideoDCAEConfig, z: Tensor, rows: int) -> Tensor:
    """Decode z `[B, latent_channels, t, h, w]` in slabs of rows of the last attention stage."""
    count = num_slab_stages(config)
    h = decoder.until_stage(z, count)
    steps: list[Step] = []
    for stage in reversed(decoder.stages[:count]):
        steps += _steps(stage)
    norm, _, conv = decoder.project_out.op_list
    steps += [Pointwise(lambda slab: norm(slab, activation="relu")), Neighbours(_plain(conv))]
    factor, frames = _space_factor(config, count), h.shape[2]
    if frames > 1:
        frames *= 2 ** sum(config.temporal_downsample[:count])
    shape = (z.shape[0], config.in_channels, frames, h.shape[3] * factor, h.shape[4] * factor)
    return collected(in_slabs(h, rows, steps), shape, h, torch.contiguous_format)


def _space_factor(config: VideoDCAEConfig, count: int) -> int:
    """How much larger pixels are than what leaves the first `count` stages of the encoder."""
    return int(2 ** min(count, config.num_stages - 1))


def _steps(stage: Stage) -> list[Step]:
    steps: list[Step] = []
    for module in stage.op_list:
        if isinstance(module, ResBlock):
            convolutions = [
                Neighbours(_plain(module.main["conv1"])),
                Neighbours(_plain(module.main["conv2"], silu=True)),
            ]
            steps.append(Added(convolutions, module.normalised))
        elif isinstance(module, Downsample):
            steps.append(Strided(_downsampling(module)))
        else:
            assert isinstance(module, Upsample)
            steps.append(Neighbours(_upsampling(module)))
    return steps


def _plain(conv: ConvLayer, silu: bool = False) -> Layer:
    def layer(rows: Tensor, top: bool, bottom: bool) -> Tensor:
        if top and bottom:
            return conv(rows, silu=silu)
        # At the border the zeros are written out: the kernel then treats all slabs alike.
        return conv(_with_zeros(rows, top, bottom), silu=silu, pad_rows=False)

    return layer


def _downsampling(module: Downsample) -> Layer:
    def layer(rows: Tensor, top: bool, bottom: bool) -> Tensor:
        if top:
            return module(rows)
        y = module.main(rows, stride=module.factors(rows), pad_rows=False)
        return pixel_unshuffle_average3d(
            rows[:, :, :, 1:], y.shape[1], module.factors(rows), added=y
        )

    return layer


def _upsampling(module: Upsample) -> Layer:
    def layer(rows: Tensor, top: bool, bottom: bool) -> Tensor:
        # The rows of the neighbours are made too, and dropped: two of many, of the cheapest layer.
        y = module(rows)
        count = y.shape[3]
        kept = y[:, :, :, 0 if top else 2 : count if bottom else count - 2]
        return kept.contiguous(memory_format=LAYOUT)

    return layer


def _with_zeros(rows: Tensor, top: bool, bottom: bool) -> Tensor:
    if not (top or bottom):
        return rows
    zeros = rows.new_zeros(*rows.shape[:3], 1, rows.shape[4])
    parts = [*([zeros] if top else []), rows, *([zeros] if bottom else [])]
    return torch.cat(parts, dim=3).contiguous(memory_format=LAYOUT)
