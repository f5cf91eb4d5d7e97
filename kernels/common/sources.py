"""Which files an op's GPU kernels are made of, and whether they are what they were."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable
from pathlib import Path

_ROOM = Path(__file__).resolve().parent.parent


def digest(op: str) -> str:
    """Hash the files that decide what an op launches: its `compiled.py` and all that it imports.

    Args:
        op: a folder with launches.

    Returns:
        16 hexadecimal digits.
    """
    found = hashlib.sha256()
    for path in sources(op):
        found.update(path.relative_to(_ROOM).as_posix().encode() + b"\0" + path.read_bytes())
    return found.hexdigest()[:16]


def sources(op: str) -> list[Path]:
    """The files of this room that an op's `compiled.py` needs, itself among them, sorted."""
    return sorted(closure([_ROOM / op / "compiled.py"]))


def closure(files: Iterable[Path]) -> set[Path]:
    """Files of this room, and all in it that these import, and so on.

    Faces (`__init__.py`) are left out: they name what stands elsewhere and decide nothing.
    """
    found: set[Path] = set()
    waiting = list(files)
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += _imported(path)
    return found


def _imported(path: Path) -> list[Path]:
    """The files of this room that a file names in its imports, wherever they stand in it."""
    files = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            folder = path.parents[node.level - 1].joinpath(*(node.module or "").split("."))
            files += [folder.with_suffix(".py"), *(folder / f"{a.name}.py" for a in node.names)]
    return [f for f in files if f.is_file()]
