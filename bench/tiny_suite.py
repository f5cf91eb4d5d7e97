"""Suite: does a model of the shapes language show what held-out sentences say?"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from opensora_fast.metrics import psnr
from opensora_fast.models.configuration import config_to_dict
from opensora_fast.output_path import check_output
from opensora_fast.pipeline import VideoPipeline
from opensora_fast.train.shapes import Scene, render, test_scenes
from opensora_fast.video import write_image

from .contact_sheet import contact_sheet
from .tables import Results, Row
from .tiny_quality import score

SHEET_ROWS = 8
RENDER_STREAM = 5  # keeps the fresh clips apart from those of training, which use 0 to 4
NOTES = (
    "Shares of videos whose pixels show what the sentence says; all: colour, shape and motion at"
    " once. Seconds: median of a video.",
    "rendered: the judge's own ceiling, on the renderer's clips. i2v: the first frame of"
    " such a clip is given; PSNR is that of the sampled first frame.",
)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Sampled:
    """One sampled video of a sentence."""

    scene: Scene
    frames: np.ndarray
    seconds: float
    first_frame_psnr: float | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the suite's arguments."""
    parser.add_argument(
        "--model", default="tiny", help="the shipped model, a pipeline folder or a hub id"
    )
    parser.add_argument(
        "--prompts",
        type=_count,
        metavar="N",
        default=len(test_scenes()),
        help="so many of the held-out sentences, evenly spread (default: all %(default)s)",
    )
    parser.add_argument(
        "--image-to-video", action="store_true", help="give first frames as images, too"
    )
    parser.add_argument(
        "--contact-sheet", metavar="FILE", help="also write eight of the videos as one PNG picture"
    )
    parser.add_argument("--seed", type=_seed, default=0, help="video i is drawn with seed + i")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda[:n]")


def run(arguments: argparse.Namespace, console: Console) -> Results:
    """Sample the held-out sentences one by one and judge the videos.

    Args:
        arguments: see `add_arguments`.
        console: shows the progress.

    Returns:
        One row for the renderer's clips, one for each kind of sampling.

    Raises:
        ValueError: the model cannot be loaded or makes no square videos.
    """
    sheet = arguments.contact_sheet
    sheet = check_output(sheet, (".png",)) if sheet is not None else None
    pipe = VideoPipeline.from_pretrained(arguments.model, device=arguments.device)
    config = pipe.defaults
    if config.height != config.width:
        raise ValueError(
            f"tiny-quality needs a model of square videos, {arguments.model!r} makes "
            f"{config.width}x{config.height}"
        )
    scenes = chosen_scenes(arguments.prompts)
    clips = [
        render(
            scene,
            np.random.default_rng((arguments.seed, RENDER_STREAM, i)),
            num_frames=config.num_frames,
            size=config.height,
        )
        for i, scene in enumerate(scenes)
    ]
    rendered: Row = {"task": "rendered", "videos": len(scenes)}
    rows = [rendered | score(zip(scenes, clips, strict=True))]
    videos = sample(pipe, scenes, arguments.seed, console)
    rows.append(_row("t2v", videos))
    if sheet is not None:
        _write_sheet(sheet, videos, console)
    if arguments.image_to_video:
        images = [clip[0] for clip in clips]
        rows.append(_row("i2v", sample(pipe, scenes, arguments.seed, console, images)))
    settings = {
        "model": arguments.model,
        "seed": arguments.seed,
        "dtype": str(pipe.dtype).removeprefix("torch."),
        "sampling": config_to_dict(config),
    }
    title = f"tiny-quality: {arguments.model}, {config.num_inference_steps} steps"
    return Results(title=title, device=pipe.device, settings=settings, rows=rows, notes=NOTES)


def failures(rows: Sequence[Row]) -> list[Row]:
    """None: how good a model must be is not for this suite to say."""
    return []


def chosen_scenes(count: int) -> list[Scene]:
    """So many of the held-out sentences, evenly spread over their fixed order."""
    scenes = test_scenes()
    return [scenes[i * len(scenes) // count] for i in range(count)]


def sample(
    pipe: VideoPipeline,
    scenes: Sequence[Scene],
    seed: int,
    console: Console,
    images: Sequence[np.ndarray] | None = None,
) -> list[Sampled]:
    """Sample one video of every sentence.

    Args:
        pipe: the model.
        scenes: the sentences.
        seed: video i is drawn with `seed + i`.
        console: shows the progress.
        images: first frames `[H, W, 3]` uint8, one for each sentence.

    Returns:
        The videos in order, each with its seconds from the words to the pixels.
    """
    task = "t2v" if images is None else "i2v"
    found = []
    for i, scene in enumerate(track(scenes, task, console=console, transient=True)):
        image = None if images is None else images[i]
        began = time.perf_counter()
        output = pipe(scene.prompt, image=image, seed=seed + i, progress=False)
        seconds = time.perf_counter() - began
        frames: np.ndarray = output.frames[0]
        likeness = None if image is None else psnr(frames[:1], image[None])
        found.append(
            Sampled(scene=scene, frames=frames, seconds=seconds, first_frame_psnr=likeness)
        )
    return found


def _write_sheet(path: Path, videos: Sequence[Sampled], console: Console) -> None:
    """Write some of the videos, evenly spread, as one picture, and say what they should show."""
    count = min(SHEET_ROWS, len(videos))
    shown = [videos[i * len(videos) // count] for i in range(count)]
    write_image(path, contact_sheet([video.frames for video in shown]))
    for video in shown:
        console.print(f"{path.name}: {video.scene.prompt}")


def _row(task: str, videos: Sequence[Sampled]) -> Row:
    row: Row = {"task": task, "videos": len(videos)}
    row |= score((video.scene, video.frames) for video in videos)
    row["seconds"] = statistics.median(video.seconds for video in videos)
    likenesses = [v.first_frame_psnr for v in videos if v.first_frame_psnr is not None]
    if likenesses:
        row["PSNR"] = statistics.fmean(likenesses)
    return row


def _count(text: str) -> int:
    most = len(test_scenes())
    if not text.isdecimal() or not 1 <= int(text) <= most:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 to {most}, got {text!r}")
    return int(text)


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**31:
        raise argparse.ArgumentTypeError(
            f"expected a whole number from 0 to {2**31 - 1}, got {text!r}"
        )
    return int(text)
