"""The suite of qualities: tiers against lossless, tiles against the whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from opensora_fast.bench import quality
from opensora_fast.bench.__main__ import main


def test_the_shipped_model_keeps_what_the_tier_promises(tmp_path: Path) -> None:
    saved = tmp_path / "quality.json"
    assert main(["quality", "--steps", "6", "--tiled-size", "320", "--json", str(saved)]) == 0
    rows = json.loads(saved.read_text())["results"]
    assert [row["what"] for row in rows] == ["high"] * len(quality.PROMPTS) + ["tiling"]
    for row in rows[:-1]:
        assert row["verdict"] == "kept" and row["PSNR"] > quality.LEAST_PSNR["high"]
        assert 0.9 < row["SSIM"] <= 1 and 0 < row["rel_l2"] < 0.2 and row["cosine"] > 0.98
    # Tiles see other statistics than the whole: close, and not the same.
    assert 20 < rows[-1]["PSNR"] < 80


def test_a_tier_below_its_promise_is_a_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(quality.LEAST_PSNR, "high", 200.0)
    arguments = ["quality", "--steps", "2", "--tiled-size", "264"]
    assert main(arguments) == 1


def test_a_video_of_one_tile_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["quality", "--steps", "1", "--tiled-size", "256"]) == 2
    assert "multiple of 8 above 256" in capsys.readouterr().err
