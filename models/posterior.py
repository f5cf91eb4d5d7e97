"""The diagonal Gaussian that a variational encoder returns."""

from __future__ import annotations

import math

import torch
from torch import Tensor


class DiagonalGaussian:
    """A Gaussian with independent elements, from the concatenated moments of an encoder.

    `z = mean + exp(logvar / 2) * n`, n standard normal.

    Args:
        moments: mean and logvar side by side on dimension 1, `[B, 2 C, ...]`.

    Numerics:
        logvar is clamped to [-30, 20]; everything is in the moments' dtype.

    Source:
        Kingma and Welling 2013; the clamp is that of latent diffusion.
    """

    def __init__(self, moments: Tensor) -> None:
        if moments.dim() < 2 or moments.shape[1] % 2:
            raise ValueError(
                f"DiagonalGaussian: moments must be [B, 2 C, ...], got {list(moments.shape)}"
            )
        self.mean, logvar = moments.chunk(2, dim=1)
        self.logvar = logvar.clamp(-30.0, 20.0)

    @property
    def std(self) -> Tensor:
        """Standard deviation."""
        return torch.exp(0.5 * self.logvar)

    @property
    def var(self) -> Tensor:
        """Variance."""
        return torch.exp(self.logvar)

    def mode(self) -> Tensor:
        """The likeliest value, which is the mean."""
        return self.mean

    def sample(
        self,
        generator: torch.Generator | None = None,
        noise_device: torch.device | str | None = None,
    ) -> Tensor:
        """Draw a value.

        Args:
            generator: source of the noise; its device is where the noise is drawn. By default
                the global generator.
            noise_device: where noise is drawn without a generator; the mean's device by default.

        Returns:
            A tensor like the mean.
        """
        device = generator.device if generator is not None else noise_device or self.mean.device
        noise = torch.randn(
            self.mean.shape, generator=generator, device=device, dtype=self.mean.dtype
        )
        return self.mean + self.std * noise.to(self.mean.device)

    def kl(self, other: DiagonalGaussian | None = None) -> Tensor:
        """Kullback-Leibler divergence to another Gaussian, by default the standard normal.

        `0.5 * sum(mean**2 + var - 1 - logvar)` over all but the batch.

        Args:
            other: a Gaussian of the same shape.

        Returns:
            `[B]`, in nats.
        """
        if other is None:
            terms = self.mean.square() + self.var - 1.0 - self.logvar
        else:
            terms = (self.mean - other.mean).square() / other.var + self.var / other.var
            terms = terms - 1.0 - self.logvar + other.logvar
        return 0.5 * terms.flatten(1).sum(dim=1)

    def nll(self, x: Tensor) -> Tensor:
        """Negative log likelihood of x, summed over all but the batch.

        Args:
            x: a tensor like the mean.

        Returns:
            `[B]`, in nats.
        """
        terms = math.log(2 * math.pi) + self.logvar + (x - self.mean).square() / self.var
        return 0.5 * terms.flatten(1).sum(dim=1)
