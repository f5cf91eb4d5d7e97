"""The named suites of timings: which cases each of them has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch

from .case import Case
from .dc_ae import dc_ae_cases
from .kernels import kernel_cases, smallest_cases
from .mmdit import SIZES, mmdit_cases
from .sampler import sampler_cases
from .timing import Budget
from .vae import vae_cases

SMOKE_PEERS = frozenset({"eager", "diffusers", "original"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Suite:
    """A named set of cases.

    Args:
        help: what it measures, in one line.
        parts: suites of cases that it is made of.
        budget: of each case, unless asked otherwise.
        peers: only these, unless asked otherwise.
        dtypes: these, unless asked otherwise.
    """

    help: str
    parts: tuple[str, ...]
    budget: Budget = field(default_factory=Budget)
    peers: frozenset[str] | None = None
    dtypes: tuple[str, ...] = ("fp32", "bf16")


MODELS = ("vae-hunyuan", "vae-dcae", *SIZES, "sampler")
SUITES = {
    "kernels": Suite(help="every op, or the named ones, at its bench shapes", parts=("kernels",)),
    "models": Suite(help="all networks and the sampling loop", parts=MODELS),
    "all": Suite(help="kernels and models", parts=("kernels", *MODELS)),
    "vae-hunyuan": Suite(
        help="the video autoencoder at full width: decode and encode", parts=("vae-hunyuan",)
    ),
    "vae-dcae": Suite(
        help="the deep-compression autoencoder at full width: decode and encode",
        parts=("vae-dcae",),
    ),
    "mmdit-256": Suite(
        help="a double and a single block of the transformer, tokens of 256px videos",
        parts=("mmdit-256",),
    ),
    "mmdit-768": Suite(
        help="a double and a single block of the transformer, tokens of 768px videos",
        parts=("mmdit-768",),
    ),
    "sampler": Suite(
        help="the whole sampling loop against the original's three branches", parts=("sampler",)
    ),
    "cpu-smoke": Suite(
        help="a bit of everything, in about a minute on two cores",
        parts=("cpu-smoke",),
        budget=Budget(rounds=3, seconds=0.3),
        peers=SMOKE_PEERS,
        dtypes=("fp32",),
    ),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """Which cases of a suite are wanted.

    Args:
        device: "cpu" or "cuda:n".
        dtypes: names.
        scale: "smoke" for the smallest cases only; "cpu" also lists those that are too large for
            a few cores, to be skipped with a reason; "full" measures them.
        ops: of the kernels; none means all.
        directions: of the kernels.
        backends: of our own tables, measured besides the one that is chosen.
        patterns: of case names, with * and ?; a part of the name is enough. None means all.
    """

    device: str
    dtypes: tuple[str, ...] = ("fp32", "bf16")
    scale: str = "cpu"
    ops: tuple[str, ...] = ()
    directions: tuple[str, ...] = ("fwd",)
    backends: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()

    @property
    def scales(self) -> tuple[str, ...]:
        """Scales of the cases that are measured."""
        return ("cpu", "full") if self.scale == "full" else (self.scale,)


def cases_of_suite(name: str, selection: Selection) -> list[Case]:
    """The cases of a suite.

    Args:
        name: one of `SUITES`.
        selection: which of them.

    Returns:
        The cases; those of a scale that is not measured are among them.

    Raises:
        ValueError: an unknown op, or a pattern that no case has.
    """
    if name == "cpu-smoke":
        return _matching(_smoke(selection), selection.patterns)
    found: list[Case] = []
    for part in SUITES[name].parts:
        found.extend(_part(part, selection))
    smoke = selection.scale == "smoke"
    return _matching([c for c in found if (c.scale == "smoke") == smoke], selection.patterns)


def _part(name: str, selection: Selection) -> list[Case]:
    device, dtypes = selection.device, selection.dtypes
    if name == "kernels":
        return kernel_cases(
            device=device,
            dtypes=dtypes,
            scales=selection.scales,
            ops=selection.ops,
            directions=selection.directions,
            backends=selection.backends,
        )
    if name == "vae-hunyuan":
        return vae_cases(device, dtypes)
    if name == "vae-dcae":
        return dc_ae_cases(device, dtypes)
    if name == "sampler":
        return sampler_cases(device, dtypes)
    return mmdit_cases(name, device, dtypes)


def _smoke(selection: Selection) -> list[Case]:
    """One small case of each op, the smallest case of each network."""
    kernels = smallest_cases(selection.device, selection.dtypes)
    networks = [case for part in MODELS for case in _part(part, selection) if case.scale == "smoke"]
    return [*kernels, *networks]


def _matching(cases: Sequence[Case], patterns: Sequence[str]) -> list[Case]:
    if not patterns:
        return list(cases)
    for pattern in patterns:
        if not any(_matches(case, pattern) for case in cases):
            names = ", ".join(list(dict.fromkeys(case.name for case in cases))[:8])
            raise ValueError(
                f"no case matches {pattern!r}; cases are {names}, ... (see bench list)"
            )
    return [case for case in cases if any(_matches(case, pattern) for pattern in patterns)]


def _matches(case: Case, pattern: str) -> bool:
    return fnmatch(case.name, f"*{pattern}*")
