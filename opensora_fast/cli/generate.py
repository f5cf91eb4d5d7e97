"""`opensora-fast generate`: a prompt becomes a video."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from opensora_fast.cli import generate_options as given
from opensora_fast.cli import options

if TYPE_CHECKING:
    from opensora_fast.pipeline import VideoPipeline
    from opensora_fast.pipeline_output import VideoPipelineOutput

_HELP = """Generate a video from a prompt, and from pictures or a clip if you like.

Any other field of the sampling configuration is set as sampling.FIELD=VALUE, e.g.
sampling.text_oscillation=false or sampling.shift_alpha=2.5; values left out are the model's own.
What the call resolved to is saved beside the video as JSON.

\b
Examples:
  opensora-fast generate "a small red circle moves to the right on a black background"
  opensora-fast generate "a ball rolls" --out ball.mp4 --seed 42 --num-frames 17
  opensora-fast generate "it starts to rain" --image street.png --out rain.mp4
  opensora-fast generate "a street" --model folder --resolution 256px --aspect-ratio 16:9
"""


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("generate", help=_HELP)(generate)


def generate(
    words: given.Words = None,
    prompt: given.Prompt = None,
    out: given.Out = None,
    negative_prompt: given.NegativePrompt = "",
    image: given.Image = None,
    last_image: given.LastImage = None,
    video: given.Video = None,
    num_frames: given.NumFrames = None,
    height: given.Height = None,
    width: given.Width = None,
    resolution: given.Resolution = None,
    aspect_ratio: given.AspectRatio = None,
    num_inference_steps: given.Steps = None,
    guidance_scale: given.Guidance = None,
    image_guidance_scale: given.ImageGuidance = None,
    motion_score: given.MotionScore = None,
    seed: given.Seed = None,
    num_videos: given.Count = 1,
    model: options.Model = "tiny",
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    offload: given.Offload = None,
    quality: given.Quality = "lossless",
    memory_budget: options.MemoryBudget = None,
    quiet: options.Quiet = False,
) -> None:
    """Check everything cheap first; then load, sample, save and report."""
    from opensora_fast.models.overrides import apply_overrides, split_words

    plain, overrides = split_words(words or [])
    text = _one_prompt(plain, prompt)
    out = _checked_out(out)
    inputs: dict[str, Any] = {"image": image, "last_image": last_image, "video": video}
    sizes: dict[str, Any] = {
        "num_frames": num_frames,
        "height": height,
        "width": width,
        "resolution": resolution,
        "aspect_ratio": aspect_ratio,
        "num_inference_steps": num_inference_steps,
        "guidance_scale": guidance_scale,
        "image_guidance_scale": image_guidance_scale,
        "motion_score": motion_score,
    }
    loading = {
        "device": device,
        "dtype": dtype,
        "offload": offload,
        "quality": quality,
        "memory_budget": options.budget_in_bytes(memory_budget),
    }
    pipe, load_s = _load(model, loading)
    pipe.defaults = apply_overrides(pipe.defaults, "sampling", overrides)
    _check_kind(out, pipe.resolve(**sizes).num_frames)
    result = pipe(
        text,
        negative_prompt=negative_prompt,
        **inputs,
        **sizes,
        seed=seed,
        num_videos_per_prompt=num_videos,
        output_type="latent" if _is_latents(out) else "np",
        progress=not quiet,
    )
    paths = result.save(out)
    settings = {
        "prompt": text,
        "negative_prompt": negative_prompt,
        **{name: None if path is None else str(path) for name, path in inputs.items()},
        "model": model,
        **loading,
        "device": str(pipe.device),
        "dtype": str(pipe.dtype).removeprefix("torch."),
        "seed": result.seed,
        "num_videos": num_videos,
        "sampling": dataclasses.asdict(result.config),
        "outputs": [path.name for path in paths],
        "seconds": {"load": load_s, **result.timings},
    }
    _report(result, paths, options.save_json(out, "generate", settings), settings)


def _one_prompt(plain: list[str], option: str | None) -> str:
    from opensora_fast.prompts import check_prompts

    prompts = plain if option is None else [*plain, option]
    if not prompts:
        raise ValueError('a prompt is missing: opensora-fast generate "a ball rolls to the right"')
    if len(prompts) > 1:
        raise ValueError(f"expected one prompt, got {len(prompts)}; put it in quotes")
    return check_prompts(prompts)[0]


def _checked_out(out: Path | None) -> Path:
    """Check all that can be checked before the number of frames is known."""
    from opensora_fast import latents, video
    from opensora_fast.output_path import check_output

    if out is None:
        out = Path("outputs") / time.strftime("%Y%m%d-%H%M%S.mp4")
    return check_output(out, video.VIDEO_SUFFIXES + video.IMAGE_SUFFIXES + latents.SUFFIXES)


def _check_kind(out: Path, num_frames: int) -> None:
    from opensora_fast.output_path import check_output
    from opensora_fast.pipeline_output import output_suffixes

    check_output(out, output_suffixes(num_frames, "latent" if _is_latents(out) else "np"))


def _is_latents(out: Path) -> bool:
    from opensora_fast import latents

    return out.suffix.lower() in latents.SUFFIXES


def _load(model: str, loading: dict[str, Any]) -> tuple[VideoPipeline, float]:
    from opensora_fast.pipeline import VideoPipeline

    start = time.perf_counter()
    return VideoPipeline.from_pretrained(model, **loading), time.perf_counter() - start


def _report(
    result: VideoPipelineOutput, paths: list[Path], saved: Path, settings: dict[str, Any]
) -> None:
    c = result.config
    model = "" if settings["model"] == "tiny" else f" --model {options.quoted(settings['model'])}"
    for path in paths:
        typer.echo(path)
    typer.echo(
        f"{c.num_frames} frames of {c.width}x{c.height} at {c.fps:g} per second, seed {result.seed}"
    )
    typer.echo(f"seconds: {options.seconds(settings['seconds'])}")
    typer.echo(f"settings: {saved}")
    first = options.quoted(paths[0])
    if _is_latents(paths[0]):
        tries = [f"opensora-fast decode {first} --out video.mp4{model}"]
    else:
        prompt, seed = options.quoted(settings["prompt"]), (result.seed + 1) % 2**63
        tries = [
            f"opensora-fast generate {prompt} --seed {seed}{model}",
            f'opensora-fast generate "..." --image {first}{model}   # begins with its first frame',
            "opensora-fast doctor",
        ]
    typer.echo("try next: " + "\n          ".join(tries))
