"""Stage: small T5 and CLIP text encoders that know the language of the shapes.

Both are transformers' own classes in small configurations over bytes. The warm-up lets linear heads
read the five attributes off the mean T5 state and off the CLIP vector; the heads are thrown away,
the encoders are then frozen, so that every sentence has to be encoded once only.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

from opensora_fast.models.text.bytes_tokenizer import (
    EOS_ID,
    FIRST_BYTE_ID,
    PAD_ID,
    build_byte_tokenizer,
)

from .config import TextConfig
from .optim import Ema, scale_learning_rates
from .parent import Parent
from .shapes import COLORS, GROUNDS, MOTIONS, SHAPES, SIZES, Scene, test_scenes, training_scenes

VOCABULARY = FIRST_BYTE_ID + 256
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "size": tuple(SIZES),
    "color": tuple(COLORS),
    "shape": SHAPES,
    "motion": MOTIONS,
    "ground": tuple(GROUNDS),
}


def build_t5(config: TextConfig) -> T5EncoderModel:
    """A T5 v1.1 encoder over bytes; random weights."""
    model = T5EncoderModel(
        T5Config(
            vocab_size=VOCABULARY,
            d_model=config.width,
            d_kv=config.width // config.num_heads,
            d_ff=3 * config.width,
            num_layers=config.num_layers,
            num_heads=config.num_heads,
            relative_attention_max_distance=64,
            dropout_rate=0.0,
            feed_forward_proj="gated-gelu",
            pad_token_id=PAD_ID,
            eos_token_id=EOS_ID,
        )
    )
    embeddings = model.get_input_embeddings()
    assert isinstance(embeddings, nn.Embedding)
    nn.init.normal_(embeddings.weight, std=0.5)
    return model


def build_clip(config: TextConfig) -> CLIPTextModel:
    """A CLIP text model over bytes; random weights."""
    model = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=VOCABULARY,
            hidden_size=config.width,
            intermediate_size=4 * config.width,
            projection_dim=config.width,
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.num_heads,
            max_position_embeddings=config.max_length,
            pad_token_id=PAD_ID,
            bos_token_id=EOS_ID,
            eos_token_id=EOS_ID,
        )
    )
    embeddings = model.get_input_embeddings()
    assert isinstance(embeddings, nn.Embedding)
    nn.init.normal_(embeddings.weight, std=0.3)
    return model


def tokenize(texts: list[str], max_length: int) -> Tensor:
    """Ids ``[B, max_length]``, padded and truncated as the original pads and truncates."""
    tokens = build_byte_tokenizer()(
        texts, max_length=max_length, padding="max_length", truncation=True
    )
    return torch.tensor(tokens["input_ids"])


def _labels(scenes: list[Scene]) -> Tensor:
    rows = [
        [values.index(getattr(scene, name)) for name, values in ATTRIBUTES.items()]
        for scene in scenes
    ]
    return torch.tensor(rows)


class TextStage:
    """Warm-up of both encoders on the training sentences.

    Args:
        config: sizes and steps.
        seed: of weights and batches.
    """

    name = "text"

    def __init__(self, config: TextConfig, seed: int) -> None:
        self.config, self.seed = config, seed
        torch.manual_seed(seed)
        self.t5, self.clip = build_t5(config), build_clip(config)
        counts = [len(values) for values in ATTRIBUTES.values()]
        self.heads = nn.ModuleList(nn.Linear(config.width, sum(counts)) for _ in range(2))
        self.counts = counts
        self.num_steps = config.num_steps
        modules = nn.ModuleDict({"t5": self.t5, "clip": self.clip, "heads": self.heads})
        self.parameters: dict[str, Tensor] = dict(modules.named_parameters())
        self.optimizers: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(self.parameters.values(), lr=config.lr, weight_decay=0.0)
        ]
        self.ema: Ema | None = None
        scenes = training_scenes()
        self.ids = tokenize([scene.prompt for scene in scenes], config.max_length)
        self.labels = _labels(scenes)

    def step(self, step: int) -> dict[str, float]:
        """One step on a batch of sentences."""
        rng = np.random.default_rng((self.seed, 2, step))
        rows = torch.from_numpy(rng.integers(len(self.ids), size=self.config.batch_size))
        warmup = min(1.0, (step + 1) / self.config.warmup_steps)
        decay = max(0.05, min(1.0, 2.0 * (1.0 - step / self.num_steps)))
        scale_learning_rates(self.optimizers, warmup * decay)
        losses = [
            F.cross_entropy(part, self.labels[rows, i])
            for logits in self._logits(self.ids[rows])
            for i, part in enumerate(logits.split(self.counts, dim=1))
        ]
        loss = torch.stack(losses).sum()
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters.values(), 1.0)
        self.optimizers[0].step()
        self.optimizers[0].zero_grad()
        return {"loss": loss.item()}

    def adopt(self, parent: Parent) -> None:
        """Take the encoders of another model as they are.

        Raises:
            ValueError: they have other sizes.
        """
        for own, other in zip((self.t5, self.clip), parent.text_encoders(), strict=True):
            weights = other.state_dict()
            mine = own.state_dict()
            if {n: p.shape for n, p in weights.items()} != {n: p.shape for n, p in mine.items()}:
                raise ValueError(f"text: the encoders of {parent.folder} have other sizes")
            own.load_state_dict(weights)

    def _logits(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        t5, clip = self.encode(ids)
        return self.heads[0](t5.mean(dim=1)), self.heads[1](clip)

    def encode(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """T5 states ``[B, L, M]`` and the pooled CLIP vector ``[B, M]``.

        Padding is attended to, as in the original.
        """
        return self.t5(input_ids=ids).last_hidden_state, self.clip(input_ids=ids).pooler_output

    @torch.no_grad()
    def accuracy(self) -> dict[str, float]:
        """Share of test sentences that the heads read right, by encoder and attribute."""
        scenes = test_scenes()
        ids, labels = (
            tokenize([scene.prompt for scene in scenes], self.config.max_length),
            _labels(scenes),
        )
        found = {}
        for encoder, logits in zip(("t5", "clip"), self._logits(ids), strict=True):
            for i, (name, part) in enumerate(
                zip(ATTRIBUTES, logits.split(self.counts, dim=1), strict=True)
            ):
                found[f"{encoder}.{name}"] = (
                    (part.argmax(dim=1) == labels[:, i]).float().mean().item()
                )
        return found
