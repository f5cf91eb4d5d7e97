"""What the README says of the ops is what the registry has."""

from __future__ import annotations

from pathlib import Path

from opensora_fast import kernels
from opensora_fast.kernels.registry import BACKEND_NAMES, OPS
from opensora_fast.kernels.testing import cases_of

README = Path(__file__).parent.parent / "README.md"
COLUMNS = ("cpu", "triton", "cuda")


def row(name: str) -> str:
    """The line of an op: which of its directions each backend has."""
    cells = []
    for backend in COLUMNS:
        directions = [
            word
            for word, op in (("forward", name), ("backward", f"{name}_backward"))
            if op in OPS and any(entry.name == backend for entry in OPS[op].backends)
        ]
        cells.append(f" {', '.join(directions)} " if directions else " ")
    remark = "" if cases_of(name).DIFFERENTIABLE else " (inference)"
    return f"| `{name}`{remark} |{'|'.join(cells)}|"


def test_the_table_of_ops_is_the_registry() -> None:
    lines = README.read_text(encoding="utf-8").splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("| op |")) + 2
    end = lines.index("", start)
    assert lines[start:end] == [row(name) for name in kernels.__all__]


def test_every_backend_is_named() -> None:
    text = README.read_text(encoding="utf-8")
    assert all(f'"{name}"' in text for name in BACKEND_NAMES)
