"""A finished model that a new one starts from: its text encoders, transformer and autoencoder."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPTextModel, T5EncoderModel

from opensora_fast.models import CheckpointError, HunyuanVAE, MMDiT
from opensora_fast.models.configuration import config_from_dict


class Parent:
    """A pipeline folder, read part by part in fp32.

    Args:
        source: a folder with a `model_index.json`, or the name of a model that is shipped.

    Raises:
        ValueError: there is no such folder.
    """

    def __init__(self, source: str) -> None:
        shipped = Path(str(resources.files("opensora_fast"))) / "assets" / source
        self.folder = next((p for p in (Path(source), shipped) if (p / _INDEX).is_file()), None)
        if self.folder is None:
            raise ValueError(f"{source!r} is no pipeline folder: it holds no {_INDEX}")
        self.index: dict[str, Any] = json.loads((self.folder / _INDEX).read_text("utf-8"))

    def autoencoder(self) -> HunyuanVAE:
        """Load the autoencoder; it must be a `HunyuanVAE`."""
        vae: HunyuanVAE = self._model("vae", HunyuanVAE)
        return vae.requires_grad_(False)

    def transformer(self) -> MMDiT:
        """Load the transformer."""
        transformer: MMDiT = self._model("transformer", MMDiT)
        return transformer.requires_grad_(False)

    def text_encoders(self) -> tuple[T5EncoderModel, CLIPTextModel]:
        """Load T5 and CLIP."""
        assert self.folder is not None
        t5, clip = (self.folder / self.index[name]["folder"] for name in ("t5", "clip"))
        return (
            T5EncoderModel.from_pretrained(t5, local_files_only=True).float(),
            CLIPTextModel.from_pretrained(clip, local_files_only=True).float(),
        )

    def _model(self, name: str, model_class: Any) -> Any:
        assert self.folder is not None
        part = self.index[name]
        if part["class"] != model_class.__name__:
            raise CheckpointError(
                f"{self.folder}: a {model_class.__name__} is needed, it holds a {part['class']}"
            )
        config = config_from_dict(model_class.config_class, part["config"])
        return model_class.from_checkpoint(self.folder / part["file"], config, dtype=torch.float32)


_INDEX = "model_index.json"


def adopt(parameters: dict[str, Tensor], parent: dict[str, Tensor], leave: tuple[str, ...]) -> int:
    """Copy what has the same name and shape.

    Args:
        parameters: changed in place.
        parent: weights by name.
        leave: beginnings of names that stay as they are.

    Returns:
        How many were copied.
    """
    fitting = [
        name
        for name, p in parameters.items()
        if name in parent and parent[name].shape == p.shape and not name.startswith(leave)
    ]
    with torch.no_grad():
        for name in fitting:
            parameters[name].copy_(parent[name])
    return len(fitting)
