"""Writing a file whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary name beside `path`; rename it to `path` on success, else remove it.

    A reader sees the old file or the whole new one. Ctrl-C and errors leave nothing behind.
    Missing folders are made.

    Args:
        path: the file to write; an existing one is replaced in one step.

    Yields:
        The name to write to instead, see `temporary_name`.

    Raises:
        OSError: the folder cannot be made or written to.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(path)
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def temporary_name(path: Path) -> Path:
    """A hidden name in the same folder (a rename stays on one file system), same extension."""
    return path.with_name(f".{path.stem[:80]}.{secrets.token_hex(4)}.part{path.suffix}")
