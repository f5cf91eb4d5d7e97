"""Date, commit, machine and versions: what a number means nothing without."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from opensora_fast import __version__
from opensora_fast.kernels.device import device_info

PACKAGES = ("torch", "triton", "transformers", "safetensors", "numpy", "av")
COMMAND_TIMEOUT_S = 10
_CPU_INFO = Path("/proc/cpuinfo")
_GPU_CLOCKS = "clocks.sm,clocks.mem,clocks.max.sm,power.draw,clocks_throttle_reasons.active"


def circumstances(device: torch.device) -> dict[str, Any]:
    """Date, commit, device and versions.

    Args:
        device: that was measured.

    Returns:
        JSON-ready facts; `commit` is None where the code is not in a git checkout, a version where
        the package is not installed.
    """
    info = device_info(device)
    now = datetime.datetime.now(datetime.timezone.utc)
    return {
        "date": now.isoformat(timespec="seconds"),
        **_commit(),
        "device": {
            "type": info.type,
            "name": info.name,
            "threads": torch.get_num_threads(),
            "isa": list(info.isa),
        },
        "versions": {
            "opensora-fast": __version__,
            "python": platform.python_version(),
            **{name: _version(name) for name in PACKAGES},
        },
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> dict[str, Any]:
    """The commit that this code was checked out from, and whether tracked files have changed."""
    # An installed copy may lie in the checkout of something else: ask about this very file.
    if _git("ls-files", "--error-unmatch", Path(__file__).name) is None:
        return {"commit": None, "dirty": None}
    changes = _git("status", "--porcelain", "--untracked-files=no")
    return {"commit": _git("rev-parse", "HEAD"), "dirty": bool(changes)}


def state_of(device: torch.device) -> dict[str, Any]:
    """What changes from minute to minute: clocks and load.

    Args:
        device: that is measured.

    Returns:
        JSON-ready: load averages, clocks of the cores in MHz, and of a GPU what its driver says;
        None for what cannot be read.
    """
    load = os.getloadavg() if hasattr(os, "getloadavg") else None
    found: dict[str, Any] = {
        "loadavg": [round(value, 2) for value in load] if load is not None else None,
        "cpu_mhz": _cpu_mhz(),
    }
    if device.type == "cuda":
        found["gpu"] = _output(
            ("nvidia-smi", f"--query-gpu={_GPU_CLOCKS}", "--format=csv,noheader", "-i", "0")
        )
    return found


def _cpu_mhz() -> list[float] | None:
    try:
        lines = _CPU_INFO.read_text().splitlines()
    except OSError:
        return None
    return [float(line.partition(":")[2]) for line in lines if line.startswith("cpu MHz")] or None


def _git(*arguments: str) -> str | None:
    folder = Path(__file__).resolve().parent
    return _output(("git", "-C", str(folder), *arguments))


def _output(command: Sequence[str]) -> str | None:
    """What a command prints, None if it cannot be run."""
    try:
        found = subprocess.run(
            command, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()
