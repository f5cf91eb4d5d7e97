"""The folder for what was found out on this machine: it can be deleted at any time."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import warnings
from collections.abc import Mapping
from importlib import metadata, util
from pathlib import Path
from typing import Any, Final

import torch

from .atomic import replacing
from .common.sources import closure
from .device import device_info

ENVIRONMENT_VARIABLE: Final = "OPENSORA_FAST_CACHE"
_KERNELS = Path(__file__).parent
_HASH_DIGITS = 16


def cache_folder() -> Path:
    """The folder that OPENSORA_FAST_CACHE names, else opensora-fast in the user's cache folder."""
    named = os.environ.get(ENVIRONMENT_VARIABLE)
    if named:
        return Path(named).expanduser()
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "opensora-fast"


@functools.cache
def identity(device: torch.device) -> dict[str, str]:
    """What tells a device from others: its name and compute capability."""
    info = device_info(device)
    capability = ".".join(map(str, info.compute_capability or ()))
    return {"name": info.name, "capability": capability}


def file_of(kind: str, device: torch.device) -> Path:
    """The JSON file of a kind for devices like this one."""
    facts = identity(device)
    name = f"{facts['name']} {facts['capability']}".strip()
    return cache_folder() / f"{kind}-{re.sub(r'[^A-Za-z0-9.]+', '_', name)}.json"


def read(path: Path, schema: int) -> dict[str, Any] | None:
    """Read a file of this folder.

    Args:
        path: of the file.
        schema: that it must have.

    Returns:
        Its content; None if it is missing, or, after a warning, if it is none of ours.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or content.get("schema") != schema:
            raise ValueError(f"it is no file of schema {schema}")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        warnings.warn(f"{path} is ignored: {error}", stacklevel=2)
        return None
    return content


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Write a file of this folder, whole or not at all; a folder that refuses is a warning."""
    try:
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        warnings.warn(f"{path} cannot be written, this run alone knows: {error}", stacklevel=2)


@functools.cache
def fingerprint(folder: str, native: bool) -> str:
    """What results of an op's kernels depend on besides the device, as a short hash.

    Sources of the op, of ops that it is made of and of what ops share; versions of torch and
    Triton; for native rows the extension as it was built.

    Args:
        folder: of the op, under kernels/.
        native: whether the row runs code of the extension.
    """
    digest = hashlib.sha256()
    for name in ("torch", "triton"):
        try:
            digest.update(f"{name} {metadata.version(name)}\n".encode())
        except metadata.PackageNotFoundError:
            digest.update(f"no {name}\n".encode())
    own = [file for name in (folder, "common") for file in (_KERNELS / name).glob("*.py")]
    # The room's own files, such as the registry, compute nothing.
    files = sorted(file for file in closure(own) if file.parent != _KERNELS)
    if native:
        spec = util.find_spec("opensora_fast._C")
        if spec is not None and spec.origin is not None:
            files.append(Path(spec.origin))
    for file in files:
        digest.update(f"{file.parent.name}/{file.name}\n".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:_HASH_DIGITS]
