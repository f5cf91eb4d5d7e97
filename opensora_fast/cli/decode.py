"""`opensora-fast decode`: a latents file becomes a video."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from opensora_fast.cli import options

_HELP = """Decode latents into a video, at the size and rate of the clip they were made from.

\b
Examples:
  opensora-fast decode clip.latents.safetensors --out back.mp4
"""


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("decode", help=_HELP)(decode)


def decode(
    latents: Annotated[Path, typer.Argument(metavar="LATENTS", help="A .safetensors file.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help=".mp4, .mov or .mkv; .png or .jpg for one frame.  [default: LATENTS.mp4]",
        ),
    ] = None,
    tiling: options.Tiling = "auto",
    memory_budget: options.MemoryBudget = None,
    model: options.Model = "tiny",
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    quiet: options.Quiet = False,
) -> None:
    """Load, decode, save; several videos in one file are saved one by one."""
    from opensora_fast.autoencode import decode_video, load_autoencoder, set_tiling
    from opensora_fast.latents import VideoLatents
    from opensora_fast.output_path import check_output
    from opensora_fast.pipeline_output import numbered, output_suffixes, write_frames
    from opensora_fast.stages import Stages

    budget = options.budget_in_bytes(memory_budget, tiling)
    stored = VideoLatents.load(latents)
    out = out or Path(latents.name.removesuffix(".safetensors").removesuffix(".latents") + ".mp4")
    check_output(out, output_suffixes(stored.num_frames))
    vae, target = load_autoencoder(model, device, dtype)
    set_tiling(vae, tiling, (stored.num_frames, stored.height, stored.width))
    paths = numbered(out, len(stored.latents))
    with (
        Stages(target, progress=not quiet) as stages,
        stages.stage("decode", len(paths)) as advance,
    ):
        for index, path in enumerate(paths):
            video = decode_video(vae, stored, index, memory_budget=budget)
            write_frames(path, video.frames, video.fps)
            advance()
    for path in paths:
        typer.echo(path)
    typer.echo(
        f"{stored.num_frames} frames of {stored.width}x{stored.height} "
        f"at {stored.fps:g} per second, {stages.timings['decode']:.2f} s"
    )
