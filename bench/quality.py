"""Suite: what a lossy tier, or tiling, changes in a video, against the lossless and the whole."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from opensora_fast.metrics import flicker, psnr, seam, ssim
from opensora_fast.models.configuration import config_to_dict
from opensora_fast.pipeline import VideoPipeline
from opensora_fast.quality import QUALITIES
from opensora_fast.video import to_frames

from .tables import Results, Row

LOSSLESS = "lossless"
PROMPTS = (
    "a large red circle moves to the right on a navy background",
    "a small green square grows on a white background",
)
# Of a tier, against lossless with the same seed: the least that it must keep. What it says of
# itself is docs/numerics.md's.
LEAST_PSNR = {"high": 35.0}
NOTES = (
    "PSNR and SSIM of the frames, cosine and relative L2 of the latents: against lossless (tiers)"
    " or the whole (tiling), same seed. In brackets: of the other.",
    "Seam: the step across the borders of tiles over the step elsewhere; 1 shows none.",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One video and the latent behind it."""

    frames: np.ndarray
    latent: Tensor
    seconds: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the suite's arguments."""
    tiers = [tier for tier in QUALITIES if tier != LOSSLESS]
    parser.add_argument("--model", default="tiny", help="the shipped model, a folder or a hub id")
    parser.add_argument("--tier", nargs="+", choices=tiers, default=tiers, help="default: all")
    parser.add_argument("--steps", type=int, default=None, help="default: the model's own")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda[:n]")
    parser.add_argument(
        "--tiled-size", type=int, default=384, metavar="PIXELS",
        help="edge of the video that is decoded in tiles and whole (default: %(default)s)",
    )  # fmt: skip


def run(arguments: argparse.Namespace, console: Console) -> Results:
    """Sample with every tier, decode in tiles, compare.

    Args:
        arguments: see `add_arguments`.
        console: told what is being done.

    Returns:
        One row per tier and prompt, one for tiling.

    Raises:
        ValueError: the model cannot be loaded, or a number is out of range.
    """

    def load(tier: str) -> VideoPipeline:
        console.print(f"loading {arguments.model} at quality {tier}", highlight=False)
        return VideoPipeline.from_pretrained(arguments.model, device=arguments.device, quality=tier)

    def videos(pipe: VideoPipeline) -> list[Sample]:
        return [_sample(pipe, prompt, arguments) for prompt in PROMPTS]

    pipe = load(LOSSLESS)
    exact = videos(pipe)
    rows: list[Row] = []
    for tier in arguments.tier:
        for prompt, ours, reference in zip(PROMPTS, videos(load(tier)), exact, strict=True):
            rows.append(_compared(tier, prompt, ours, reference, LEAST_PSNR[tier]))
    rows.append(_tiling(pipe, arguments.tiled_size, arguments.seed))
    return Results(
        title=f"quality: {arguments.model}",
        device=pipe.device,
        settings={
            "model": arguments.model,
            "seed": arguments.seed,
            "steps": arguments.steps,
            "sampling": config_to_dict(pipe.defaults),
        },
        rows=rows,
        notes=NOTES,
    )


def failures(rows: Sequence[Row]) -> list[Row]:
    """The rows below what their tier must keep."""
    return [row for row in rows if row.get("verdict") == "below"]


def _sample(pipe: VideoPipeline, prompt: str, arguments: argparse.Namespace) -> Sample:
    keywords = {
        "seed": arguments.seed,
        "num_inference_steps": arguments.steps,
        "progress": False,
    }
    began = time.perf_counter()
    latent = pipe(prompt, output_type="latent", **keywords).frames
    seconds = time.perf_counter() - began
    with torch.inference_mode():
        pixels = pipe.vae.decode(latent[:1].to(pipe.device, pipe.dtype))[0]
    return Sample(frames=to_frames(pixels), latent=latent[0].double().cpu(), seconds=seconds)


def _compared(tier: str, prompt: str, ours: Sample, exact: Sample, least: float) -> Row:
    ratio = psnr(ours.frames, exact.frames)
    a, b = ours.latent.flatten(), exact.latent.flatten()
    return {
        "what": tier,
        "of": prompt,
        "PSNR": ratio,
        "SSIM": ssim(ours.frames, exact.frames),
        "cosine": float(a @ b / (a.norm() * b.norm())),
        "rel_l2": float((a - b).norm() / b.norm()),
        "flicker": f"{flicker(ours.frames):.4f} ({flicker(exact.frames):.4f})",
        "seconds": f"{ours.seconds:.2f} ({exact.seconds:.2f})",
        "verdict": "kept" if ratio >= least else "below",
    }


def _tiling(pipe: VideoPipeline, edge: int, seed: int) -> Row:
    """Decode one latent whole and in tiles."""
    vae = pipe.vae
    space = vae.spatial_compression_ratio
    tile = vae.config.sample_size
    if edge % space or edge <= tile:
        raise ValueError(
            f"quality: --tiled-size must be a multiple of {space} above {tile}, the size of a "
            f"tile, got {edge}"
        )
    size = vae.latent_size(1 + vae.time_compression_ratio, edge, edge)
    generator = torch.Generator().manual_seed(seed)
    # Smooth, as latents of videos are: white noise would hide every seam.
    coarse = torch.randn(1, vae.z_channels, 2, size[1] // 8, size[2] // 8, generator=generator)
    z = torch.nn.functional.interpolate(coarse, size=size, mode="trilinear")
    z = (z / z.std()).to(pipe.device, pipe.dtype)
    saved = vae.use_spatial_tiling, vae.use_temporal_tiling

    def decoded(tiled: bool) -> np.ndarray:
        vae.use_spatial_tiling, vae.use_temporal_tiling = tiled, False
        with torch.inference_mode():
            return np.asarray(to_frames(vae.decode(z)[0]))

    try:
        whole, tiles = decoded(False), decoded(True)
    finally:
        vae.use_spatial_tiling, vae.use_temporal_tiling = saved
    keep = vae.decode_tile.keep
    return {
        "what": "tiling",
        "of": f"{len(whole)} frames of {edge}x{edge}, tiles of {tile}",
        "PSNR": psnr(tiles, whole),
        "SSIM": ssim(tiles, whole),
        "seam": f"{_rounded(lambda: seam(tiles, keep))} ({_rounded(lambda: seam(whole, keep))})",
        "flicker": f"{flicker(tiles):.4f} ({flicker(whole):.4f})",
    }


def _rounded(measure: Callable[[], float]) -> str:
    value = measure()
    return "-" if math.isnan(value) else f"{value:.3f}"
