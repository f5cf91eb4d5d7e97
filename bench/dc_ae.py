"""Cases of the Video DC-AE at its full width, against the same network in plain torch."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from opensora_fast.kernels.counting import count_flops
from opensora_fast.kernels.footprint import peak_bytes
from opensora_fast.kernels.registry import use_backend
from opensora_fast.models import VideoDCAE, VideoDCAEConfig

from .case import OURS, Bind, Case, Problem, calling, calling_channels_last, wide_name, widened
from .draw import channels_last, drawn_weights, filled, shapes_of
from .plain_dc_ae import PlainDCAE

SUITE = "vae-dcae"
EAGER, CHANNELS_LAST, QUARTER = "eager", "eager-channels-last", "ours-quarter-memory"
# Frames, rows, columns; scale. 32 frames of 256 x 256 are one of the original's tiles.
SIZES = (
    ((4, 16, 16), "smoke"),
    ((8, 256, 256), "cpu"),
    ((32, 256, 256), "full"),
    ((128, 768, 768), "full"),
)
SMOKE = VideoDCAEConfig(
    latent_channels=8,
    encoder_widths=(8, 16, 32),
    encoder_depths=(1, 1, 1),
    decoder_widths=(8, 16, 32),
    decoder_depths=(1, 1, 1),
    block_types=("ResBlock", "ResBlock", "EViTS5_GLU"),
    temporal_downsample=(False, True, False),
)
_WEIGHTS_SEED = 7


def dc_ae_cases(device: str, dtypes: Sequence[str]) -> list[Case]:
    """Decoding and encoding at every size."""
    return [
        Case(
            suite=SUITE,
            name=f"{task}-{'x'.join(map(str, size))}",
            dtype=dtype,
            device=device,
            scale=scale,
            contenders=(OURS, EAGER, CHANNELS_LAST, QUARTER),
            load=load,
            parameters={"task": task, "size": size, "smoke": scale == "smoke"},
        )
        for size, scale in SIZES
        for task in ("decode", "encode")
        for dtype in dtypes
    ]


def load(case: Case) -> Problem:
    """Build the problem of a case."""
    config = SMOKE if case.parameters["smoke"] else VideoDCAEConfig()
    task, dtype, device = case.parameters["task"], case.torch_dtype, case.device
    with torch.device("meta"):
        skeleton = VideoDCAE(config).to(dtype)
    num_frames, height, width = case.parameters["size"]
    shapes = shapes_of(skeleton)
    latent = (1, config.latent_channels, *skeleton.latent_size(num_frames, height, width))
    video = (1, config.in_channels, num_frames, height, width)
    shape = latent if task == "decode" else video
    meta = torch.empty(shape, dtype=dtype, device="meta")

    @functools.cache
    def weights() -> dict[str, Tensor]:
        return drawn_weights(shapes, device=device, dtype=dtype, seed=_WEIGHTS_SEED)

    def inputs(seed: int) -> tuple[Tensor, ...]:
        drawn = torch.randn(shape, generator=torch.Generator("cpu").manual_seed(seed))
        drawn = drawn if task == "decode" else drawn.clamp_(-1, 1)
        return (drawn.to(device=device, dtype=dtype),)

    def oracle(x: Tensor) -> Tensor:
        wide = {name: widened(value, case.dtype) for name, value in weights().items()}
        # Torch would unfold 27 copies of an fp64 video; the definition takes one tap at a time.
        with use_backend("reference"):
            y: Tensor = getattr(_ours(config, wide), task)(widened(x, case.dtype))
        return y

    def quarter() -> Bind:
        budget = peak_bytes(lambda: getattr(skeleton, task)(meta)) // 4
        run = getattr(_ours(config, weights()), task)
        return calling(functools.partial(run, memory_budget=budget))()

    used = skeleton.decoder if task == "decode" else skeleton.encoder
    elements = sum(value.numel() for value in used.parameters())
    elements += torch.Size(latent).numel() + torch.Size(video).numel()
    return Problem(
        inputs=inputs,
        make={
            OURS: lambda: calling(getattr(_ours(config, weights()), task))(),
            EAGER: lambda: calling(_plain(config, weights(), task))(),
            CHANNELS_LAST: lambda: calling_channels_last(
                _plain(config, channels_last(weights()), task)
            ),
            QUARTER: quarter,
        },
        oracle=oracle,
        oracle_dtype=wide_name(case.dtype),
        flops=count_flops(lambda: getattr(skeleton, task)(meta)),
        bytes=dtype.itemsize * elements,
    )


def _ours(config: VideoDCAEConfig, weights: dict[str, Tensor]) -> VideoDCAE:
    with torch.device("meta"):
        model: nn.Module = VideoDCAE(config)
    model = filled(model, weights)
    assert isinstance(model, VideoDCAE)
    return model


def _plain(
    config: VideoDCAEConfig, weights: dict[str, Tensor], task: str
) -> Callable[[Tensor], Tensor]:
    run: Callable[[Tensor], Tensor] = getattr(PlainDCAE(config, weights), task)
    return run
