"""How a `VideoDCAE` is trained: not causal, deterministic, between parameter-free shortcuts."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from opensora_fast.models import VideoDCAE

from .family import Family, Reconstruction, channel_statistics

BRANCH_GAIN = 0.1  # of a residual branch; its norm would make it as strong as the signal
BESIDE_SHORTCUT = 0.5  # of a convolution whose shortcut carries the signal already

# Ends of the names of convolutions that stand beside a shortcut: down, up, and next to the latent.
BESIDE = ("main.conv.weight", "main.conv.conv.weight", "main.op_list.0.conv.weight")


@torch.no_grad()
def initialize(model: VideoDCAE, generator: torch.Generator) -> None:
    """Start as a per-frame network in which the shortcuts carry the signal.

    Only the middle temporal tap is non-zero: an image lies between zeros, so the others would never
    learn from one, and a still clip is then treated like an image wherever a step in time keeps the
    number of channels. The last norm starts at one, not at the original's 0.02, so that pixels
    matter from the first step.
    """
    for name, p in model.named_parameters():
        if p.dim() < 2:
            if name.endswith("bias"):
                p.zero_()
            else:
                p.fill_(BRANCH_GAIN if ".norm." in name else 1.0)
            continue
        gain = BESIDE_SHORTCUT if name.endswith(BESIDE) else 1.0
        p.normal_(0.0, gain * (p[0].numel() / p.shape[2]) ** -0.5, generator=generator)
        FAMILY.only_image_tap(p)


def reconstruct(
    model: VideoDCAE, x: Tensor, noise: float, generator: torch.Generator
) -> Reconstruction:
    """Add noise to the latents, as of a posterior of fixed width; the penalty is their mean square.

    Without noise the penalty could be dodged by small latents, and the decoder would know nothing
    of the errors that a sampled latent has.

    Args:
        model: the network.
        x: clips.
        noise: standard deviation.
        generator: of the noise.
    """
    z: Tensor = model.encode(x)
    noisy = z + noise * torch.randn(z.shape, generator=generator) if noise else z
    return Reconstruction(
        pixels=model.decode(noisy), latents=z.float(), penalty=z.float().square().mean()
    )


@torch.no_grad()
def normalize(model: VideoDCAE, clips: Tensor) -> None:
    """Fold each latent channel's deviation into the convolutions beside it; exact.

    The shortcuts there have no weights, but they are what the convolution's middle tap could do as
    well: that tap takes over what the shortcut does too much or too little. The means stay: between
    zeros no convolution can shift them at the border.

    Args:
        model: without a scaling factor; changed in place.
        clips: ``[N, 3, T, H, W]``, what the statistics are taken over.
    """
    _, std = channel_statistics(model, clips)
    out = _conv(model.encoder.project_out["main"].op_list[0])
    _rescale(out, averaging(out.weight.shape[0], out.weight.shape[1]), 1.0 / std.view(-1, 1))
    assert out.bias is not None
    out.bias /= std
    into = _conv(model.decoder.project_in["main"])
    _rescale(into, repeating(into.weight.shape[0], into.weight.shape[1]), std.view(1, -1))


def _conv(layer: Any) -> nn.Conv3d:
    return cast(nn.Conv3d, layer.conv)


def _rescale(conv: nn.Conv3d, shortcut: Tensor, factor: Tensor) -> None:
    """Scale convolution and shortcut together: ``f (W + S) = W' + S``."""
    conv.weight *= factor[:, :, None, None, None]
    t, h, w = (size // 2 for size in conv.weight.shape[2:])
    conv.weight[:, :, t, h, w] += (factor - 1.0) * shortcut


def averaging(rows: int, columns: int) -> Tensor:
    """The shortcut to fewer channels as a matrix: means of consecutive channels."""
    return torch.eye(rows).repeat_interleave(columns // rows, dim=1) * (rows / columns)


def repeating(rows: int, columns: int) -> Tensor:
    """The shortcut to more channels as a matrix: each channel several times."""
    return torch.eye(columns).repeat_interleave(rows // columns, dim=0)


FAMILY = Family(
    build=VideoDCAE,
    initialize=initialize,
    reconstruct=reconstruct,
    normalize=normalize,
    image_tap=lambda taps: taps // 2,
    adamw_prefixes=(
        "encoder.project_in", "encoder.project_out", "decoder.project_in", "decoder.project_out",
    ),
    encoder_prefixes=("encoder.",),
)  # fmt: skip
