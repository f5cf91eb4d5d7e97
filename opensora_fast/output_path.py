"""Saying before the work why its result could not be written."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from opensora_fast.kernels.atomic import temporary_name


def check_output(path: str | Path, suffixes: Sequence[str]) -> Path:
    """Check that `path` can be written, before any expensive work. Makes nothing.

    Args:
        path: where the file will be written.
        suffixes: accepted file extensions, lower case, with the dot.

    Returns:
        The path.

    Raises:
        ValueError: the extension is not one of `suffixes`, or the path is a folder.
        OSError: the folder, or the nearest one above it, cannot be written to; the message says so.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"cannot write {path}: it is a folder; name a file in it")
    if path.suffix.lower() not in suffixes:
        given = f"extension {path.suffix!r}" if path.suffix else "a name without extension"
        raise ValueError(f"cannot write {path}: {given} is not supported; use {_any_of(suffixes)}")
    # The nearest folder that is there decides; the missing ones are made when the file is written.
    folder = next(parent for parent in path.absolute().parents if os.path.lexists(parent))
    probe = folder / temporary_name(path).name
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise type(error)(f"cannot write into the folder {path.parent}: {reason}") from None
    return path


def _any_of(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
