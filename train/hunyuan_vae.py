"""How a `HunyuanVAE` is trained: causal, variational, with group norms."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from opensora_fast.models import HunyuanVAE

from .family import Family, Reconstruction, channel_statistics


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
        FAMILY.only_image_tap(p)
    channels = model.config.latent_channels
    assert model.quant_conv.bias is not None
    identity = torch.eye(2 * channels)
    identity[channels:] *= 0.1
    model.quant_conv.weight.copy_(identity.view_as(model.quant_conv.weight))
    model.quant_conv.bias[channels:] = -5.0
    model.post_quant_conv.weight.copy_(torch.eye(channels).view_as(model.post_quant_conv.weight))


def reconstruct(
    model: HunyuanVAE, x: Tensor, noise: float, generator: torch.Generator
) -> Reconstruction:
    """Draw from the posterior, which learns its own noise; the penalty is the mean KL divergence.

    Args:
        model: the network.
        x: clips.
        noise: must be zero.
        generator: of the draw.
    """
    assert noise == 0.0, "the configuration refuses it"
    y, posterior, _ = model(x, generator=generator)
    mean, logvar = posterior.mean.float(), posterior.logvar.float()
    kl = 0.5 * (mean.square() + logvar.exp() - 1.0 - logvar).mean()
    return Reconstruction(pixels=y, latents=mean, penalty=kl)


@torch.no_grad()
def normalize(model: HunyuanVAE, clips: Tensor) -> None:
    """Fold each latent channel's mean and deviation into the 1x1x1 convolutions beside it; exact.

    Args:
        model: with ``scale_factor`` 1 and ``shift_factor`` 0; changed in place.
        clips: ``[N, 3, T, H, W]``, what the statistics are taken over.
    """
    mean, std = channel_statistics(model, clips)
    channels = len(mean)
    weight, bias = _weight_and_bias(model.quant_conv)
    weight[:channels] /= std.view(-1, 1, 1, 1, 1)
    bias[:channels] = (bias[:channels] - mean) / std
    bias[channels:] -= 2.0 * std.log()
    weight, bias = _weight_and_bias(model.post_quant_conv)
    bias += weight[:, :, 0, 0, 0] @ mean
    weight *= std.view(1, -1, 1, 1, 1)


def _weight_and_bias(conv: nn.Conv3d) -> tuple[Tensor, Tensor]:
    assert conv.bias is not None, "the convolutions next to the latent have biases"
    return conv.weight, conv.bias


FAMILY = Family(
    build=HunyuanVAE,
    initialize=initialize,
    reconstruct=reconstruct,
    normalize=normalize,
    image_tap=lambda taps: taps - 1,
    adamw_prefixes=(
        "encoder.conv_in", "encoder.conv_out", "decoder.conv_in", "decoder.conv_out",
        "quant_conv", "post_quant",
    ),
    encoder_prefixes=("encoder.", "quant_conv."),
)  # fmt: skip
