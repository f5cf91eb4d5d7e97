"""The options of `generate`, each with its help text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Words = Annotated[
    list[str] | None,
    typer.Argument(metavar="[PROMPT] [sampling.FIELD=VALUE]...", show_default=False),
]
Prompt = Annotated[str | None, typer.Option(help="The prompt, as an option.")]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        help=".mp4, .mov or .mkv; .png or .jpg for one frame; .safetensors for latents."
        "  [default: outputs/DATE-TIME.mp4]",
    ),
]
NegativePrompt = Annotated[str, typer.Option(help="What not to show.")]
Image = Annotated[Path | None, typer.Option(help="The first frame.")]
LastImage = Annotated[Path | None, typer.Option(help="The last frame.")]
Video = Annotated[Path | None, typer.Option(help="A clip to continue.")]
NumFrames = Annotated[int | None, typer.Option(help="4k + 1, e.g. 17.")]
Height = Annotated[int | None, typer.Option(help="Pixels, a multiple of 16, e.g. 64.")]
Width = Annotated[int | None, typer.Option(help="Pixels, a multiple of 16, e.g. 64.")]
Resolution = Annotated[
    str | None, typer.Option(help="e.g. 256px, 768px or 720p; with --aspect-ratio.")
]
AspectRatio = Annotated[
    str | None, typer.Option(help="Width to height: 16:9, 9:16, 1:1, ...; with --resolution.")
]
Steps = Annotated[
    int | None,
    typer.Option("--num-inference-steps", "--steps", help="Steps from noise to video, e.g. 30."),
]
Guidance = Annotated[
    float | None, typer.Option("--guidance-scale", help="How far the prompt pulls; 1 is off.")
]
ImageGuidance = Annotated[
    float | None,
    typer.Option("--image-guidance-scale", help="How far the image or clip pulls; 1 is off."),
]
MotionScore = Annotated[
    int | None, typer.Option(help="Amount of motion, 1 to 15, for models trained with it.")
]
Seed = Annotated[
    int | None, typer.Option(help="Same seed, same video.  [default: drawn, and printed]")
]
Count = Annotated[
    int, typer.Option("--num-videos", "-n", help="How many, of seeds seed, seed + 1, ...")
]
Offload = Annotated[
    str | None,
    typer.Option(help='"cpu": models wait in main memory, each visits the device for its stage.'),
]
Quality = Annotated[str, typer.Option(help="lossless, or high: 8-bit linear layers.")]
