"""The whole run, from words and clips to a folder that the pipeline loads; and its command line."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from opensora_fast import VideoPipeline
from opensora_fast.train import tiny
from opensora_fast.train.__main__ import configure, main
from opensora_fast.train.config import RunConfig
from opensora_fast.train.shapes import training_scenes
from opensora_fast.train.text_encoders import TextStage, tokenize
from opensora_fast.video import write_video


@pytest.fixture
def few_scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Latents of thirty sentences instead of a thousand."""
    monkeypatch.setattr(tiny, "training_scenes", lambda: training_scenes()[::40])
    monkeypatch.setattr(tiny, "NUM_CLIPS_FOR_STATISTICS", 10)


@pytest.fixture
def runnable(config: RunConfig, tmp_path: Path) -> RunConfig:
    pytest.importorskip("av", reason="PyAV is not installed")
    t, y, x = np.mgrid[:6, :32, :32]
    frames = np.stack([x * 7, y * 7, t * 40], axis=-1).astype(np.uint8)
    (tmp_path / "clips").mkdir()
    write_video(tmp_path / "clips" / "real.mp4", frames, 8)
    return dataclasses.replace(config, real_clips=str(tmp_path / "clips"))


@pytest.mark.usefixtures("few_scenes")
def test_the_run_ends_in_a_folder_that_samples(runnable: RunConfig) -> None:
    folder = tiny.train(runnable)
    out = Path(runnable.out)
    assert json.loads((out / "config.json").read_text())["diffusion"]["num_steps"] == 4
    assert load_file(out / "latents.safetensors")["clips"].shape == (30, 1, 4, 2, 2, 2)

    pipe = VideoPipeline.from_pretrained(folder, device="cpu")
    assert (pipe.defaults.num_frames, pipe.defaults.height, pipe.defaults.fps) == (5, 16, 8)
    prompt = training_scenes()[0].prompt
    video = pipe(prompt, seed=0, num_inference_steps=2, progress=False)
    assert video.frames.shape == (1, 5, 16, 16, 3)

    # The weights are the averages, rounded to fp16.
    averages = load_file(out / "diffusion.state.safetensors")
    for name, value in pipe.transformer.state_dict().items():
        assert torch.equal(value, averages[f"ema/{name}"].half().float())

    # Sampling reads a sentence as training did.
    text = TextStage(runnable.text, runnable.seed)
    tiny.restore_stage(text, out)
    with torch.no_grad():
        states, vectors = text.encode(tokenize([prompt], runnable.text.max_length))
    torch.testing.assert_close(pipe.t5.encode([prompt]), states, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(pipe.clip.encode([prompt]), vectors, rtol=1e-5, atol=1e-5)

    # The latents that it works on are standard.
    clips = tiny._statistics_clips(runnable)
    with torch.no_grad():
        latents = pipe.vae.encode(clips, sample_posterior=False)
    assert latents.mean().abs() < 1e-3
    assert abs(latents.std() - 1) < 0.01

    # Nothing is left to do: the same command again makes the same folder.
    before = (folder / "transformer.safetensors").read_bytes()
    assert tiny.train(runnable) == folder
    assert (folder / "transformer.safetensors").read_bytes() == before


@pytest.mark.usefixtures("few_scenes")
def test_stages_one_by_one_make_the_same_folder(runnable: RunConfig, tmp_path: Path) -> None:
    """Also in another order, where two do not need each other."""
    single = dataclasses.replace(runnable, out=str(tmp_path / "single"))
    for stage in ("autoencoder", "text", "latents", "diffusion", "export"):
        folder = tiny.train(single, [stage])
    whole = tiny.train(runnable)
    files = sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file())
    assert len(files) > 5
    for file in files:
        assert (folder / file).read_bytes() == (whole / file).read_bytes(), file


@pytest.mark.parametrize(
    ("stage", "first"),
    [("latents", "autoencoder"), ("diffusion", "text"), ("export", "autoencoder")],
)
def test_a_stage_whose_input_is_missing_is_refused(
    config: RunConfig, stage: str, first: str
) -> None:
    with pytest.raises(ValueError, match=f"run the stage '{first}' first"):
        tiny.train(config, [stage])


def test_a_folder_without_clips_is_refused(config: RunConfig, tmp_path: Path) -> None:
    empty = dataclasses.replace(config, real_clips=str(tmp_path))
    with pytest.raises(ValueError, match=r"no \.mp4 files in"):
        tiny.train(empty, ["text", "autoencoder"])


def test_words_become_a_configuration() -> None:
    config, stages = configure(
        ["tiny", "run.seed=3", "diffusion.num_steps=7", "text.lr=0.5", "stages=latents,export"]
    )
    assert (config.seed, config.diffusion.num_steps, config.text.lr) == (3, 7, 0.5)
    assert stages == ("latents", "export")
    assert configure(["tiny"])[1] == tiny.STAGES


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["huge"], "expected one preset (tiny, tiny-hc), got huge"),
        (["tiny", "tiny"], "expected one preset (tiny, tiny-hc), got tiny tiny"),
        (["run.seed=1"], "expected one preset (tiny, tiny-hc), got none"),
        (["tiny", "text.lrr=1"], "there is no field text.lrr; did you mean 'lr'?"),
        (
            ["tiny", "optim.lr=1"],
            "there is no section 'optim' in 'optim.lr=1'; there are run",
        ),
        (["tiny", "run.seed=x"], "run.seed must be a whole number, got 'x'"),
        (["tiny", "run.text=x"], "run.text has parts and cannot be given as one word"),
        (["tiny", "autoencoder.phases=1"], "autoencoder.phases has parts"),
        (["tiny", "stages=text,foo"], "unknown stage 'foo'; there are text, autoencoder"),
        (["tiny", "run.num_frames=16"], "num_frames must be 4k + 1, got 16"),
        (["tiny-hc", "run.num_frames=17"], "num_frames must be 1 or a multiple of 4 from 8 on"),
        (["tiny-hc", "run.size=80"], "size must be a multiple of 32, got 80"),
        (["tiny", "autoencoder.latent_noise=0.1"], "a HunyuanVAE learns its own noise"),
        (["tiny-hc", "autoencoder.teacher="], "distill_weight needs a teacher"),
        (["tiny", "run.size=60"], "size must be a multiple of 16, got 60"),
        (["tiny", "text.width=64"], "text.width is 64, the transformer takes 96"),
        (["tiny", "text.batch_size=0"], "TextConfig.batch_size must be positive, got 0"),
        (["tiny", "diffusion.decay_from=1"], "decay_from must lie in [0, 1), got 1.0"),
        (["tiny", "stages=text", "run.out=/proc/nothing"], "/proc/nothing: no such file"),
    ],
)
def test_bad_words_end_in_one_line(
    capsys: pytest.CaptureFixture[str], words: list[str], reason: str
) -> None:
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("error: ")
    assert reason in captured.err


def test_a_bug_of_ours_is_not_hidden(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("opensora_fast.train.__main__.train", lambda *_: np.stack([]))
    with pytest.raises(ValueError, match="at least one array"):
        main(["tiny"])
    assert capsys.readouterr().err == ""


def test_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert main([]) == 2
    assert "usage: opensora-fast train PRESET" in capsys.readouterr().out


def test_one_stage_from_the_command_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ["tiny", f"run.out={tmp_path}", "stages=text", "text.num_steps=1", "text.batch_size=2"]
    assert main(words) == 0
    assert (tmp_path / "text.state.safetensors").exists()
    assert "text 1/1" in capsys.readouterr().out
