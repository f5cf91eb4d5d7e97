"""diffusers' Flux transformer with the parameters of an MMDiT: the same function, other names.

The released model rotates the channel pairs (j, j + D/2) of a head, Flux the pairs (2j, 2j + 1).
Attention sees only products of q and k, so a permutation of the channels of both, in their
projections and norm scales, makes the two the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from opensora_fast.models import MMDiTConfig
from opensora_fast.models.mmdit.position import rope_tables

from .draw import filled

_STREAMS = (
    # ours, attention projections, output, norms of q and k, modulation, MLP
    ("img", ("to_q", "to_k", "to_v"), "to_out.0", ("norm_q", "norm_k"), "norm1", "ff"),
    (
        "txt",
        ("add_q_proj", "add_k_proj", "add_v_proj"),
        "to_add_out",
        ("norm_added_q", "norm_added_k"),
        "norm1_context",
        "ff_context",
    ),
)
_EMBEDDERS = {
    "img_in": "x_embedder",
    "txt_in": "context_embedder",
    "time_in.in_layer": "time_text_embed.timestep_embedder.linear_1",
    "time_in.out_layer": "time_text_embed.timestep_embedder.linear_2",
    "vector_in.in_layer": "time_text_embed.text_embedder.linear_1",
    "vector_in.out_layer": "time_text_embed.text_embedder.linear_2",
    "final_layer.linear": "proj_out",
}


def flux_model(config: MMDiTConfig, weights: Mapping[str, Tensor]) -> Any:
    """Diffusers' model with our parameters.

    Args:
        config: without condition tokens, guidance embedding and fused projections.
        weights: parameters under our names.

    Returns:
        A `FluxTransformer2DModel` for inference.
    """
    import diffusers

    build: Any = diffusers.FluxTransformer2DModel
    with torch.device("meta"):
        model = build(
            in_channels=config.in_channels,
            num_layers=config.depth,
            num_single_layers=config.depth_single_blocks,
            attention_head_dim=config.head_dim,
            num_attention_heads=config.num_heads,
            joint_attention_dim=config.context_in_dim,
            pooled_projection_dim=config.vec_in_dim,
            axes_dims_rope=config.axes_dim,
        )
    # Nothing of the original's angles is a parameter: they are made here, as ours are.
    model.pos_embed = _Positions(config)
    filled(model, flux_weights(config, weights))
    return model


def flux_call(model: Any) -> Any:
    """A function with the arguments of our model."""

    def run(
        img: Tensor,
        img_ids: Tensor,
        txt: Tensor,
        txt_ids: Tensor,
        timesteps: Tensor,
        y_vec: Tensor,
    ) -> Tensor:
        out: Tensor = model(
            hidden_states=img,
            encoder_hidden_states=txt,
            pooled_projections=y_vec,
            timestep=timesteps,
            img_ids=img_ids[0],
            txt_ids=txt_ids[0],
            return_dict=False,
        )[0]
        return out

    return run


def flux_weights(config: MMDiTConfig, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our parameters under diffusers' names, q and k permuted within their heads."""
    renamed: dict[str, Tensor] = {}

    def take(ours: str, theirs: str, order: Tensor | None = None) -> None:
        for part in ("weight", "bias"):
            value = weights[f"{ours}.{part}"]
            renamed[f"{theirs}.{part}"] = value if order is None else value[order]

    pairs = _pairs(config)
    rows = _all_heads(pairs, config)
    for ours, theirs in _EMBEDDERS.items():
        take(ours, theirs)
    # Ours gives shift before scale, Flux's last norm scale before shift.
    size = config.hidden_size
    swapped = torch.cat([torch.arange(size, 2 * size), torch.arange(size)])
    take("final_layer.adaLN_modulation.1", "norm_out.linear", swapped)
    for index in range(config.depth):
        ours, theirs = f"double_blocks.{index}", f"transformer_blocks.{index}"
        for stream, projections, out, norms, modulation, mlp in _STREAMS:
            take(f"{ours}.{stream}_mod.lin", f"{theirs}.{modulation}.linear")
            for part, name in zip("qkv", projections, strict=True):
                order = rows if part in "qk" else None
                take(f"{ours}.{stream}_attn.{part}_proj", f"{theirs}.attn.{name}", order)
            take(f"{ours}.{stream}_attn.proj", f"{theirs}.attn.{out}")
            take(f"{ours}.{stream}_mlp.0", f"{theirs}.{mlp}.net.0.proj")
            take(f"{ours}.{stream}_mlp.2", f"{theirs}.{mlp}.net.2")
            for kind, name in zip(("query", "key"), norms, strict=True):
                scale = weights[f"{ours}.{stream}_attn.norm.{kind}_norm.scale"]
                renamed[f"{theirs}.attn.{name}.weight"] = scale[pairs]
    for index in range(config.depth_single_blocks):
        ours, theirs = f"single_blocks.{index}", f"single_transformer_blocks.{index}"
        take(f"{ours}.modulation.lin", f"{theirs}.norm.linear")
        take(f"{ours}.q_proj", f"{theirs}.attn.to_q", rows)
        take(f"{ours}.k_proj", f"{theirs}.attn.to_k", rows)
        take(f"{ours}.v_mlp", f"{theirs}.attn.to_v", torch.arange(size))
        take(
            f"{ours}.v_mlp",
            f"{theirs}.proj_mlp",
            torch.arange(size, size + config.mlp_hidden_size),
        )
        take(f"{ours}.linear2", f"{theirs}.proj_out")
        for kind, name in (("query", "norm_q"), ("key", "norm_k")):
            scale = weights[f"{ours}.norm.{kind}_norm.scale"]
            renamed[f"{theirs}.attn.{name}.weight"] = scale[pairs]
    return renamed


def _pairs(config: MMDiTConfig) -> Tensor:
    """Channel of ours that becomes each channel of a head of theirs."""
    order = torch.arange(config.head_dim)
    if config.use_liger_rope:
        order = order.reshape(2, -1).T.flatten()
    return order


def _all_heads(pairs: Tensor, config: MMDiTConfig) -> Tensor:
    starts = torch.arange(config.num_heads)[:, None] * config.head_dim
    return (starts + pairs).flatten()


class _Positions(nn.Module):
    """Flux's position embedding with the angles of our model."""

    def __init__(self, config: MMDiTConfig) -> None:
        super().__init__()
        self._config = config

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines `[L, D]`, each twice."""
        dtype = torch.float32 if self._config.use_liger_rope else torch.float64
        cos, sin = rope_tables(ids, self._config.axes_dim, self._config.theta, dtype)
        return cos.repeat_interleave(2, dim=-1), sin.repeat_interleave(2, dim=-1)
