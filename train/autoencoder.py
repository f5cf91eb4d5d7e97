"""Stage: the video autoencoder, images first, then ever longer clips."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from opensora_fast.models import HunyuanVAE

from .clips import ClipSource
from .config import AutoencoderConfig, Phase
from .optim import Ema, muon_and_adamw, scale_learning_rates

LARGE_MAX_FRAMES = 5  # longer large crops would cost too much
POOL = 8  # edge of the squares whose mean colour is compared
# The first and last convolutions map between pixels, latents and features: not square, so not
# Muon's.
ADAMW_PREFIXES = (
    "encoder.conv_in",
    "encoder.conv_out",
    "decoder.conv_in",
    "decoder.conv_out",
    "quant_conv",
    "post_quant",
)

ENCODER_PREFIXES = ("encoder.", "quant_conv.")


@torch.no_grad()
def initialize(model: HunyuanVAE, generator: torch.Generator) -> None:
    """Start as a per-frame network of unit gain whose residual branches are off.

    Only the last temporal tap is non-zero, so that the image phase trains exactly the network that
    the clip phases continue; the posterior starts narrow, or the encoder would first spend its time
    on inflating the mean.
    """
    for name, p in model.named_parameters():
        if p.dim() < 2:
            if name.endswith("bias"):
                p.zero_()
            continue
        if ".conv2." in name or "to_out" in name:
            p.zero_()
            continue
        taps = p.shape[2] if p.dim() == 5 else 1
        p.normal_(0.0, (p[0].numel() / taps) ** -0.5, generator=generator)
        if taps > 1:
            p[:, :, :-1] = 0.0
    channels = model.config.latent_channels
    assert model.quant_conv.bias is not None
    identity = torch.eye(2 * channels)
    identity[channels:] *= 0.1
    model.quant_conv.weight.copy_(identity.view_as(model.quant_conv.weight))
    model.quant_conv.bias[channels:] = -5.0
    model.post_quant_conv.weight.copy_(torch.eye(channels).view_as(model.post_quant_conv.weight))


class AutoencoderStage:
    """L1 + L1 of 8x8 means + KL, Muon for the inner kernels and AdamW for the rest.

    Args:
        config: model, phases and weights.
        source: clips.
        seed: of weights and noise.
        precision: dtype of the forward pass.
    """

    name = "autoencoder"

    def __init__(
        self, config: AutoencoderConfig, source: ClipSource, seed: int, precision: torch.dtype
    ) -> None:
        self.config, self.source, self.seed, self.precision = config, source, seed, precision
        self.model = HunyuanVAE(config.model)
        initialize(self.model, torch.Generator().manual_seed(seed))
        self.parameters: dict[str, Tensor] = dict(self.model.named_parameters())
        self.num_steps = sum(phase.num_steps for phase in config.phases)
        muon, adamw = muon_and_adamw(
            self.parameters, ADAMW_PREFIXES, muon_lr=config.muon_lr, adamw_lr=config.adamw_lr
        )
        self.optimizers: list[torch.optim.Optimizer] = [muon, adamw]
        self.outer: list[Tensor] = adamw.param_groups[0]["params"]
        self.ema = Ema(self.parameters, config.ema_decay)

    def step(self, step: int) -> dict[str, float]:
        """One step on images or clips, whatever the schedule says."""
        phase, index = self._phase(step)
        if index == 0:
            self._begin(phase)
        for name, p in self.parameters.items():
            p.requires_grad_(not (phase.decoder_only and name.startswith(ENCODER_PREFIXES)))
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
        loss, metrics = self._loss(x, torch.Generator().manual_seed(int(rng.integers(2**62))))
        loss.backward()
        if phase.num_frames == 1:
            self._freeze_early_taps()
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

    def _loss(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        with torch.autocast("cpu", self.precision, enabled=self.precision is not torch.float32):
            y, posterior, _ = self.model(x, generator=generator)
        mean, logvar = posterior.mean.float(), posterior.logvar.float()
        error = y.float() - x
        l1 = error.abs().mean()
        pooled = F.avg_pool3d(error, (1, POOL, POOL)).abs().mean()
        kl = 0.5 * (mean.square() + logvar.exp() - 1.0 - logvar).mean()
        loss = l1 + self.config.pooled_weight * pooled + self.config.kl_weight * kl
        return loss, {"l1": l1.item(), "pooled": pooled.item(), "kl": kl.item()}

    def _freeze_early_taps(self) -> None:
        """An image is its own past: without this its gradient would reach all taps alike."""
        for p in self.parameters.values():
            if p.dim() == 5 and p.shape[2] > 1 and p.grad is not None:
                p.grad[:, :, :-1] = 0.0

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
