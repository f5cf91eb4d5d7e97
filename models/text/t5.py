"""The T5 encoder: a text token of the MMDiT for every token of the prompt."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from .encoder import TextEncoder


class T5Encoder(TextEncoder):
    """Encoder half of T5 v1.1: `encode(texts) -> [B, max_length, M]`, the last hidden state.

    Padding is attended to, as in the original: no mask is passed, and the released models were
    trained on what comes out.

    Source:
        Raffel et al. 2020 (arXiv 1910.10683); the released models use google/t5-v1_1-xxl.
    """

    default_max_length: ClassVar[int] = 512

    def forward(self, ids: Tensor) -> Tensor:
        """Encode token ids.

        Args:
            ids: `[B, L]` int64.

        Returns:
            Last hidden state `[B, L, M]` of the parameters' dtype.
        """
        hidden: Tensor = self.hf_module(input_ids=ids, attention_mask=None).last_hidden_state
        return hidden

    @classmethod
    def _network_class(cls) -> Any:
        from transformers import T5EncoderModel

        return T5EncoderModel

    @classmethod
    def _load_tokenizer(cls, folder: Path) -> Any:
        if (folder / "spiece.model").is_file() and not (folder / "tokenizer.json").is_file():
            # A folder as the original's: only the SentencePiece model, no tokenizer of its own.
            from .sentencepiece import build_t5_tokenizer

            return build_t5_tokenizer(folder / "spiece.model")
        return super()._load_tokenizer(folder)
