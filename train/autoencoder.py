"""Stage: the video autoencoder, images first, then ever longer clips."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from opensora_fast.models import HunyuanVAEConfig, VideoDCAEConfig

from . import hunyuan_vae, video_dc_ae
from .clips import ClipSource
from .config import AutoencoderConfig, Phase
from .distillation import Teacher
from .family import Family
from .optim import Ema, muon_and_adamw, scale_learning_rates

LARGE_MAX_FRAMES = 5  # longer large crops would cost too much
POOL = 8  # edge of the squares whose mean colour is compared


def family_of(config: HunyuanVAEConfig | VideoDCAEConfig) -> Family:
    """How the network of a configuration is trained."""
    return video_dc_ae.FAMILY if isinstance(config, VideoDCAEConfig) else hunyuan_vae.FAMILY


class AutoencoderStage:
    """L1, squares, L1 of 8x8 means, a penalty on latents; Muon for the inner kernels, else AdamW.

    Args:
        config: model, phases and weights.
        source: clips.
        seed: of weights and noise.
        precision: dtype of the forward pass.
        teacher: whose latents the model's shall be like; needed where `distill_weight` is not zero.
    """

    name = "autoencoder"

    def __init__(
        self,
        config: AutoencoderConfig,
        source: ClipSource,
        seed: int,
        precision: torch.dtype,
        teacher: Teacher | None = None,
    ) -> None:
        self.config, self.source, self.seed, self.precision = config, source, seed, precision
        self.teacher = teacher if config.distill_weight else None
        self.family = family_of(config.model)
        self.model: Any = self.family.build(config.model)
        self.family.initialize(self.model, torch.Generator().manual_seed(seed))
        self.parameters: dict[str, Tensor] = dict(self.model.named_parameters())
        channels = config.model.latent_channels
        self.projection: nn.Module = nn.Identity()
        if self.teacher is not None and self.teacher.channels != channels:
            self.projection = nn.Conv3d(channels, self.teacher.channels, 1)
            self.parameters |= {
                f"projection.{name}": p for name, p in self.projection.named_parameters()
            }
        self.num_steps = sum(phase.num_steps for phase in config.phases)
        muon, adamw = muon_and_adamw(
            self.parameters,
            (*self.family.adamw_prefixes, "projection"),
            muon_lr=config.muon_lr,
            adamw_lr=config.adamw_lr,
        )
        self.optimizers: list[torch.optim.Optimizer] = [muon, adamw]
        self.outer: list[Tensor] = adamw.param_groups[0]["params"]
        self.ema = Ema(self.parameters, config.ema_decay)

    def step(self, step: int) -> dict[str, float]:
        """One step on images or clips, whatever the schedule says."""
        phase, index = self._phase(step)
        if index == 0:
            self._begin(phase)
        frozen = self.family.encoder_prefixes if phase.decoder_only else ()
        for name, p in self.parameters.items():
            p.requires_grad_(not name.startswith(frozen))
        self._set_lr(phase, index)
        rng = np.random.default_rng((self.seed, 1, step))
        images = phase.num_frames == 1 or rng.random() < phase.image_share
        num_frames, count = (
            (1, self.config.image_batch_size) if images else (phase.num_frames, phase.batch_size)
        )
        large = num_frames <= LARGE_MAX_FRAMES and rng.random() < self.config.large_share
        x = self.source.large_batch(rng, count, num_frames) if large else None
        if x is None:
            x = self.source.batch(rng, count, num_frames, self.config.real_share)
        noise = torch.Generator().manual_seed(int(rng.integers(2**62)))
        loss, metrics = self._loss(x, phase, noise)
        loss.backward()
        if phase.num_frames == 1:
            self._freeze_other_taps()
        nn.utils.clip_grad_norm_(self.outer, 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        return metrics

    @torch.no_grad()
    def _begin(self, phase: Phase) -> None:
        # Second moments of taps that never moved would make huge first steps.
        for optimizer in self.optimizers:
            optimizer.state.clear()
        if phase.decoder_only:
            # The averages are what is shipped: only from them is the frozen encoder the final one.
            for name, average in self.ema.averages.items():
                self.parameters[name].copy_(average)

    def _loss(
        self, x: Tensor, phase: Phase, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, float]]:
        config = self.config
        with torch.autocast("cpu", self.precision, enabled=self.precision is not torch.float32):
            found = self.family.reconstruct(self.model, x, config.latent_noise, generator)
        error = found.pixels.float() - x
        parts = {
            "l1": error.abs().mean(),
            "squared": error.square().mean(),
            "pooled": F.avg_pool3d(error, (1, POOL, POOL)).abs().mean(),
            "latent": found.penalty,
        }
        weights = {
            "l1": 1.0,
            "squared": phase.squared_weight,
            "pooled": config.pooled_weight,
            "latent": config.latent_weight,
        }
        # Latents that stay what they are need no teacher.
        if self.teacher is not None and not phase.decoder_only:
            parts["distill"] = F.mse_loss(self.projection(found.latents), self.teacher(x))
            weights["distill"] = config.distill_weight
        loss = torch.stack([weights[name] * part for name, part in parts.items()]).sum()
        return loss, {name: part.item() for name, part in parts.items()}

    def _freeze_other_taps(self) -> None:
        """A causal image is its own past: without this its gradient would reach all taps alike."""
        for p in self.parameters.values():
            if p.grad is not None:
                self.family.only_image_tap(p.grad)

    def _phase(self, step: int) -> tuple[Phase, int]:
        for phase in self.config.phases:
            if step < phase.num_steps:
                return phase, step
            step -= phase.num_steps
        raise ValueError(f"autoencoder: there is no step {step} after the last phase")

    def _set_lr(self, phase: Phase, index: int) -> None:
        cosine = 0.5 * (1.0 + math.cos(math.pi * index / phase.num_steps))
        factor = phase.last_lr + (phase.first_lr - phase.last_lr) * cosine
        factor *= min(1.0, (index + 1) / self.config.warmup_steps)
        scale_learning_rates(self.optimizers, factor)
