"""VideoPipeline: same seed same video, what goes in shapes what comes out, and clear refusals."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from opensora_fast.latents import VideoLatents
from opensora_fast.pipeline import VideoPipeline
from opensora_fast.video import read_image, read_video, resize_crop, to_frames


def sample(pipe: VideoPipeline, prompt: Any = "a ball", **keywords: Any) -> Any:
    keywords.setdefault("seed", 1)
    return pipe(prompt, progress=False, **keywords)


def test_a_prompt_becomes_frames(pipe: VideoPipeline) -> None:
    out = sample(pipe)
    assert out.frames.dtype == np.uint8
    assert out.frames.shape == (1, 5, 16, 32, 3)
    assert (out.fps, out.seed) == (8, 1)
    assert list(out.timings) == ["text", "denoise", "decode"]
    assert all(seconds > 0 for seconds in out.timings.values())
    assert out.frames.std() > 0


def test_the_same_seed_gives_the_same_video(pipe: VideoPipeline) -> None:
    frames = sample(pipe).frames
    assert np.array_equal(frames, sample(pipe).frames)
    assert not np.array_equal(frames, sample(pipe, seed=2).frames)
    torch.manual_seed(7)  # the global generator has no part in it
    assert np.array_equal(frames, sample(pipe).frames)


def test_a_seed_is_drawn_and_returned(pipe: VideoPipeline) -> None:
    first, second = sample(pipe, seed=None), sample(pipe, seed=None)
    assert first.seed != second.seed
    assert np.array_equal(first.frames, sample(pipe, seed=first.seed).frames)


def test_seed_0_is_a_seed(pipe: VideoPipeline) -> None:
    assert np.array_equal(sample(pipe, seed=0).frames, sample(pipe, seed=0).frames)


def test_video_i_is_the_one_of_seed_plus_i(pipe: VideoPipeline) -> None:
    together = sample(pipe, ["a ball", "a box"], num_videos_per_prompt=2, output_type="latent")
    assert together.frames.shape[0] == 4
    for i, prompt in enumerate(["a ball", "a ball", "a box", "a box"]):
        alone = sample(pipe, prompt, seed=1 + i, output_type="latent").frames
        assert torch.allclose(together.frames[i : i + 1], alone, atol=1e-4)


def test_prompt_and_negative_prompt_and_guidance_matter(pipe: VideoPipeline) -> None:
    base = sample(pipe, output_type="latent").frames
    for change in (
        {"prompt": "a box"},
        {"negative_prompt": "blur"},
        {"guidance_scale": 2.0},
        {"num_inference_steps": 4},
    ):
        assert not torch.allclose(sample(pipe, **change, output_type="latent").frames, base)
    # With the prompt switched off, what it says does not matter.
    off = [sample(pipe, p, guidance_scale=0.0, output_type="latent").frames for p in ("a", "b")]
    assert torch.equal(*off)


def test_defaults_can_be_replaced(pipeline_folder: Path) -> None:
    pipe = VideoPipeline.from_pretrained(pipeline_folder, device="cpu")
    pipe.defaults = dataclasses.replace(pipe.defaults, num_frames=1, height=16, width=16)
    assert sample(pipe).frames.shape == (1, 1, 16, 16, 3)


def test_resolution_and_aspect_ratio_choose_the_size(pipe: VideoPipeline) -> None:
    out = sample(pipe, resolution="64px", aspect_ratio="16:9", num_frames=1)
    assert out.frames.shape[2:4] == (48, 80)


def test_output_types_agree(pipe: VideoPipeline) -> None:
    frames = sample(pipe).frames
    pixels = sample(pipe, output_type="pt").frames
    latents = sample(pipe, output_type="latent").frames
    assert pixels.shape == (1, 3, 5, 16, 32)
    assert latents.shape == (1, 4, 2, 2, 4)
    assert np.array_equal(to_frames(pixels[0]), frames[0])
    with torch.inference_mode():
        assert torch.allclose(pipe.vae.decode(latents), pixels)


def test_high_quality_has_8_bit_layers_and_nearly_the_same_video(pipeline_folder: Path) -> None:
    pipes = [
        VideoPipeline.from_pretrained(pipeline_folder, quality=q) for q in ("lossless", "high")
    ]
    latents = [sample(pipe, output_type="latent").frames for pipe in pipes]
    distance = float((latents[1] - latents[0]).norm() / latents[0].norm())
    assert 0 < distance < 0.05
    weights = [p.transformer.single_blocks[0].linear2.weight.dtype for p in pipes]
    assert weights == [torch.float32, torch.int8]


@pytest.mark.slow
def test_high_quality_of_the_shipped_model_is_what_is_stated() -> None:
    videos = []
    for quality in ("lossless", "high"):
        pipe = VideoPipeline.from_pretrained("tiny", device="cpu", quality=quality)
        videos.append(pipe("a red ball rolls to the right", seed=7, progress=False).frames)
    squared = np.square(videos[0].astype(np.float64) - videos[1]).mean()
    assert 10 * np.log10(255**2 / squared) > 46


@pytest.mark.parametrize(
    ("names", "given_frames"),
    [(["image"], [0]), (["last_image"], [-1]), (["image", "last_image"], [0, -1])],
)
def test_pictures_fix_their_frames(
    pipe: VideoPipeline, picture: Path, names: list[str], given_frames: list[int]
) -> None:
    keywords: dict[str, Any] = dict.fromkeys(names, picture)
    out = sample(pipe, **keywords, num_frames=9, output_type="latent")
    assert "encode" in out.timings
    free = sample(pipe, num_frames=9, output_type="latent").frames
    pixels = resize_crop(read_image(picture)[None], 16, 32, "bicubic")
    with torch.inference_mode():
        mean = pipe.vae.encode(pixels[None], sample_posterior=False)[0, :, 0]
    for index in given_frames:
        assert torch.allclose(out.frames[0, :, index], mean, atol=1e-3)
    # The other frames have seen the condition.
    assert not torch.allclose(out.frames[0, :, 1], free[0, :, 1], atol=1e-3)


def test_pictures_may_be_paths_arrays_or_pillow_images(pipe: VideoPipeline, picture: Path) -> None:
    pixels = read_image(picture)
    frames = sample(pipe, image=picture).frames
    assert np.array_equal(frames, sample(pipe, image=str(picture)).frames)
    assert np.array_equal(frames, sample(pipe, image=pixels).frames)
    assert np.array_equal(frames, sample(pipe, image=Image.fromarray(pixels)).frames)


def test_a_clip_is_continued(pipe: VideoPipeline, clip: Path) -> None:
    frames = read_video(clip).frames
    out = sample(pipe, video=clip, num_frames=13)
    assert out.frames.shape == (1, 13, 16, 32, 3)
    assert np.array_equal(out.frames, sample(pipe, video=frames, num_frames=13).frames)
    assert not np.array_equal(out.frames, sample(pipe, num_frames=13).frames)
    # A clip as long as the video leaves at least one latent frame to make.
    assert sample(pipe, video=clip, num_frames=9).frames.shape[1] == 9


BAD_CALLS: list[tuple[dict[str, Any], str]] = [
    ({"prompt": ""}, "prompt is empty"),
    ({"prompt": "  \n"}, "prompt is empty"),
    ({"prompt": []}, "list of prompts is empty"),
    ({"prompt": ["a", ""]}, "prompt is empty"),
    ({"prompt": "\udcff"}, "not valid Unicode"),
    ({"negative_prompt": "\udcff"}, "not valid Unicode"),
    ({"num_frames": 6}, r"num_frames must be 4k \+ 1, got 6; the nearest are 5 and 9"),
    ({"num_frames": 128}, "the nearest are 125 and 129"),
    ({"num_frames": 0}, "num_frames must be at least 1, got 0"),
    ({"num_frames": -3}, "num_frames must be at least 1, got -3"),
    ({"num_frames": 10**9 * 4 + 1}, "tokens"),
    ({"num_frames": 5.0}, "num_frames must be a whole number"),
    ({"height": 0}, "height must be from 1 to 8192, got 0"),
    ({"width": -16}, "width must be from 1 to 8192, got -16"),
    ({"height": 40}, "height must be a multiple of 16, got 40; the nearest are 32 and 48"),
    ({"width": 8}, "width must be a multiple of 16, got 8; the nearest is 16"),
    ({"height": 10**12}, "height must be from 1 to 8192"),
    ({"height": 8192, "width": 8192, "num_frames": 129}, "tokens"),
    ({"resolution": "256px"}, "belong together"),
    ({"resolution": "big", "aspect_ratio": "1:1"}, "256px"),
    ({"resolution": "256px", "aspect_ratio": "7:5"}, "aspect ratio must be one of"),
    ({"resolution": "256px", "aspect_ratio": "1:1", "height": 16}, "either height and width"),
    ({"num_inference_steps": 0}, "num_inference_steps must be from 1 to 1000"),
    ({"num_inference_steps": -1}, "num_inference_steps must be from 1 to 1000"),
    ({"num_inference_steps": 10**7}, "num_inference_steps must be from 1 to 1000"),
    ({"guidance_scale": float("nan")}, "guidance_scale"),
    ({"guidance_scale": -1.0}, "guidance_scale"),
    ({"image_guidance_scale": 1e9}, "image_guidance_scale"),
    ({"motion_score": 4}, "not trained with motion scores"),
    ({"seed": -1}, "seed must be a whole number from 0"),
    ({"seed": 2**64}, "seed must be a whole number from 0"),
    ({"seed": 1.5}, "seed must be a whole number from 0"),
    ({"num_videos_per_prompt": 0}, "num_videos_per_prompt must be at least 1"),
    ({"num_videos_per_prompt": 1000}, "at most 64 videos"),
    ({"output_type": "gif"}, "output_type"),
    ({"image": np.zeros((4, 4), np.uint8)}, r"uint8 \[H, W, 3\]"),
    ({"image": np.zeros((4, 4, 3), np.float32)}, "float32"),
    ({"video": np.zeros((4, 4, 3), np.uint8)}, r"uint8 \[T, H, W, 3\]"),
    (
        {"video": np.zeros((1, 4, 4, 3), np.uint8), "image": np.zeros((4, 4, 3), np.uint8)},
        "either video",
    ),
    ({"image": np.zeros((4, 4, 3), np.uint8), "num_frames": 1}, "single frame"),
]


@pytest.mark.parametrize(("keywords", "reason"), BAD_CALLS)
def test_bad_calls_say_what_is_accepted(
    pipe: VideoPipeline, keywords: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        sample(pipe, **keywords)


def test_a_prompt_that_is_no_text(pipe: VideoPipeline) -> None:
    with pytest.raises(TypeError, match="a prompt must be text, got int"):
        sample(pipe, [3])


@pytest.mark.parametrize(
    ("keywords", "reason"),
    [
        ({"quality": "fast"}, 'quality must be "lossless" or "high" for now'),
        ({"offload": "disk"}, 'offload must be None or "cpu"'),
        ({"device": "tpu"}, "device must be"),
        ({"device": "meta"}, "device must be"),
        ({"device": "cuda:99"}, "cuda:99"),
        ({"dtype": "int8"}, "dtype must be"),
    ],
)
def test_bad_ways_to_load(pipeline_folder: Path, keywords: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        VideoPipeline.from_pretrained(pipeline_folder, **keywords)


def test_other_dtypes_and_offload_run(pipeline_folder: Path) -> None:
    reference = sample(VideoPipeline.from_pretrained(pipeline_folder, device="cpu")).frames
    half = VideoPipeline.from_pretrained(pipeline_folder, device="cpu", dtype="bfloat16")
    assert next(half.transformer.parameters()).dtype == torch.bfloat16
    difference = np.abs(sample(half).frames.astype(int) - reference.astype(int))
    # Rounding errors of a random network are large; the picture is the same.
    assert difference.mean() < 0.5 * np.abs(reference.astype(int) - reference.mean()).mean()
    offloaded = VideoPipeline.from_pretrained(pipeline_folder, device="cpu", offload="cpu")
    assert np.array_equal(sample(offloaded).frames, reference)


def test_a_memory_budget_changes_no_frame(
    pipe: VideoPipeline, pipeline_folder: Path, picture: Path
) -> None:
    within = VideoPipeline.from_pretrained(pipeline_folder, device="cpu", memory_budget=200_000)
    expected, found = (sample(p, image=picture, output_type="pt").frames for p in (pipe, within))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
    within.memory_budget = 1000
    with pytest.raises(ValueError, match="the least that this size can be done with is"):
        sample(within)


def test_the_suffixes_reach_the_encoders(pipeline_folder: Path) -> None:
    pipe = VideoPipeline.from_pretrained(pipeline_folder, device="cpu")
    pipe.prompt_suffix = True
    seen: list[str] = []
    encode = pipe.t5.encode
    pipe.t5.encode = lambda texts: (seen.extend(texts), encode(texts))[1]
    sample(pipe, "a ball", motion_score=4)
    assert seen == ["a ball. 8 FPS. 4 motion score.", ""]


def test_results_are_saved_by_their_kind(pipe: VideoPipeline, tmp_path: Path) -> None:
    pytest.importorskip("av", reason="PyAV is not installed")
    out = sample(pipe, num_videos_per_prompt=2)
    paths = out.save(tmp_path / "new" / "ball.mp4")
    assert [path.name for path in paths] == ["ball-0.mp4", "ball-1.mp4"]
    assert read_video(paths[1]).frames.shape == (5, 16, 32, 3)
    picture = sample(pipe, num_frames=1).save(tmp_path / "ball.png")
    assert np.array_equal(read_image(picture[0]), sample(pipe, num_frames=1).frames[0, 0])
    latent = sample(pipe, output_type="latent")
    stored = VideoLatents.load(latent.save(tmp_path / "ball.safetensors")[0])
    assert torch.equal(stored.latents, latent.frames)
    assert (stored.num_frames, stored.height, stored.width, stored.fps) == (5, 16, 32, 8)
    with pytest.raises(ValueError, match=r"\.png"):
        out.save(tmp_path / "ball.png")
    with pytest.raises(ValueError, match="safetensors"):
        latent.save(tmp_path / "ball.mp4")


def test_ctrl_c_while_sampling_comes_through(
    pipe: VideoPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: Any, **keywords: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("opensora_fast.pipeline.denoise", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pipe("a ball", progress=True)
