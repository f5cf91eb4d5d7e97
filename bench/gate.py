"""Correct first: what is wrong gets no time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# What ours may add to twice the peer's own error, relative L2: the accuracy contract per block in
# fp32, half a rounding of the result in 16 bits.
FLOOR = {"fp32": 3e-6, "bf16": 1e-3, "fp16": 1.5e-4}
# Largest errors are taken over many elements and scatter more.
LARGEST_FACTOR = 16.0
# A peer beyond this is not the same function: nothing is compared with it. bf16 through a whole
# autoencoder with random weights loses about 2 %, through fifty guided steps more; results that
# have nothing to do with each other differ by more than 1.
PEER_LIMIT = {"fp32": 1e-3, "bf16": 0.5, "fp16": 0.1}


@dataclass(frozen=True, kw_only=True, slots=True)
class Errors:
    """Distance to the oracle.

    Args:
        rel_l2: norm of the difference over norm of the oracle.
        largest: largest difference over root mean square of the oracle.
    """

    rel_l2: float
    largest: float


def errors(outputs: Sequence[Tensor], exact: Sequence[Tensor]) -> Errors:
    """Distance of some outputs to the oracle's; of several outputs the worst counts.

    Args:
        outputs: of a contender.
        exact: at least as many; further ones (statistics kept for a backward) are not looked at.

    Returns:
        The errors; infinite where an output has another shape or is not finite.
    """
    worst = Errors(rel_l2=0.0, largest=0.0)
    if not 0 < len(outputs) <= len(exact):
        return Errors(rel_l2=float("inf"), largest=float("inf"))
    for out, ref in zip(outputs, exact, strict=False):
        if out.shape != ref.shape or not bool(torch.isfinite(_readable(out)).all()):
            return Errors(rel_l2=float("inf"), largest=float("inf"))
        if out.numel() == 0:
            continue
        ref = ref.to(device=out.device, dtype=torch.float64)
        difference = out.to(torch.float64) - ref
        norm = max(float(ref.norm()), 1e-300)
        worst = Errors(
            rel_l2=max(worst.rel_l2, float(difference.norm()) / norm),
            largest=max(worst.largest, float(difference.abs().max()) / norm * ref.numel() ** 0.5),
        )
    return worst


def _readable(out: Tensor) -> Tensor:
    """The same numbers in a dtype that torch can ask about: not 8-bit floats."""
    return out.to(torch.float32) if out.element_size() == 1 else out


def ours_allowed(baseline: Errors | None, dtype: str) -> Errors:
    """What ours may be off by: twice the baseline's own error in the same dtype, plus a floor.

    Args:
        baseline: errors of the baseline against the same oracle; None if there is no sound peer,
            then the limit for peers counts.
        dtype: of the case.

    Returns:
        The largest errors that pass.

    Source:
        The rule of FlashAttention's tests: at most twice the error of the plain low-precision
        computation.
    """
    if baseline is None:
        return Errors(rel_l2=PEER_LIMIT[dtype], largest=LARGEST_FACTOR * PEER_LIMIT[dtype])
    floor = FLOOR[dtype]
    return Errors(
        rel_l2=2 * baseline.rel_l2 + floor, largest=2 * baseline.largest + LARGEST_FACTOR * floor
    )


def peer_allowed(dtype: str) -> Errors:
    """What a peer may be off by before it counts as another function."""
    return Errors(rel_l2=PEER_LIMIT[dtype], largest=float("inf"))


def why_wrong(found: Errors, allowed: Errors) -> str | None:
    """A sentence that says what is wrong, or None."""
    for name in ("rel_l2", "largest"):
        error, limit = getattr(found, name), getattr(allowed, name)
        # Also catches NaN, which compares false.
        if not error <= limit:
            return f"wrong: {name} error {error:.3g}, allowed {limit:.3g}"
    return None
