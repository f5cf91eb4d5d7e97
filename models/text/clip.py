"""The CLIP text encoder: one vector for the whole prompt."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from .encoder import TextEncoder


class CLIPEncoder(TextEncoder):
    """Text tower of CLIP: `encode(texts) -> [B, M]`, the state at the first end token.

    Source:
        Radford et al. 2021 (arXiv 2103.00020); the released models use clip-vit-large-patch14.
    """

    default_max_length: ClassVar[int] = 77

    def forward(self, ids: Tensor) -> Tensor:
        """Encode token ids.

        Args:
            ids: `[B, L]` int64.

        Returns:
            Pooled output `[B, M]` of the parameters' dtype.
        """
        pooled: Tensor = self.hf_module(input_ids=ids, attention_mask=None).pooler_output
        return pooled

    @classmethod
    def _network_class(cls) -> Any:
        from transformers import CLIPTextModel

        return CLIPTextModel
