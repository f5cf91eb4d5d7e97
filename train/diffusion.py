"""Stage: the transformer, by rectified flow on cached latents and cached text.

``x_t = (1 - t) x_0 + (1 - (1 - s)(1 - t)) n``, target ``v = (1 - s) n - x_0`` with s = 1e-5; t is
logit-normal, then shifted towards noise as in sampling.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from opensora_fast.models import MMDiT
from opensora_fast.models.mmdit.patchify import latent_position_ids, pack, text_position_ids

from .config import DiffusionConfig
from .optim import Ema, muon_and_adamw, scale_learning_rates
from .parent import Parent, adopt

ADAMW_PREFIXES = ("img_in", "cond_in", "final_layer.linear")


@dataclass(frozen=True, kw_only=True, slots=True)
class DiffusionData:
    """What the transformer learns from.

    Args:
        clips, images: latents by scene and clip, see `cache_latents`.
        txt: T5 states ``[S + 1, L, M]``; the last row is the empty sentence.
        vec: pooled CLIP vectors ``[S + 1, M]``, likewise.
    """

    clips: Tensor
    images: Tensor
    txt: Tensor
    vec: Tensor


@torch.no_grad()
def initialize(model: MMDiT) -> None:
    """Start with blocks that pass their input on: zero gates, zero conditions, zero output."""
    for name, p in model.named_parameters():
        if name.endswith(
            ("mod.lin.weight", "mod.lin.bias", "modulation.lin.weight", "modulation.lin.bias")
        ):
            p.zero_()
        if name.startswith(("cond_in", "final_layer")):
            p.zero_()


class DiffusionStage:
    """Velocity matching with text dropout and first-frame conditions.

    Args:
        config: model, steps and shares.
        data: latents and text.
        seed: of weights, batches and noise.
        precision: dtype of the forward pass.
    """

    name = "diffusion"

    def __init__(
        self, config: DiffusionConfig, data: DiffusionData, seed: int, precision: torch.dtype
    ) -> None:
        self.config, self.data, self.seed, self.precision = config, data, seed, precision
        torch.manual_seed(seed)
        self.model = MMDiT(config.model)
        initialize(self.model)
        self.num_steps = config.num_steps
        self.parameters: dict[str, Tensor] = dict(self.model.named_parameters())
        if config.init_from:
            weights = Parent(config.init_from).transformer().state_dict()
            if not adopt(self.parameters, weights, () if config.init_outer else ADAMW_PREFIXES):
                raise ValueError(f"diffusion: no weight of {config.init_from!r} fits")
        self.optimizers: list[torch.optim.Optimizer] = [
            *muon_and_adamw(
                self.parameters, ADAMW_PREFIXES, muon_lr=config.muon_lr, adamw_lr=config.adamw_lr
            )
        ]
        self.ema = Ema(self.parameters, config.ema_decay)
        _, _, _, t, h, w = data.clips.shape
        self.img_ids = latent_position_ids(config.batch_size, (t, h, w), config.model.patch_size)
        self.txt_ids = text_position_ids(config.batch_size, data.txt.shape[1])

    def step(self, step: int) -> dict[str, float]:
        """One step on a batch of latents."""
        self._set_lr(step)
        rng = np.random.default_rng((self.seed, 4, step))
        loss = self._loss(rng, torch.Generator().manual_seed(int(rng.integers(2**62))))
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.parameters.values(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        return {"loss": loss.item(), "grad_norm": norm.item()}

    def _loss(self, rng: np.random.Generator, generator: torch.Generator) -> Tensor:
        count, sigma, p = (
            self.config.batch_size,
            self.config.sigma_min,
            self.config.model.patch_size,
        )
        scenes = torch.from_numpy(rng.integers(len(self.data.clips), size=count))
        clips = torch.from_numpy(rng.integers(self.data.clips.shape[1], size=count))
        x0 = self.data.clips[scenes, clips].float()
        cond = self._condition(x0, self.data.images[scenes, clips].float(), rng)
        dropped = torch.from_numpy(rng.random(count) < self.config.text_dropout)
        rows = torch.where(dropped, len(self.data.clips), scenes)
        t = torch.randn(count, generator=generator).sigmoid()
        t = self.config.shift_alpha * t / (1.0 + (self.config.shift_alpha - 1.0) * t)
        noise = torch.randn(x0.shape, generator=generator)
        r = (1.0 - t).view(-1, 1, 1, 1, 1)
        x_t = r * x0 + (1.0 - (1.0 - sigma) * r) * noise
        target = pack((1.0 - sigma) * noise - x0, p)
        with torch.autocast("cpu", self.precision, enabled=self.precision is not torch.float32):
            velocity = self.model(
                pack(x_t, p),
                self.img_ids,
                self.data.txt[rows],
                self.txt_ids,
                t,
                self.data.vec[rows],
                cond=pack(cond, p),
            )
        return F.mse_loss(velocity.float(), target)

    def _condition(self, x0: Tensor, images: Tensor, rng: np.random.Generator) -> Tensor:
        """Mask and reference ``[B, 1 + C, t, h, w]``: the first frame for a share, else zeros."""
        cond = torch.zeros(len(x0), 1 + x0.shape[1], *x0.shape[2:])
        given = torch.from_numpy(rng.random(len(x0)) < self.config.image_share)
        cond[given, :1, :1] = 1.0
        cond[given, 1:, :1] = images[given]
        return cond

    def _set_lr(self, step: int) -> None:
        """Linear warm-up, constant, then linear to `final_lr`."""
        config = self.config
        left = (1.0 - step / config.num_steps) / (1.0 - config.decay_from)
        factor = min(1.0, (step + 1) / config.warmup_steps) * max(config.final_lr, min(1.0, left))
        scale_learning_rates(self.optimizers, factor)
