"""Imports point down: csrc, kernels, models, then train and the door, then bench."""

from __future__ import annotations

import ast
import sys
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

# They lie in the package and belong to no room: everybody may ask for them.
NEUTRAL = {"_C", "__version__", "mistakes"}


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
            inner = parts[1] if len(parts) > 1 else ""
            if parts[0] == "opensora_fast" and inner not in NEUTRAL:
                rooms.add(inner if inner in ROOMS else "opensora_fast")
    return rooms


def violations(source: str, file: Path) -> set[str]:
    """Rooms that a module may not import and does."""
    room = file.relative_to(ROOT).parts[0]
    return imported_rooms(source, file) - {room} - ROOMS[room]


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
        ("kernels/x.py", "from opensora_fast import _C, video", {"opensora_fast"}),
        ("train/x.py", "from opensora_fast.mistakes import users_mistake", set()),
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


def test_what_belongs_to_no_room_takes_nothing_from_any() -> None:
    """Or asking for it would bring in what the asker may not have."""
    source = (ROOT / "opensora_fast" / "mistakes.py").read_text()
    nodes = ast.walk(ast.parse(source))
    imports = [node for node in nodes if isinstance(node, (ast.Import, ast.ImportFrom))]
    names = [getattr(node, "module", None) or node.names[0].name for node in imports]
    assert names
    assert {name.partition(".")[0] for name in names} <= sys.stdlib_module_names
