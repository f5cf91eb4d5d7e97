"""A pipeline folder: `model_index.json`, the weights it names, and the modules they become.

{"format": 1,
 "vae":         {"class": "HunyuanVAE", "config": {...}, "file": "vae.safetensors"},
 "transformer": {"class": "MMDiT", "config": {...}, "file": "transformer.safetensors"},
 "t5":   {"folder": "t5", "max_length": 512},
 "clip": {"folder": "clip", "max_length": 77},
 "defaults": {fields of SamplingConfig},
 "prompt_suffix": false}
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

import torch

from opensora_fast.models import CheckpointError, HunyuanVAE, MMDiT, VideoDCAE
from opensora_fast.models.configuration import config_from_dict
from opensora_fast.sampling_config import SamplingConfig

INDEX_NAME = "model_index.json"
FORMAT = 1

VideoAutoencoder: TypeAlias = "HunyuanVAE | VideoDCAE"

_MODEL_CLASSES: dict[str, dict[str, Any]] = {
    "vae": {"HunyuanVAE": HunyuanVAE, "VideoDCAE": VideoDCAE},
    "transformer": {"MMDiT": MMDiT},
}
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_DOWNLOADED = ("*.json", "*.safetensors", "*.model", "*.txt")
ASSETS = Path(__file__).parent / "assets"
# Models of this package, by name: 4x8x8 latents of 64 x 64 pixels, 4x32x32 ones of 128 x 128.
SHIPPED = ("tiny", "tiny-hc")
TINY_FOLDER = ASSETS / "tiny"


@dataclass(frozen=True, slots=True)
class PipelineIndex:
    """What a folder's `model_index.json` says, checked; loading a part reads its weights."""

    folder: Path
    parts: Mapping[str, Mapping[str, Any]]
    defaults: SamplingConfig
    prompt_suffix: bool

    def load_vae(self, device: torch.device, dtype: torch.dtype) -> VideoAutoencoder:
        """Load the video autoencoder."""
        vae: VideoAutoencoder = self._load_model("vae", device, dtype)
        return vae

    def load_transformer(self, device: torch.device, dtype: torch.dtype) -> MMDiT:
        """Load the diffusion transformer."""
        transformer: MMDiT = self._load_model("transformer", device, dtype)
        return transformer

    def load_text_encoder(self, name: str, device: torch.device, dtype: torch.dtype) -> Any:
        """Load "t5" or "clip"."""
        # Imported here: transformers takes seconds, and encoding a clip needs none of it.
        from opensora_fast.models.text import CLIPEncoder, T5Encoder

        part = self._part(name)
        folder = self._inside(name, part.get("folder"))
        if not folder.is_dir():
            raise FileNotFoundError(f"{self.folder} is incomplete: there is no folder {folder}")
        max_length = part.get("max_length")
        if not isinstance(max_length, int) or max_length < 1:
            raise self._faulty(f"{name}.max_length must be a positive number, got {max_length!r}")
        encoder = {"t5": T5Encoder, "clip": CLIPEncoder}[name]
        with _quiet_transformers():
            return encoder.from_pretrained(
                folder, device=device, dtype=dtype, max_length=max_length
            )

    def _load_model(self, name: str, device: torch.device, dtype: torch.dtype) -> Any:
        part = self._part(name)
        classes = _MODEL_CLASSES[name]
        if part.get("class") not in classes:
            known = ", ".join(classes)
            raise self._faulty(f"{name}.class is {part.get('class')!r}; known are {known}")
        model_class = classes[part["class"]]
        try:
            config = config_from_dict(model_class.config_class, part.get("config", {}))
        except (ValueError, TypeError) as error:
            raise self._faulty(f"{name}.config: {error}") from None
        file = self._inside(name, part.get("file"))
        return model_class.from_checkpoint(file, config, device=device, dtype=dtype)

    def _part(self, name: str) -> Mapping[str, Any]:
        part = self.parts.get(name)
        if not isinstance(part, dict):
            raise self._faulty(f"it has no section {name!r}")
        return part

    def _inside(self, name: str, value: object) -> Path:
        # A folder from the internet must not name files elsewhere on this machine.
        path = PurePosixPath(value) if isinstance(value, str) and value else None
        if path is None or path.is_absolute() or ".." in path.parts:
            raise self._faulty(f"{name} must name a file or folder inside it, got {value!r}")
        return self.folder / path

    def _faulty(self, what: str) -> CheckpointError:
        return CheckpointError(f"{self.folder / INDEX_NAME} is faulty: {what}")


def read_index(source: str | Path) -> PipelineIndex:
    """Find a pipeline folder and read its `model_index.json`.

    Args:
        source: one of `SHIPPED`, a folder, or the id "owner/name" of a repository on
            the Hugging Face hub, which is downloaded (or taken from its cache) by huggingface_hub.

    Returns:
        The checked index. No weights are read.

    Raises:
        FileNotFoundError: there is no such folder, or it holds no `model_index.json`.
        CheckpointError: the index is faulty.
        ConnectionError: the hub cannot be reached, or has no such repository.
    """
    folder = _find_folder(source)
    path = folder / INDEX_NAME
    if not path.is_file():
        raise FileNotFoundError(f"{folder} is no pipeline folder: it holds no {INDEX_NAME}")
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path} is no valid JSON: {error}") from None
    if not isinstance(index, dict) or index.get("format") != FORMAT:
        found = index.get("format") if isinstance(index, dict) else None
        raise CheckpointError(f"{path} has format {found!r}, this version reads format {FORMAT}")
    try:
        defaults = config_from_dict(SamplingConfig, index.get("defaults", {}))
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{path} is faulty: defaults: {error}") from None
    return PipelineIndex(folder, index, defaults, bool(index.get("prompt_suffix", False)))


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Keep transformers from drawing progress bars of its own."""
    from transformers.utils import logging

    was_enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_enabled:
            logging.enable_progress_bar()


def _find_folder(source: str | Path) -> Path:
    if source in SHIPPED:
        shipped = ASSETS / source
        if not (shipped / INDEX_NAME).is_file():
            raise FileNotFoundError(
                f"there is no {source} model in {shipped}: `make train-{source}` makes it"
            )
        return shipped
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists():
        raise ValueError(f"{folder} is a file; a pipeline is a folder with a {INDEX_NAME}")
    if isinstance(source, str) and _HUB_ID.fullmatch(source) and not source.startswith("."):
        return _download(source)
    raise FileNotFoundError(
        f"there is no folder {folder}; expected a shipped model ({', '.join(SHIPPED)}), a folder or"
        ' a Hugging Face id "owner/name"'
    )


def _download(hub_id: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(hub_id, allow_patterns=list(_DOWNLOADED)))
    except Exception as error:  # its errors share no base class: HTTP, offline, cache, validation
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ConnectionError(
            f"there is no folder {hub_id}, and no such model from the Hugging Face hub: {reason}"
        ) from error
