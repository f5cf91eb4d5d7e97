"""`opensora-fast reconstruct`: what the autoencoder keeps of a clip, to see and in numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from opensora_fast.cli import options

_HELP = """Encode and decode a clip, save both side by side, and print PSNR and SSIM.

\b
Examples:
  opensora-fast reconstruct clip.mp4 --out side_by_side.mp4
  opensora-fast reconstruct clip.mp4 --max-frames 33 --height 256 --width 256
"""


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("reconstruct", help=_HELP)(reconstruct)


def reconstruct(
    clip: Annotated[Path, typer.Argument(metavar="CLIP", help="A video or an image.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="Original left, reconstruction right.  [default: CLIP.side_by_side.mp4]",
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
    """Read, encode, decode, compare, save."""
    import numpy as np

    from opensora_fast.autoencode import (
        decode_video,
        encode_video,
        load_autoencoder,
        read_clip,
        set_tiling,
    )
    from opensora_fast.metrics import psnr, ssim
    from opensora_fast.output_path import check_output
    from opensora_fast.pipeline_output import output_suffixes, write_frames
    from opensora_fast.stages import Stages

    out = out or Path(f"{clip.stem}.side_by_side.mp4")
    check_output(out, output_suffixes(1))
    budget = options.budget_in_bytes(memory_budget, tiling)
    video = read_clip(clip, max_frames, height, width)
    num_frames, rows, columns = video.frames.shape[:3]
    check_output(out, output_suffixes(num_frames))
    vae, target = load_autoencoder(model, device, dtype)
    set_tiling(vae, tiling, video.frames.shape)
    with Stages(target, progress=not quiet) as stages:
        with stages.stage("encode", 1) as advance:
            stored = encode_video(vae, video, memory_budget=budget)
            advance()
        with stages.stage("decode", 1) as advance:
            back = decode_video(vae, stored, memory_budget=budget)
            advance()
    write_frames(out, np.concatenate([video.frames, back.frames], axis=2), video.fps)
    closeness = {"psnr_db": psnr(video.frames, back.frames), "ssim": None}
    if min(rows, columns) >= 11:
        closeness["ssim"] = ssim(video.frames, back.frames)
    options.save_json(
        out,
        "reconstruct",
        {
            "clip": str(clip),
            "model": model,
            "num_frames": num_frames,
            "height": rows,
            "width": columns,
            "tiling": budget is None and (vae.use_spatial_tiling or vae.use_temporal_tiling),
            "memory_budget": memory_budget,
            "seconds": stages.timings,
            **closeness,
        },
    )
    shown = "too small to say" if closeness["ssim"] is None else f"{closeness['ssim']:.4f}"
    typer.echo(out)
    typer.echo(
        f"{num_frames} frames of {columns}x{rows}: PSNR {closeness['psnr_db']:.2f} dB, SSIM {shown}"
    )
    typer.echo(f"seconds: {options.seconds(stages.timings)}")
