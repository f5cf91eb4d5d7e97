"""Pipeline folders: a faulty one is refused with a sentence that says what is wrong with it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from opensora_fast import components
from opensora_fast.components import read_index
from opensora_fast.models import CheckpointError
from opensora_fast.pipeline import VideoPipeline


@pytest.fixture
def folder(pipeline_folder: Path, tmp_path: Path) -> Path:
    """A copy of the random pipeline, to be spoilt."""
    return Path(shutil.copytree(pipeline_folder, tmp_path / "model"))


def edit_index(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    index = json.loads((folder / "model_index.json").read_text())
    change(index)
    (folder / "model_index.json").write_text(json.dumps(index))


INDEX_FAULTS: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
    (lambda index: index.pop("vae"), "no section 'vae'"),
    (lambda index: index.pop("t5"), "no section 't5'"),
    (lambda index: index.update(format=2), "format 2"),
    (lambda index: index["vae"].update({"class": "MagicVAE"}), "MagicVAE.*HunyuanVAE"),
    (lambda index: index["vae"]["config"].update(latent_chanels=4), "latent_channels"),
    (lambda index: index["transformer"]["config"].update(num_heads=3), "num_heads"),
    (lambda index: index["vae"].update(file="../secret.safetensors"), "inside"),
    (lambda index: index["vae"].update(file="/etc/passwd"), "inside"),
    (lambda index: index["vae"].pop("file"), "inside"),
    (lambda index: index["t5"].update(max_length=0), "max_length"),
    (lambda index: index["clip"].update(folder="absent"), "no folder"),
    (lambda index: index["defaults"].update(steps=3), "steps"),
    (lambda index: index["defaults"].update(num_inference_steps=0), "num_inference_steps"),
    (lambda index: index["defaults"].update(fps="fast"), "fps must be a number"),
]


@pytest.mark.parametrize(("change", "reason"), INDEX_FAULTS)
def test_a_faulty_index(folder: Path, change: Callable[[dict[str, Any]], Any], reason: str) -> None:
    edit_index(folder, change)
    with pytest.raises((CheckpointError, FileNotFoundError), match=reason) as caught:
        VideoPipeline.from_pretrained(folder, device="cpu")
    assert str(folder) in str(caught.value)


def test_an_index_that_is_no_json(folder: Path) -> None:
    (folder / "model_index.json").write_text("{")
    with pytest.raises(CheckpointError, match="no valid JSON"):
        read_index(folder)
    (folder / "model_index.json").write_text("[]")
    with pytest.raises(CheckpointError, match="format None"):
        read_index(folder)
    (folder / "model_index.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"no pipeline folder.*model_index\.json"):
        read_index(folder)


def spoil_weights(path: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


@pytest.mark.parametrize("name", ["vae.safetensors", "transformer.safetensors"])
def test_checkpoints_that_do_not_fit(folder: Path, name: str) -> None:
    path = folder / name
    key = next(key for key, tensor in load_file(path).items() if tensor.dim() > 1)
    whole = path.read_bytes()
    for change, reason in [
        (lambda tensors: tensors.pop(key), "missing"),
        (lambda tensors: tensors.update(intruder=torch.zeros(1)), "intruder"),
        (lambda tensors: tensors.update({key: torch.zeros(3, 3)}), r"\[3, 3\]"),
    ]:
        path.write_bytes(whole)
        spoil_weights(path, change)
        with pytest.raises(CheckpointError, match=reason) as caught:
            VideoPipeline.from_pretrained(folder, device="cpu")
        assert "\n" not in str(caught.value)
    for content in (whole[: len(whole) // 2], b"", b"these are no weights" * 9):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match="safetensors"):
            VideoPipeline.from_pretrained(folder, device="cpu")
    path.unlink()
    with pytest.raises(CheckpointError, match=name):
        VideoPipeline.from_pretrained(folder, device="cpu")


def test_text_encoders_that_cannot_be_read(folder: Path) -> None:
    (folder / "clip" / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(CheckpointError, match="clip"):
        VideoPipeline.from_pretrained(folder, device="cpu")
    for file in (folder / "t5").glob("tokenizer*"):
        file.unlink()
    with pytest.raises(CheckpointError, match="t5"):
        VideoPipeline.from_pretrained(folder, device="cpu")


def test_names_that_lead_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match=r"no folder .*absent"):
        read_index(tmp_path / "absent")
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="is a file"):
        read_index(tmp_path / "file")
    monkeypatch.setattr(components, "ASSETS", tmp_path)
    with pytest.raises(FileNotFoundError, match="no tiny model"):
        read_index("tiny")


def test_a_hub_id_is_downloaded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda hub_id, **keywords: str(folder))
    assert read_index("someone/a-model").folder == folder


def test_without_a_network_a_hub_id_is_refused_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ConnectionError, match=r"someone/a-model.*Hugging Face") as caught:
        read_index("someone/a-model")
    assert "\n" not in str(caught.value)
