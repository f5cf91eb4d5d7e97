"""Writing a file whole or not at all, and saying beforehand why it could not be written."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


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
    probe = folder / _temporary_name(path).name
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise type(error)(f"cannot write into the folder {path.parent}: {reason}") from None
    return path


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; rename it to `path` on success, else remove it.

    A reader sees the old file or the whole new one. Ctrl-C and errors leave nothing behind.
    Missing folders are made.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary_name(path)
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _temporary_name(path: Path) -> Path:
    """A hidden name in the same folder (a rename stays on one file system), same extension."""
    return path.with_name(f".{path.stem[:80]}.{secrets.token_hex(4)}.part{path.suffix}")


def _any_of(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
