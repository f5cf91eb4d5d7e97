"""A run may be stopped at any step and goes on as if it had not been."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from opensora_fast.train.autoencoder import AutoencoderStage
from opensora_fast.train.clips import ClipSource
from opensora_fast.train.config import RunConfig
from opensora_fast.train.diffusion import DiffusionData, DiffusionStage
from opensora_fast.train.loop import Stage, restore_stage, run_stage
from opensora_fast.train.text_encoders import TextStage

NAMES = ("text", "autoencoder", "diffusion")
Maker = Callable[[str], Stage]


class Stop(Exception):
    """Ends a run in the middle, as Ctrl-C would."""


@pytest.fixture
def make(config: RunConfig, source: ClipSource, diffusion_data: DiffusionData) -> Maker:
    def make(name: str) -> Stage:
        if name == "text":
            return TextStage(config.text, 0)
        if name == "autoencoder":
            return AutoencoderStage(config.autoencoder, source, 0, torch.float32)
        return DiffusionStage(config.diffusion, diffusion_data, 0, torch.float32)

    return make


def stop_at(stage: Stage, last: int) -> None:
    original = stage.step

    def step(step: int) -> dict[str, float]:
        if step == last:
            raise Stop
        return original(step)

    stage.step = step  # type: ignore[method-assign]


@pytest.mark.parametrize("name", NAMES)
def test_a_resumed_run_ends_bit_equal(make: Maker, tmp_path: Path, name: str) -> None:
    whole = make(name)
    run_stage(whole, tmp_path / "whole", checkpoint_s=1e9)

    first = make(name)
    stop_at(first, whole.num_steps - 1)
    with pytest.raises(Stop):
        run_stage(first, tmp_path / "parts", checkpoint_s=0.0)
    second = make(name)
    run_stage(second, tmp_path / "parts", checkpoint_s=0.0)

    assert all(torch.equal(p, second.parameters[n]) for n, p in whole.parameters.items())
    if whole.ema is not None and second.ema is not None:
        assert whole.ema.num_updates == second.ema.num_updates == whole.num_steps
        averages = second.ema.averages
        assert all(torch.equal(v, averages[n]) for n, v in whole.ema.averages.items())


def test_a_run_that_is_not_resumed_differs(make: Maker, tmp_path: Path) -> None:
    """Or the test above would prove nothing: the steps before the stop do count."""
    whole, late = make("diffusion"), make("diffusion")
    run_stage(whole, tmp_path, checkpoint_s=1e9)
    late.step(whole.num_steps - 1)
    assert any(not torch.equal(p, late.parameters[n]) for n, p in whole.parameters.items())


def test_the_checkpoint_is_a_safetensors_file(make: Maker, tmp_path: Path) -> None:
    stage = make("autoencoder")
    run_stage(stage, tmp_path, checkpoint_s=1e9)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "autoencoder.log.jsonl",
        "autoencoder.state.safetensors",
    ]
    with safe_open(tmp_path / "autoencoder.state.safetensors", framework="pt") as file:
        keys = set(file.keys())
        progress = json.loads(file.metadata()["progress"])
    assert progress["step"] == stage.num_steps
    for name in stage.parameters:
        assert {f"param/{name}", f"ema/{name}"} <= keys
    assert {key.split("/")[1] for key in keys if key.startswith("optim/")} == {"0", "1"}
    last = json.loads((tmp_path / "autoencoder.log.jsonl").read_text().splitlines()[-1])
    assert last["step"] == stage.num_steps
    assert last["l1"] > 0


def test_a_finished_run_is_only_read(make: Maker, tmp_path: Path) -> None:
    stage, again = make("diffusion"), make("diffusion")
    run_stage(stage, tmp_path, checkpoint_s=1e9)
    stop_at(again, 0)
    run_stage(again, tmp_path, checkpoint_s=1e9)
    assert all(torch.equal(p, again.parameters[n]) for n, p in stage.parameters.items())
    third = make("diffusion")
    assert restore_stage(third, tmp_path) == stage.num_steps
    assert all(torch.equal(p, third.parameters[n]) for n, p in stage.parameters.items())


def test_a_missing_checkpoint_is_said(make: Maker, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"text\.state\.safetensors: run the stage 'text' first"):
        restore_stage(make("text"), tmp_path)
