"""`python -m opensora_fast.bench`: table, JSON, and one sentence for a mistake."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from opensora_fast import __version__
from opensora_fast.bench import tiny_suite
from opensora_fast.bench.__main__ import VERBS, main
from opensora_fast.pipeline import VideoPipeline
from opensora_fast.sampling_config import SamplingConfig
from opensora_fast.train.shapes import all_scenes, render

SCENES = {scene.prompt: scene for scene in all_scenes()}


class Painter:
    """A pipeline that knows the renderer: right about every second sentence, blue else."""

    device, dtype = torch.device("cpu"), torch.float32
    defaults = SamplingConfig(num_frames=17, height=64, width=64)

    def __init__(self) -> None:
        self.seeds: list[int] = []

    def __call__(self, prompt: str, *, image: Any, seed: int, progress: bool) -> SimpleNamespace:
        self.seeds.append(seed)
        frames = render(SCENES[prompt], np.random.default_rng(seed))
        if seed % 2:
            frames = np.full_like(frames, 110)
        if image is not None:
            frames[0] = image
            frames[0, 0, 0] = 255 - image[0, 0]  # one pixel differs, so PSNR is finite
        return SimpleNamespace(frames=frames[None])


@pytest.fixture
def painter(monkeypatch: pytest.MonkeyPatch) -> Painter:
    painter = Painter()
    monkeypatch.setattr(VideoPipeline, "from_pretrained", lambda source, device: painter)
    return painter


def test_the_table_and_the_json_say_what_was_measured(
    painter: Painter, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "new" / "quality.json"
    words = ["tiny-quality", "--prompts", "6", "--seed", "4", "--image-to-video"]
    assert main([*words, "--json", str(path)]) == 0
    assert painter.seeds == [4, 5, 6, 7, 8, 9] * 2

    found = json.loads(path.read_text())
    rendered, text, image = found["results"]
    assert (rendered["task"], rendered["videos"], rendered["all"]) == ("rendered", 6, 1.0)
    assert (text["task"], text["color"], text["shape"], text["all"]) == (
        "t2v", 0.5, 0.5, 0.5,
    )  # fmt: skip
    assert text["seconds"] > 0
    assert "PSNR" not in text
    assert image["task"] == "i2v"
    assert 30 < image["PSNR"] < 60
    assert (found["suite"], found["settings"]["seed"]) == ("tiny-quality", 4)
    assert found["settings"]["sampling"]["num_frames"] == 17
    assert found["device"]["type"] == "cpu"
    assert found["versions"]["opensora-fast"] == __version__
    assert found["versions"]["torch"] == torch.__version__
    assert {"date", "commit", "dirty"} <= set(found)
    assert sorted(p.name for p in path.parent.iterdir()) == ["quality.json"]

    table = capsys.readouterr().out
    for word in ("rendered", "t2v", "i2v", "color", "motion"):
        assert word in table


def test_sentences_are_spread_and_held_out() -> None:
    whole = tiny_suite.chosen_scenes(161)
    assert len(set(whole)) == 161
    assert all(scene.held_out for scene in whole)
    some = tiny_suite.chosen_scenes(8)
    assert len(set(some)) == 8
    assert {scene.size for scene in some} == {"small", "large"}


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "the following arguments are required: SUITE"),
        (["kernel"], "invalid choice: 'kernel'"),
        (["tiny-quality", "--fast"], "unrecognized arguments: --fast"),
        (["tiny-quality", "extra"], "unrecognized arguments: extra"),
        (["tiny-quality", "--prompts", "0"], "expected a whole number from 1 to 161, got '0'"),
        (["tiny-quality", "--prompts", "162"], "from 1 to 161, got '162'"),
        (["tiny-quality", "--seed", "-1"], "got '-1'"),
        (["tiny-quality", "--json", "a.txt"], "extension '.txt' is not supported; use .json"),
        (["tiny-quality", "--model", "/no/such/folder"], "there is no folder /no/such/folder"),
        (["tiny-quality", "--device", "abacus"], "device must be"),
    ],
)
def test_a_mistake_is_answered_in_one_sentence(
    capsys: pytest.CaptureFixture[str], words: Sequence[str], reason: str
) -> None:
    try:
        status: Any = main(words)
    except SystemExit as stop:
        status = stop.code
    captured = capsys.readouterr()
    assert status == 2
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert reason in captured.err


def test_oblong_models_are_refused(painter: Painter, capsys: pytest.CaptureFixture[str]) -> None:
    painter.defaults = SamplingConfig(num_frames=17, height=64, width=96)
    assert main(["tiny-quality"]) == 2
    assert "needs a model of square videos, 'tiny' makes 96x64" in capsys.readouterr().err


def test_an_interruption_writes_nothing(
    painter: Painter, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupted(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Painter, "__call__", interrupted)
    assert main(["tiny-quality", "--prompts", "1", "--json", str(tmp_path / "a.json")]) == 130
    assert not list(tmp_path.iterdir())


def test_help_names_every_suite(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    assert all(name in out for name in VERBS)
