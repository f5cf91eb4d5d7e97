"""`opensora-fast encode`: a clip becomes a latents file."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from opensora_fast.cli import options

_HELP = """Encode a clip into latents.

Clips of any length and size are accepted: they are padded for the model, and `decode` cuts the
result back to the clip's own size.

\b
Examples:
  opensora-fast encode clip.mp4
  opensora-fast encode clip.mp4 --out clip.latents.safetensors --max-frames 33
"""


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("encode", help=_HELP)(encode)


def encode(
    clip: Annotated[Path, typer.Argument(metavar="CLIP", help="A video or an image.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="A .safetensors file.  [default: CLIP.latents.safetensors]"
        ),
    ] = None,
    max_frames: options.MaxFrames = None,
    height: options.Height = None,
    width: options.Width = None,
    tiling: options.Tiling = "auto",
    memory_budget: options.MemoryBudget = None,
    model: options.Model = "tiny",
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    quiet: options.Quiet = False,
) -> None:
    """Read, encode, save."""
    from opensora_fast import latents
    from opensora_fast.autoencode import encode_video, load_autoencoder, read_clip, set_tiling
    from opensora_fast.output_path import check_output
    from opensora_fast.stages import Stages

    out = out or Path(f"{clip.stem}.latents.safetensors")
    check_output(out, latents.SUFFIXES)
    budget = options.budget_in_bytes(memory_budget, tiling)
    video = read_clip(clip, max_frames, height, width)
    vae, target = load_autoencoder(model, device, dtype)
    set_tiling(vae, tiling, video.frames.shape)
    start = time.perf_counter()
    with Stages(target, progress=not quiet) as stages, stages.stage("encode", 1) as advance:
        stored = encode_video(vae, video, memory_budget=budget)
        advance()
    stored.save(out)
    pixels, numbers = video.frames.size, stored.latents.numel()
    typer.echo(out)
    typer.echo(
        f"{stored.num_frames} frames of {stored.width}x{stored.height} became "
        f"{list(stored.latents.shape)}: {pixels / numbers:.0f} times fewer numbers, "
        f"{time.perf_counter() - start:.2f} s"
    )
    typer.echo(f"try next: opensora-fast decode {options.quoted(out)} --out back.mp4")
