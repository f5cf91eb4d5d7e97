"""Cases of the HunyuanVAE at its full width, against diffusers' port with the same weights."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from opensora_fast.kernels.counting import count_flops
from opensora_fast.kernels.registry import use_backend
from opensora_fast.models import HunyuanVAE, HunyuanVAEConfig

from .case import OURS, Bind, Case, Problem, calling, calling_channels_last, wide_name, widened
from .draw import channels_last, drawn_weights, filled, shapes_of

SUITE = "vae-hunyuan"
PEERS = ("diffusers", "diffusers-channels-last", "diffusers-compile")
# Frames, rows, columns; scale. 129 frames in tiles of 256 x 256 are the released model's.
SIZES = (
    ((5, 16, 16), "smoke"),
    ((5, 128, 128), "cpu"),
    ((17, 256, 256), "cpu"),
    ((33, 256, 256), "full"),
    ((129, 256, 256), "full"),
)
SMOKE = HunyuanVAEConfig(block_out_channels=(8, 16, 16, 16), norm_num_groups=4, layers_per_block=1)
_WEIGHTS_SEED = 7


def vae_cases(device: str, dtypes: Sequence[str]) -> list[Case]:
    """Decoding and encoding at every size."""
    return [
        Case(
            suite=SUITE,
            name=f"{task}-{'x'.join(map(str, size))}",
            dtype=dtype,
            device=device,
            scale=scale,
            contenders=(OURS, *PEERS),
            load=load,
            parameters={"task": task, "size": size, "smoke": scale == "smoke"},
        )
        for size, scale in SIZES
        for task in ("decode", "encode")
        for dtype in dtypes
    ]


def load(case: Case) -> Problem:
    """Build the problem of a case."""
    config = SMOKE if case.parameters["smoke"] else HunyuanVAEConfig()
    task, dtype, device = case.parameters["task"], case.torch_dtype, case.device
    num_frames, height, width = case.parameters["size"]
    with torch.device("meta"):
        skeleton = HunyuanVAE(config)
    shapes = shapes_of(skeleton)
    latent = (1, config.latent_channels, *skeleton.latent_size(num_frames, height, width))
    video = (1, config.in_channels, num_frames, height, width)
    shape = latent if task == "decode" else video

    @functools.cache
    def weights() -> dict[str, Tensor]:
        return drawn_weights(shapes, device=device, dtype=dtype, seed=_WEIGHTS_SEED)

    def inputs(seed: int) -> tuple[Tensor, ...]:
        generator = torch.Generator("cpu").manual_seed(seed)
        drawn = torch.randn(shape, generator=generator)
        drawn = drawn if task == "decode" else drawn.clamp_(-1, 1)
        return (drawn.to(device=device, dtype=dtype),)

    def ours() -> Bind:
        return calling(ours_task(_ours(config, weights()), task))()

    def oracle(x: Tensor) -> Tensor:
        wide = {name: widened(value, case.dtype) for name, value in weights().items()}
        with use_backend("reference"):
            return ours_task(_ours(config, wide), task)(widened(x, case.dtype))

    make: dict[str, Callable[[], Bind]] = {OURS: ours}
    for name in PEERS:
        make[name] = functools.partial(_diffusers, name, config, task, weights)
    itemsize = dtype.itemsize
    used = skeleton.decoder if task == "decode" else skeleton.encoder
    parameters = sum(value.numel() for value in used.parameters())
    elements = parameters + torch.Size(latent).numel() + torch.Size(video).numel()
    return Problem(
        inputs=inputs,
        make=make,
        oracle=oracle,
        oracle_dtype=wide_name(case.dtype),
        flops=count_flops(lambda: ours_task(skeleton, task)(torch.empty(shape, device="meta"))),
        bytes=itemsize * elements,
    )


def ours_task(model: HunyuanVAE, task: str) -> Callable[[Tensor], Tensor]:
    """Latent to video, or video to the scaled mean of its latent."""
    if task == "decode":
        return model.decode
    return functools.partial(model.encode, sample_posterior=False)


def diffusers_vae(config: HunyuanVAEConfig, weights: dict[str, Tensor]) -> Any:
    """Diffusers' autoencoder with our weights: its parameters have the same names."""
    import diffusers

    levels = len(config.block_out_channels)
    build: Any = diffusers.AutoencoderKLHunyuanVideo
    with torch.device("meta"):
        model = build(
            in_channels=config.in_channels,
            out_channels=config.out_channels,
            latent_channels=config.latent_channels,
            down_block_types=("HunyuanVideoDownBlock3D",) * levels,
            up_block_types=("HunyuanVideoUpBlock3D",) * levels,
            block_out_channels=config.block_out_channels,
            layers_per_block=config.layers_per_block,
            norm_num_groups=config.norm_num_groups,
            scaling_factor=config.scale_factor,
            spatial_compression_ratio=config.spatial_compression_ratio,
            temporal_compression_ratio=config.time_compression_ratio,
            mid_block_add_attention=config.mid_block_add_attention,
        )
    filled(model, weights)
    # As ours: whole, without tiles in space or time.
    model.use_framewise_encoding = model.use_framewise_decoding = False
    return model


def diffusers_task(model: Any, task: str) -> Callable[[Tensor], Tensor]:
    """The same map as `ours_task`: diffusers leaves the latent's scale to its pipeline."""
    scale = model.config.scaling_factor
    if task == "decode":
        return lambda z: model.decode(z / scale, return_dict=False)[0]
    return lambda x: model.encode(x, return_dict=False)[0].mode() * scale


def _ours(config: HunyuanVAEConfig, weights: dict[str, Tensor]) -> HunyuanVAE:
    with torch.device("meta"):
        model: nn.Module = HunyuanVAE(config)
    model = filled(model, weights)
    assert isinstance(model, HunyuanVAE)
    return model


def _diffusers(
    name: str, config: HunyuanVAEConfig, task: str, weights: Callable[[], dict[str, Tensor]]
) -> Bind:
    is_last = name == "diffusers-channels-last"
    own = channels_last(weights()) if is_last else weights()
    model = diffusers_vae(config, own)
    run = diffusers_task(model, task)
    if name == "diffusers-compile":
        part = "decoder" if task == "decode" else "encoder"
        setattr(model, part, torch.compile(getattr(model, part), dynamic=False))
    return calling_channels_last(run) if is_last else calling(run)()
