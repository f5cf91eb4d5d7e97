"""Suite: the same video through the 4x8x8 and the 4x32x32 latent, side by side.

Four times fewer tokens make the transformer cheaper and the autoencoder's share larger. What that
is worth is measured three ways: the tiny pair from noise to pixels, one double and one single block
of the released width at a scaled number of tokens, and operations counted for the whole.
"""

from __future__ import annotations

import argparse
import functools
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn

from opensora_fast.models import HunyuanVAE, MMDiT, MMDiTConfig, VideoDCAE
from opensora_fast.models.presets import SystemConfig, preset
from opensora_fast.models.sampling import Guidance, denoise, get_schedule, prepare_condition
from opensora_fast.plan import Plan, plan, sampling_of

from .arguments import device_of, positive
from .case import DTYPES
from .draw import drawn_weights, filled, shapes_of
from .mmdit import BLOCKS, model_inputs
from .tables import Results, Row
from .timing import Budget, interleave
from .worker import clock_of

LOW, HIGH = "4x8x8", "4x32x32"
PAIR = {LOW: "tiny", HIGH: "tiny-hc"}
RELEASED = {LOW: "open-sora-v2-t2v", HIGH: "open-sora-v2-hc"}
NUM_TXT = 72
_SEED = 5
# Of the released sizes: 768 x 768 pixels, 129 and 128 frames, 76 032 and 18 432 tokens.
_FULL = {"height": 768, "width": 768}
# The same shapes with 1/16 of the tokens.
_SCALED = {LOW: (33, 24, 24), HIGH: (32, 6, 6)}
_SCALED_TXT = 32
NOTES = (
    "Seconds: medians of interleaved runs with random weights; speed does not depend on them.",
    "The original says of its 4x32x32 model: 5.2 times the training throughput, 10 times faster"
    " inference (hardware and sizes not given in full).",
    "Blocks: one double and one single of the released width at 1/16 of the tokens of 768x768"
    " pixels, so that attention weighs 16 times less than it does in the whole.",
    "Operations: of the direct algorithms, for 768x768 pixels and 129 or 128 frames, 50 steps.",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Path:
    """One of the two systems, with random weights."""

    vae: HunyuanVAE | VideoDCAE
    transformer: MMDiT
    latent: tuple[int, ...]
    num_frames: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the suite's arguments."""
    parser.add_argument("--frames", type=positive, default=16, help="default: %(default)s")
    parser.add_argument(
        "--size", type=positive, default=128, metavar="PIXELS", help="edge (default: %(default)s)"
    )
    parser.add_argument("--steps", type=positive, default=25, help="default: %(default)s")
    parser.add_argument("--repeat", type=positive, default=5, help="rounds (default: %(default)s)")
    parser.add_argument("--dtype", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda[:n]")
    parser.add_argument(
        "--pair-only", action="store_true", help="leave the blocks of the released width out"
    )


def run(arguments: argparse.Namespace, console: Console) -> Results:
    """Measure both paths.

    Args:
        arguments: see `add_arguments`.
        console: shows the progress.

    Returns:
        A row for each quantity, with the ratio of the two.

    Raises:
        ValueError: a size that one of the two does not accept, or an unknown device.
    """
    device = torch.device(device_of(arguments.device))
    dtype = DTYPES[arguments.dtype]
    budget = Budget(rounds=arguments.repeat, seconds=0.0)
    size = (arguments.frames, arguments.size, arguments.size)
    console.print("the tiny pair", highlight=False)
    rows = _pair(size, arguments.steps, device, dtype, budget)
    if not arguments.pair_only:
        console.print("blocks of the released width", highlight=False)
        rows += _blocks(device, dtype, budget)
    rows += _operations()
    return Results(
        title="High compression: the same video through both latents",
        device=device,
        settings={
            "frames": arguments.frames,
            "size": arguments.size,
            "steps": arguments.steps,
            "dtype": arguments.dtype,
            "repeat": arguments.repeat,
        },
        rows=rows,
        notes=NOTES,
    )


def failures(rows: Any) -> list[str]:
    """Nothing here can fail: what is run is judged by other suites."""
    return []


def _row(name: str, low: float, high: float, original: str | None = None) -> Row:
    return {"": name, LOW: low, HIGH: high, "ratio": low / high, "original": original}


@torch.inference_mode()
def _pair(
    size: tuple[int, int, int],
    steps: int,
    device: torch.device,
    dtype: torch.dtype,
    budget: Budget,
) -> list[Row]:
    paths = {name: _path(preset(model), size, device, dtype) for name, model in PAIR.items()}
    latents: dict[str, Tensor] = {}

    def sample(name: str) -> Callable[[], Any]:
        def call() -> None:
            latents[name] = _sampled(paths[name], steps, device, dtype)

        return call

    clock = clock_of(str(device))
    denoising = _medians({name: sample(name) for name in paths}, clock, budget)
    decodes = {
        name: functools.partial(path.vae.decode, latents[name]) for name, path in paths.items()
    }
    decoding = _medians(decodes, clock, budget)
    for name, path in paths.items():
        video = path.vae.decode(latents[name])
        assert video.shape[2:] == (path.num_frames, *size[1:])
        assert bool(video.isfinite().all())
    tokens = {
        name: path.latent[1]
        * path.latent[2]
        * path.latent[3]
        // path.transformer.config.patch_size**2
        for name, path in paths.items()
    }
    whole = {name: denoising[name] + decoding[name] for name in paths}
    return [
        _row("tiny pair: tokens", tokens[LOW], tokens[HIGH]),
        _row("tiny pair: denoise, s", denoising[LOW], denoising[HIGH]),
        _row("tiny pair: decode, s", decoding[LOW], decoding[HIGH]),
        _row("tiny pair: both, s", whole[LOW], whole[HIGH], "10"),
    ]


def _path(
    system: SystemConfig, size: tuple[int, int, int], device: torch.device, dtype: torch.dtype
) -> Path:
    with torch.device("meta"):
        vae = system.build_vae()
        transformer = MMDiT(system.transformer)
    frames = vae.frame_grid.at_least(size[0])
    multiple = vae.spatial_compression_ratio * system.transformer.patch_size
    if size[1] % multiple:
        raise ValueError(f"size must be a multiple of {multiple} pixels, got {size[1]}")
    return Path(
        vae=_with_weights(vae, device, dtype),
        transformer=_with_weights(transformer, device, dtype),
        latent=(vae.z_channels, *vae.latent_size(frames, *size[1:])),
        num_frames=frames,
    )


def _with_weights(module: nn.Module, device: torch.device, dtype: torch.dtype) -> Any:
    shapes = shapes_of(module)
    return filled(module, drawn_weights(shapes, device=str(device), dtype=dtype, seed=_SEED))


def _sampled(path: Path, steps: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    config = path.transformer.config
    generator = torch.Generator().manual_seed(_SEED)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(device, dtype)

    z = draw(1, *path.latent)
    masks, masked_ref = prepare_condition(z, "t2v")
    rows, columns = path.latent[2:]
    return denoise(
        path.transformer,
        z,
        txt=draw(1, NUM_TXT, config.context_in_dim),
        y_vec=draw(1, config.vec_in_dim),
        neg_txt=draw(1, NUM_TXT, config.context_in_dim),
        neg_y_vec=draw(1, config.vec_in_dim),
        masks=masks,
        masked_ref=masked_ref,
        timesteps=get_schedule(steps, rows * columns // config.patch_size**2, path.latent[1]),
        guidance=Guidance(),
        patch_size=config.patch_size,
    )


@torch.inference_mode()
def _blocks(device: torch.device, dtype: torch.dtype, budget: Budget) -> list[Row]:
    high = MMDiTConfig(
        in_channels=128, patch_size=1, depth=1, depth_single_blocks=1, cond_embed=False
    )
    configs = {LOW: BLOCKS, HIGH: high}
    runs, tokens = {}, {}
    for name, config in configs.items():
        with torch.device("meta"):
            skeleton = MMDiT(config)
        model = _with_weights(skeleton, device, dtype)
        # On a GPU the true number of tokens, on a CPU a sixteenth of it.
        frames, *edges = _SCALED[name]
        edge = edges[0] * (4 if device.type == "cuda" else 1)
        text = _SCALED_TXT * (16 if device.type == "cuda" else 1)
        args = model_inputs(
            config, (frames, edge, edge), batch=1, device=str(device), dtype=dtype, seed=_SEED,
            num_txt=text,
        )  # fmt: skip
        tokens[name] = args[0].shape[1]
        runs[name] = functools.partial(model, *args)
    seconds = _medians(runs, clock_of(str(device)), budget)
    return [
        _row("blocks: tokens", tokens[LOW], tokens[HIGH]),
        _row("blocks: forward, s", seconds[LOW], seconds[HIGH], "5.2"),
    ]


def _operations() -> list[Row]:
    plans: dict[str, Plan] = {
        name: plan(model, sampling_of(model, dict(_FULL))) for name, model in RELEASED.items()
    }
    low, high = plans[LOW], plans[HIGH]
    stages = {
        name: {stage: found.flops / 1e12 for stage, found in one.stages.items()}
        for name, one in plans.items()
    }
    whole = {name: sum(found.values()) for name, found in stages.items()}
    return [
        _row("768px: tokens", low.tokens[0], high.tokens[0]),
        _row("768px: denoise, TFLOP", stages[LOW]["denoise"], stages[HIGH]["denoise"]),
        _row("768px: decode, TFLOP", stages[LOW]["decode"], stages[HIGH]["decode"]),
        _row("768px: both, TFLOP", whole[LOW], whole[HIGH], "10"),
    ]


def _medians(runs: Mapping[str, Callable[[], Any]], clock: Any, budget: Budget) -> dict[str, float]:
    samples = interleave(runs, clock, budget)
    return {name: statistics.median(found) for name, found in samples.items()}
