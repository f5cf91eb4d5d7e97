"""Optimisers: Muon for matrices and convolution kernels, beside torch's AdamW for the rest."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

# Quintic iteration p(s) = a s + b s^3 + c s^5: pushes every singular value into about [0.7, 1.2] in
# five rounds.
QUINTIC = (3.4445, -4.7750, 2.0315)
ROUNDS = 5


def orthogonalize(matrices: Tensor) -> Tensor:
    """Replace the singular values of each matrix by about one.

    Five times ``X <- a X + b (X X^T) X + c (X X^T)^2 X``, from ``X / ||X||``.

    Args:
        matrices: ``[N, rows, columns]``, floating point.

    Returns:
        bf16 ``[N, rows, columns]``.

    Numerics:
        bf16 throughout, as is usual for this iteration: the singular values agree with fp32 to 1 %,
        and the matrix units make it several times faster.

    Source:
        Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks".
    """
    x = matrices.bfloat16()
    transposed = x.shape[1] > x.shape[2]
    if transposed:
        x = x.transpose(1, 2).contiguous()
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    a, b, c = QUINTIC
    for _ in range(ROUNDS):
        gram = x @ x.transpose(1, 2)
        step = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, step, x, beta=a)
    return x.transpose(1, 2) if transposed else x


class Muon(torch.optim.Optimizer):
    """Momentum whose direction is orthogonalised.

    ``w <- w - lr * sqrt(max(1, rows / columns)) * orth(momentum)``

    Parameters of two or more axes are seen as ``[first axis, all others]``; equal shapes are
    handled in one batch.

    Args:
        params: parameters of at least two axes.
        lr: step length; the update has singular values of about one.
        momentum: decay of the running mean of gradients (Nesterov's form).
        weight_decay: decoupled decay per unit of ``lr``.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 0.02,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Apply one update to every parameter that has a gradient."""
        if closure is not None:
            raise ValueError("Muon.step: closures are not supported; compute the gradient first")
        for group in self.param_groups:
            by_shape = defaultdict(list)
            for p in group["params"]:
                if p.grad is None:
                    continue
                momentum = self.state[p].setdefault("momentum", torch.zeros_like(p))
                momentum.lerp_(p.grad, 1.0 - group["momentum"])
                by_shape[p.flatten(1).shape].append((p, p.grad.lerp(momentum, group["momentum"])))
            for shape, members in by_shape.items():
                updates = orthogonalize(torch.stack([u.flatten(1) for _, u in members]))
                scale = group["lr"] * max(1.0, shape[0] / shape[1]) ** 0.5
                for (p, _), update in zip(members, updates, strict=True):
                    p.mul_(1.0 - group["lr"] * group["weight_decay"])
                    p.add_(update.view_as(p).to(p.dtype), alpha=-scale)


def muon_and_adamw(
    parameters: Mapping[str, Tensor],
    adamw_prefixes: tuple[str, ...],
    *,
    muon_lr: float,
    adamw_lr: float,
) -> tuple[Muon, torch.optim.AdamW]:
    """Share parameters out: to Muon what has two axes or more, to AdamW the rest.

    The kernels of depthwise convolutions are AdamW's, too: their rows share no input, so there is
    no matrix to make orthogonal.

    Args:
        parameters: name to parameter.
        adamw_prefixes: beginnings of the names whose parameters are AdamW's whatever their axes:
            the layers that map into and out of the network.
        muon_lr: Muon's learning rate.
        adamw_lr: AdamW's.

    Returns:
        Both optimisers, each with its parameters in their order.
    """
    inner: list[Tensor] = []
    outer: list[Tensor] = []
    for name, p in parameters.items():
        is_matrix = p.dim() >= 2 and p.shape[1] > 1
        (inner if is_matrix and not name.startswith(adamw_prefixes) else outer).append(p)
    adamw = torch.optim.AdamW(outer, lr=adamw_lr, betas=(0.9, 0.99), weight_decay=0.0)
    return Muon(inner, lr=muon_lr), adamw


def scale_learning_rates(optimizers: Iterable[torch.optim.Optimizer], factor: float) -> None:
    """Set each learning rate to `factor` times the one its optimiser was made with."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = optimizer.defaults["lr"] * factor


class Ema:
    """Exponential moving average of parameters: ``average <- d * average + (1 - d) * value``.

    The decay ramps up as ``min(decay, (1 + n) / (10 + n))`` so that the first steps are forgotten
    quickly.

    Args:
        parameters: name to tensor; the averages are kept in fp32.
        decay: final decay.
    """

    def __init__(self, parameters: dict[str, Tensor], decay: float = 0.999) -> None:
        self.decay = decay
        self.num_updates = 0
        self.averages = {name: p.detach().float().clone() for name, p in parameters.items()}

    @torch.no_grad()
    def update(self, parameters: dict[str, Tensor]) -> None:
        """Take in the current values."""
        self.num_updates += 1
        decay = min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))
        names = list(self.averages)
        values = [parameters[name].detach().float() for name in names]
        torch._foreach_lerp_([self.averages[name] for name in names], values, 1.0 - decay)
