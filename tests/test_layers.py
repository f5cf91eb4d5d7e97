"""Imports point down: csrc, kernels, models, then train and the door, then bench."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = {
    "kernels": set(),
    "models": {"kernels"},
    "train": {"kernels", "models"},
    "opensora_fast": {"kernels", "models"},
    "bench": {"kernels", "models", "train", "opensora_fast"},
}


def imported_rooms(source: str, file: Path) -> set[str]:
    """Rooms that a module imports, absolutely or relatively, at any depth of its code."""
    package = file.relative_to(ROOT).parts[:-1]
    if package[0] != "opensora_fast":
        package = ("opensora_fast", *package)
    rooms = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            module = base + (node.module.split(".") if node.module else [])
            names = [[*module, alias.name] for alias in node.names]
        else:
            continue
        for parts in names:
            if parts[0] == "opensora_fast":
                inner = parts[1] if len(parts) > 1 else ""
                rooms.add(inner if inner in ROOMS else "opensora_fast")
    return rooms


def violations(source: str, file: Path) -> set[str]:
    """Rooms that a module may not import and does."""
    room = file.relative_to(ROOT).parts[0]
    # The version and the extension belong to no room: everybody may ask for them.
    found = imported_rooms(source, file) - {room}
    if room in ("kernels", "models", "train"):
        found -= {"opensora_fast"} if only_neutral(source) else set()
    return found - ROOMS[room]


def only_neutral(source: str) -> bool:
    """Whether all that a module takes from the door is the extension or the version."""
    taken = {
        alias.name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom) and node.module == "opensora_fast" and not node.level
        for alias in node.names
    }
    return bool(taken) and taken <= {"_C", "__version__"}


FILES = sorted(file for room in ROOMS for file in (ROOT / room).rglob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_point_down(file: Path) -> None:
    """No module imports from a room above its own."""
    found = violations(file.read_text(), file)
    assert not found, f"{file.relative_to(ROOT)} imports {', '.join(sorted(found))}"


@pytest.mark.parametrize(
    ("where", "source", "expected"),
    [
        ("kernels/op.py", "from opensora_fast.models import MMDiT", {"models"}),
        ("kernels/op.py", "import opensora_fast.train.trainer", {"train"}),
        ("kernels/x/op.py", "from ...models import sampling", {"models"}),
        ("kernels/x/op.py", "from .. import contract", set()),
        ("kernels/x.py", "from opensora_fast import _C", set()),
        ("models/x.py", "def f():\n    from opensora_fast.pipeline import run", {"opensora_fast"}),
        ("models/x.py", "from opensora_fast import train", {"train"}),
        ("opensora_fast/cli/x.py", "from opensora_fast.bench import timing", {"bench"}),
        ("opensora_fast/cli/x.py", "from ..train import config", {"train"}),
        ("train/x.py", "from opensora_fast.kernels import attention", set()),
    ],
)
def test_the_rule_finds_what_it_should(where: str, source: str, expected: set[str]) -> None:
    """The rule itself, on imports of every form."""
    assert violations(source, ROOT / where) == expected
