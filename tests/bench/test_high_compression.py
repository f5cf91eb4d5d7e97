"""The suite that sets the two latents side by side, at its smallest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from opensora_fast.bench.__main__ import main

ARGUMENTS = ["high-compression", "--frames", "1", "--steps", "2", "--repeat", "1", "--pair-only"]


def test_both_paths_make_the_same_video(tmp_path: Path, capsys) -> None:
    path = tmp_path / "found.json"
    assert main([*ARGUMENTS, "--size", "32", "--device", "cpu", "--json", str(path)]) == 0
    rows = {row[""]: row for row in json.loads(path.read_text())["results"]}
    tokens = rows["tiny pair: tokens"]
    assert (tokens["4x8x8"], tokens["4x32x32"], tokens["ratio"]) == (4, 1, 4.0)
    # As counted by hand elsewhere: operations of a decoder are not those of its latent's size.
    decode = rows["768px: decode, TFLOP"]
    assert decode["4x32x32"] == pytest.approx(1633, rel=0.01)
    assert decode["ratio"] < 1 < rows["768px: both, TFLOP"]["ratio"]
    assert rows["768px: tokens"]["ratio"] == pytest.approx(4.125)
    assert rows["tiny pair: both, s"]["original"] == "10"
    capsys.readouterr()


def test_a_size_that_one_of_them_does_not_take(capsys) -> None:
    assert main([*ARGUMENTS, "--size", "48", "--device", "cpu"]) == 2
    assert "size must be a multiple of 32 pixels, got 48" in capsys.readouterr().err
