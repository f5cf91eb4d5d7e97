"""Who we compare with: found on the machine, named with its version, or missing for a reason."""

from __future__ import annotations

import functools
import importlib.util
import shutil
from dataclasses import dataclass
from importlib import metadata

import torch


@dataclass(frozen=True, kw_only=True, slots=True)
class Peer:
    """A library that computes the same.

    Args:
        name: of the contender.
        module: to import; always through `opensora_fast` first.
        package: whose version is recorded.
        needs_cuda: has no code for CPUs.
        help: what it is, in one line.
    """

    name: str
    module: str
    package: str
    needs_cuda: bool = False
    help: str


PEERS = {
    peer.name: peer
    for peer in (
        Peer(name="eager", module="torch", package="torch", help="plain torch, line by line"),
        Peer(
            name="eager-channels-last",
            module="torch",
            package="torch",
            help="the same on channels_last_3d tensors and weights",
        ),
        Peer(name="compile", module="torch", package="torch", help="torch.compile of plain torch"),
        Peer(
            name="original",
            module="torch",
            package="torch",
            help="the original's three-branch sampling loop around plain torch",
        ),
        Peer(
            name="original+ours",
            module="torch",
            package="torch",
            help="the original's three-branch sampling loop around our transformer",
        ),
        Peer(name="diffusers", module="diffusers", package="diffusers", help="diffusers' modules"),
        Peer(
            name="diffusers-channels-last",
            module="diffusers",
            package="diffusers",
            help="the same in channels_last_3d",
        ),
        Peer(
            name="diffusers-compile",
            module="diffusers",
            package="diffusers",
            help="torch.compile of diffusers' modules",
        ),
        Peer(
            name="flash-attn",
            module="flash_attn",
            package="flash-attn",
            needs_cuda=True,
            help="FlashAttention 2",
        ),
        Peer(
            name="sageattention",
            module="sageattention",
            package="sageattention",
            needs_cuda=True,
            help="SageAttention, 8-bit scores",
        ),
        Peer(
            name="liger",
            module="liger_kernel",
            package="liger-kernel",
            needs_cuda=True,
            help="Liger's Triton kernels",
        ),
    )
}
_COMPILERS = ("c++", "g++", "clang++")


def why_missing(name: str, device: str) -> str | None:
    """Why a contender cannot run here, or None.

    Args:
        name: of the contender; ours (any name that is not in `PEERS`) never lack anything.
        device: "cpu" or "cuda:n".

    Returns:
        One sentence, or None.
    """
    peer = PEERS.get(name)
    if peer is None:
        return None
    if importlib.util.find_spec(peer.module) is None:
        return f"{peer.package} is not installed"
    if peer.needs_cuda and torch.device(device).type != "cuda":
        return f"{peer.package} runs on CUDA devices only"
    if name.endswith("compile") and not any(shutil.which(found) for found in _COMPILERS):
        return "torch.compile needs a C++ compiler, none is installed"
    return None


@functools.cache
def version_of(name: str) -> str | None:
    """Version of the library behind a contender; None for ours."""
    peer = PEERS.get(name)
    if peer is None:
        return None
    try:
        return metadata.version(peer.package)
    except metadata.PackageNotFoundError:
        return None


def found() -> dict[str, str | None]:
    """Versions of all peers' packages, None for those that are not installed."""
    packages = {peer.package for peer in PEERS.values()}
    return {
        package: next(version_of(p.name) for p in PEERS.values() if p.package == package)
        for package in sorted(packages)
    }
