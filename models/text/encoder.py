"""What both text encoders share: a tokenizer, a network of transformers, a fixed length."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from ..checkpoint import CheckpointError

_TOKENIZER_FILES = ("tokenizer.json", "spiece.model", "vocab.json")

EncoderT = TypeVar("EncoderT", bound="TextEncoder")


class TextEncoder(nn.Module):
    """A frozen text network with its tokenizer; every text becomes `max_length` token ids.

    Args:
        hf_module: the network, of the transformers library.
        tokenizer: its tokenizer.
        max_length: token ids per text; longer texts are cut, shorter ones padded.

    Raises:
        ValueError: a `max_length` below 1 or beyond the network's positions.
    """

    default_max_length: ClassVar[int]

    def __init__(self, hf_module: nn.Module, tokenizer: Any, max_length: int) -> None:
        super().__init__()
        if max_length < 1:
            raise ValueError(
                f"{type(self).__name__}: max_length must be at least 1, got {max_length}"
            )
        positions = getattr(getattr(hf_module, "config", None), "max_position_embeddings", None)
        if positions is not None and max_length > positions:
            raise ValueError(
                f"{type(self).__name__}: max_length {max_length} is beyond the network's "
                f"{positions} positions"
            )
        self.hf_module = hf_module.requires_grad_(False)
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.eval()

    @classmethod
    def from_pretrained(
        cls: type[EncoderT],
        folder: str | os.PathLike[str],
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        max_length: int | None = None,
    ) -> EncoderT:
        """Load network and tokenizer from a folder, without a network connection.

        Args:
            folder: `config.json`, weights and tokenizer files, as transformers saves them.
            device: of the parameters; CPU by default.
            dtype: of all parameters; as stored by default.
            max_length: token ids per text; by default the original's.

        Returns:
            The encoder, in evaluation mode, without gradients.

        Raises:
            CheckpointError: the folder does not hold what is needed.
            ValueError: `max_length` does not fit the network.
        """
        path = Path(folder)
        if not path.is_dir():
            raise CheckpointError(f"there is no folder {path} to load a {cls.__name__} from")
        try:
            with _without_progress_bar():
                network, report = cls._network_class().from_pretrained(
                    path, dtype=dtype or "auto", local_files_only=True, output_loading_info=True
                )
            tokenizer = cls._load_tokenizer(path)
        except (OSError, ValueError, ImportError, RuntimeError, SafetensorError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
            raise CheckpointError(f"{path} holds no complete {cls.__name__}: {reason}") from error
        # transformers fills what a file lacks with random numbers.
        if report["missing_keys"]:
            lost = sorted(report["missing_keys"])
            raise CheckpointError(
                f"{path} holds no complete {cls.__name__}: {len(lost)} missing, first {lost[0]}"
            )
        # A second cast: transformers keeps a few layers of T5 in fp32, the original does not.
        network = network.to(device=device, dtype=dtype)
        return cls(network, tokenizer, max_length or cls.default_max_length)

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Turn texts into token ids, cut or padded to `max_length`.

        Args:
            texts: at least one; "" is the empty prompt.

        Returns:
            `[B, max_length]` int64, on the network's device.

        Raises:
            ValueError: no text, or something that is not a list of strings.
        """
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            raise ValueError(f"{type(self).__name__}: expected a list of strings, got {texts!r}")
        if not texts:
            raise ValueError(f"{type(self).__name__}: expected at least one text, got none")
        ids: Tensor = self.tokenizer(
            list(texts),
            truncation=True,
            max_length=self.max_length,
            padding="max_length",
            return_tensors="pt",
        )["input_ids"]
        return ids.to(next(self.hf_module.parameters()).device)

    @torch.no_grad()
    def encode(self, texts: Sequence[str]) -> Tensor:
        """Encode texts, without gradients.

        Args:
            texts: at least one; "" is the empty prompt.

        Returns:
            What `forward` returns for their token ids.

        Raises:
            ValueError: no text, or something that is not a list of strings.
        """
        encoded: Tensor = self(self.tokenize(texts))
        return encoded

    @abstractmethod
    def forward(self, ids: Tensor) -> Tensor:
        """Encode token ids `[B, L]`."""

    @classmethod
    @abstractmethod
    def _network_class(cls) -> Any:
        """The class of transformers that the network is an instance of."""

    @classmethod
    def _load_tokenizer(cls, folder: Path) -> Any:
        """The tokenizer in the folder."""
        # Without files, transformers would make up a tokenizer with next to no vocabulary.
        if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
            raise OSError(f"none of {', '.join(_TOKENIZER_FILES)} is there")
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(folder, local_files_only=True)


@contextmanager
def _without_progress_bar() -> Iterator[None]:
    """Keep transformers from drawing a bar of its own while it reads weights."""
    from transformers.utils import logging

    was_on = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_on:
            logging.enable_progress_bar()
