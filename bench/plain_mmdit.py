"""The MMDiT in plain torch, from the same parameters: the peer of our transformer, and its oracle.

Nothing is fused and nothing is kept between calls: norms, modulations, rotations and gates are
written as in the original. Parameters come as a dictionary under the original's names.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from opensora_fast.models import MMDiTConfig
from opensora_fast.models.mmdit.position import rope_tables, timestep_embedding

from .eager import attention, layer_norm_modulate, qk_norm_rope

_EPS = 1e-6
_TIME_DIM = 256


class PlainMMDiT:
    """Called like `MMDiT`, without guidance embedding and with separate q, k, v projections.

    Args:
        config: sizes.
        weights: parameters by name, all of one dtype.

    Raises:
        ValueError: a variant that is not written here.
    """

    def __init__(self, config: MMDiTConfig, weights: Mapping[str, Tensor]) -> None:
        if config.guidance_embed or config.fused_qkv:
            raise ValueError("PlainMMDiT: guidance_embed and fused_qkv are not written here")
        self.config = config
        self._weights = weights
        self._layout = "half" if config.use_liger_rope else "interleaved"

    def __call__(
        self,
        img: Tensor,
        img_ids: Tensor,
        txt: Tensor,
        txt_ids: Tensor,
        timesteps: Tensor,
        y_vec: Tensor,
        cond: Tensor | None = None,
        guidance: Tensor | None = None,
    ) -> Tensor:
        """Predict the velocity; arguments as `MMDiT.forward`'s."""
        x = self._linear("img_in", img)
        if self.config.cond_embed:
            assert cond is not None
            x = x + self._linear("cond_in", cond)
        time = timestep_embedding(timesteps, _TIME_DIM).to(img.dtype)
        vec = self._embed("time_in", time) + self._embed("vector_in", y_vec)
        tokens = self._linear("txt_in", txt)
        ids = torch.cat([txt_ids, img_ids], dim=1)
        angle_dtype = torch.float32 if self.config.use_liger_rope else torch.float64
        tables = rope_tables(ids, self.config.axes_dim, self.config.theta, angle_dtype)
        if img.dtype == torch.float64:
            tables = (tables[0].double(), tables[1].double())
        for index in range(self.config.depth):
            x, tokens = self._double(f"double_blocks.{index}", x, tokens, vec, tables)
        joint = torch.cat([tokens, x], dim=1)
        for index in range(self.config.depth_single_blocks):
            joint = self._single(f"single_blocks.{index}", joint, vec, tables)
        x = joint[:, tokens.shape[1] :]
        modulation = self._linear("final_layer.adaLN_modulation.1", F.silu(vec))
        return self._linear("final_layer.linear", _modulated(x, modulation.chunk(2, dim=-1)))

    def _double(
        self, name: str, img: Tensor, txt: Tensor, vec: Tensor, tables: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        streams = {"txt": txt, "img": img}
        mods, parts = {}, []
        for stream, x in streams.items():
            mods[stream] = self._linear(f"{name}.{stream}_mod.lin", F.silu(vec)).chunk(6, dim=-1)
            normed = _modulated(x, mods[stream][:2])
            parts.append(
                [
                    self._linear(f"{name}.{stream}_attn.{part}_proj", normed).unflatten(
                        -1, (-1, self.config.head_dim)
                    )
                    for part in "qkv"
                ]
            )
        num_txt = txt.shape[1]
        q, k, v = (torch.cat(pair, dim=1) for pair in zip(*parts, strict=True))
        rotated = []
        for stream, span in (("txt", slice(0, num_txt)), ("img", slice(num_txt, None))):
            part = tuple(table[:, span] for table in tables)
            rotated.append(self._rotate(f"{name}.{stream}_attn.norm", q[:, span], k[:, span], part))
        q, k = (torch.cat(pair, dim=1) for pair in zip(*rotated, strict=True))
        mixed = attention(q, k, v).flatten(2)
        out = []
        for stream, span in (("img", slice(num_txt, None)), ("txt", slice(0, num_txt))):
            _, _, gate, shift, scale, mlp_gate = mods[stream]
            x = streams[stream]
            x = x + gate[:, None] * self._linear(f"{name}.{stream}_attn.proj", mixed[:, span])
            hidden = self._linear(f"{name}.{stream}_mlp.0", _modulated(x, (shift, scale)))
            hidden = self._linear(f"{name}.{stream}_mlp.2", F.gelu(hidden, approximate="tanh"))
            out.append(x + mlp_gate[:, None] * hidden)
        return out[0], out[1]

    def _single(self, name: str, x: Tensor, vec: Tensor, tables: tuple[Tensor, Tensor]) -> Tensor:
        shift, scale, gate = self._linear(f"{name}.modulation.lin", F.silu(vec)).chunk(3, dim=-1)
        normed = _modulated(x, (shift, scale))
        heads = (-1, self.config.head_dim)
        q, k = (self._linear(f"{name}.{part}_proj", normed).unflatten(-1, heads) for part in "qk")
        v, mlp = self._linear(f"{name}.v_mlp", normed).split(
            [self.config.hidden_size, self.config.mlp_hidden_size], dim=-1
        )
        q, k = self._rotate(f"{name}.norm", q, k, tables)
        mixed = attention(q, k, v.unflatten(-1, heads)).flatten(2)
        hidden = torch.cat([mixed, F.gelu(mlp, approximate="tanh")], dim=-1)
        return x + gate[:, None] * self._linear(f"{name}.linear2", hidden)

    def _rotate(
        self, name: str, q: Tensor, k: Tensor, tables: tuple[Tensor, ...]
    ) -> tuple[Tensor, Tensor]:
        scales = (
            self._weights[f"{name}.query_norm.scale"],
            self._weights[f"{name}.key_norm.scale"],
        )
        return qk_norm_rope(q, k, *scales, tables[0], tables[1], self._layout, _EPS)

    def _embed(self, name: str, x: Tensor) -> Tensor:
        return self._linear(f"{name}.out_layer", F.silu(self._linear(f"{name}.in_layer", x)))

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self._weights[f"{name}.weight"], self._weights.get(f"{name}.bias"))


def _modulated(x: Tensor, shift_scale: tuple[Tensor, ...]) -> Tensor:
    return layer_norm_modulate(x, shift_scale[0], shift_scale[1], _EPS)
