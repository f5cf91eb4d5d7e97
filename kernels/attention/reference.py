"""The definition of attention: softmax(q k^T / sqrt(D)) v per head, and its gradients."""

from __future__ import annotations

import torch
from torch import Tensor

from ..contract import wide


def forward(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Return the output [B, Lq, N, D] and log sum exp of the scaled scores, [B, N, Lq]."""
    scores = _scores(q, k)
    lse = torch.logsumexp(scores, dim=3)
    weights = torch.exp(scores - lse[:, :, :, None])
    out = torch.matmul(weights, _heads(v)).transpose(1, 2)
    return out.to(q.dtype).contiguous(), lse


def backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of q, k and v."""
    weights = torch.exp(_scores(q, k) - lse[:, :, :, None])
    dout = _heads(grad)
    dv = torch.matmul(weights.transpose(2, 3), dout)
    dweights = torch.matmul(dout, _heads(v).transpose(2, 3))
    dscores = weights * (dweights - (weights * dweights).sum(dim=3, keepdim=True))
    dscores = dscores * q.shape[3] ** -0.5
    dq = torch.matmul(dscores, _heads(k))
    dk = torch.matmul(dscores.transpose(2, 3), _heads(q))
    return tuple(  # type: ignore[return-value]
        g.transpose(1, 2).to(q.dtype).contiguous() for g in (dq, dk, dv)
    )


def _heads(x: Tensor) -> Tensor:
    return x.to(wide(x.dtype)).transpose(1, 2)


def _scores(q: Tensor, k: Tensor) -> Tensor:
    scale: float = q.shape[3] ** -0.5
    return torch.matmul(_heads(q), _heads(k).transpose(2, 3)) * scale
