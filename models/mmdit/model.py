"""The MMDiT: text and noisy latent tokens in, velocity of the latent tokens out.

Axes: B batch, L tokens, M model dim.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from opensora_fast.kernels import attention

from ..checkpoint import CheckpointMixin
from .config import MMDiTConfig
from .layers import (
    AttentionFn,
    DoubleStreamBlock,
    FinalLayer,
    MLPEmbedder,
    Rope,
    SingleStreamBlock,
)
from .position import rope_tables, timestep_embedding

_TIME_DIM = 256


@dataclass(frozen=True, slots=True)
class MMDiTContext:
    """What does not change from one sampling step to the next; made by `MMDiT.prepare`.

    Attributes:
        txt: projected text tokens `[B, L_txt, M]`.
        vec_parts: what is added to the time embedding, in order, each `[B, M]`.
        cond: projected condition tokens `[B, L_img, M]`, or None.
        rope: rotary tables of text and image tokens.
    """

    txt: Tensor
    vec_parts: tuple[Tensor, ...]
    cond: Tensor | None
    rope: Rope


class MMDiT(CheckpointMixin[MMDiTConfig], nn.Module):
    """Multimodal diffusion transformer over packed video latents.

    Double-stream blocks keep image and text apart except in attention; single-stream blocks then
    run on both together. There is no attention mask: every token sees every token.

    Args:
        config: sizes and variants; the default is the released model.
        attention_fn: `(q, k, v) -> out` over `[B, L, N, D]`; by default the library's attention.

    Numerics:
        Every linear, norm, gate and residual rounds to the parameters' dtype; rotation, norm
        statistics and the timestep embedding are computed in fp32.

    Source:
        Esser et al. 2024 (arXiv 2403.03206); Open-Sora 2.0 (arXiv 2503.09642), section 3.
    """

    config_class: ClassVar[type[MMDiTConfig]] = MMDiTConfig

    def __init__(
        self, config: MMDiTConfig | None = None, attention_fn: AttentionFn = attention
    ) -> None:
        super().__init__()
        self.config = config = config or MMDiTConfig()
        size = config.hidden_size
        self.img_in = nn.Linear(config.in_channels, size)
        self.time_in = MLPEmbedder(_TIME_DIM, size)
        self.vector_in = MLPEmbedder(config.vec_in_dim, size)
        if config.guidance_embed:
            self.guidance_in = MLPEmbedder(_TIME_DIM, size)
        if config.cond_embed:
            # Zero, so that a model trained without conditions starts unchanged.
            self.cond_in = nn.Linear(config.cond_channels, size)
            nn.init.zeros_(self.cond_in.weight)
            nn.init.zeros_(self.cond_in.bias)
        self.txt_in = nn.Linear(config.context_in_dim, size)
        self.double_blocks = nn.ModuleList(
            DoubleStreamBlock(config, attention_fn) for _ in range(config.depth)
        )
        self.single_blocks = nn.ModuleList(
            SingleStreamBlock(config, attention_fn) for _ in range(config.depth_single_blocks)
        )
        self.final_layer = FinalLayer(config)

    def prepare(
        self,
        img_ids: Tensor,
        txt: Tensor,
        txt_ids: Tensor,
        y_vec: Tensor,
        cond: Tensor | None = None,
        guidance: Tensor | None = None,
    ) -> MMDiTContext:
        """Compute once what is constant over the sampling steps.

        Args:
            img_ids: positions of the image tokens `[B, L_img, 3]`.
            txt: text tokens `[B, L_txt, context_in_dim]`.
            txt_ids: positions of the text tokens `[B, L_txt, 3]`.
            y_vec: pooled text `[B, vec_in_dim]`.
            cond: condition tokens `[B, L_img, cond_channels]`; ignored without `cond_embed`.
            guidance: guidance scale `[B]`; ignored without `guidance_embed`.

        Returns:
            The context that `forward` takes; passing it changes no bit of the result.

        Numerics:
            Positions that are expanded over the batch (stride 0) give one table for all samples.

        Raises:
            ValueError: txt is not three-dimensional, or an input that the config needs is missing.
        """
        if txt.dim() != 3:
            raise ValueError(f"MMDiT: txt must be [B, L, channels], got shape {list(txt.shape)}")
        vec_parts = [self.vector_in(y_vec)]
        if self.config.guidance_embed:
            if guidance is None:
                raise ValueError("MMDiT: this model (guidance_embed) needs guidance, got None")
            vec_parts.insert(0, self.guidance_in(self._embed_scalar(guidance)))
        tokens = None
        if self.config.cond_embed:
            if cond is None:
                raise ValueError("MMDiT: this model (cond_embed) needs cond, got None")
            tokens = self.cond_in(cond)
        return MMDiTContext(
            txt=self.txt_in(txt),
            vec_parts=tuple(vec_parts),
            cond=tokens,
            rope=self._rope(txt_ids, img_ids),
        )

    def forward(
        self,
        img: Tensor,
        img_ids: Tensor,
        txt: Tensor,
        txt_ids: Tensor,
        timesteps: Tensor,
        y_vec: Tensor,
        cond: Tensor | None = None,
        guidance: Tensor | None = None,
        *,
        context: MMDiTContext | None = None,
    ) -> Tensor:
        """Predict the velocity (noise minus data) of the image tokens.

        Args:
            img: packed noisy latent `[B, L_img, in_channels]`, in the parameters' dtype.
            img_ids: positions (frame, row, column) `[B, L_img, 3]`.
            txt: text tokens `[B, L_txt, context_in_dim]`.
            txt_ids: positions of the text tokens `[B, L_txt, 3]`, zeros.
            timesteps: `[B]`, 1 is noise and 0 is data.
            y_vec: pooled text `[B, vec_in_dim]`.
            cond: packed mask and reference latent `[B, L_img, cond_channels]`; needed with
                `cond_embed`, ignored without.
            guidance: guidance scale `[B]`; needed with `guidance_embed`, ignored without.
            context: what `prepare` returned for the same positions, text, cond and guidance;
                these are then not looked at again.

        Returns:
            Velocity `[B, L_img, in_channels]`.

        Raises:
            ValueError: img or txt is not three-dimensional, or cond or guidance is missing.
        """
        if img.dim() != 3:
            raise ValueError(f"MMDiT: img must be [B, L, channels], got shape {list(img.shape)}")
        if context is None:
            context = self.prepare(img_ids, txt, txt_ids, y_vec, cond, guidance)
        activated = F.silu(self.embed_conditioning(timesteps, context))
        x = self.img_in(img)
        if context.cond is not None:
            x = x + context.cond
        tokens = context.txt
        for block in self.double_blocks:
            x, tokens = block(x, tokens, activated, context.rope)
        num_txt = tokens.shape[1]
        x = torch.cat([tokens, x], dim=1)
        for block in self.single_blocks:
            x = block(x, activated, context.rope)
        velocity: Tensor = self.final_layer(x[:, num_txt:], activated)
        return velocity

    def embed_conditioning(self, timesteps: Tensor, context: MMDiTContext) -> Tensor:
        """Sum the embeddings of time, guidance and pooled text, in this order.

        Args:
            timesteps: `[B]`.
            context: what `prepare` returned.

        Returns:
            The conditioning vector `[B, M]`, before the SiLU of the modulations.
        """
        vec: Tensor = self.time_in(self._embed_scalar(timesteps))
        for part in context.vec_parts:
            vec = vec + part
        return vec

    def _embed_scalar(self, value: Tensor) -> Tensor:
        """Embed times or guidance scales `[B]`, in the dtype of the embedders."""
        embedding = timestep_embedding(value, _TIME_DIM)
        return embedding.to(self.time_in.in_layer.weight.dtype)

    def _rope(self, txt_ids: Tensor, img_ids: Tensor) -> Rope:
        """Tables of all tokens, text first; `[L, D/2]` when all samples have the same positions."""
        shared = all(ids.shape[0] == 1 or ids.stride(0) == 0 for ids in (txt_ids, img_ids))
        ids = torch.cat([txt_ids[0], img_ids[0]] if shared else [txt_ids, img_ids], dim=-2)
        half = self.config.use_liger_rope
        angle_dtype = torch.float32 if half else torch.float64
        cos, sin = rope_tables(ids, self.config.axes_dim, self.config.theta, angle_dtype)
        return Rope(cos, sin, "half" if half else "interleaved")
