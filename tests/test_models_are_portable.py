"""Models and training contain no hardware: backends are the kernels' business."""

from __future__ import annotations

import io
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BANNED = {
    r"\bcuda\b": "names a kind of device",
    r"\btriton\b": "names a backend",
    r"\b_C\b": "uses the extension",
    r"\bdevice\s*\.\s*type\b": "asks for the kind of device",
    r"\btry\s*:\s*(from\b[^\n]*)?\bimport\b": "probes for a package",
}
FILES = sorted(file for room in ("models", "train") for file in (ROOT / room).rglob("*.py"))


def findings(source: str) -> list[str]:
    """What is banned in the code of a module; comments and docstrings may say anything."""
    kept = []
    previous = tokenize.NEWLINE
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        is_docstring = token.type == tokenize.STRING and previous in (
            tokenize.NEWLINE,
            tokenize.INDENT,
            tokenize.DEDENT,
        )
        if token.type not in (tokenize.NL, tokenize.COMMENT):
            previous = token.type
            if not is_docstring:
                kept.append(token.string)
    code = " ".join(kept)
    return [f"{why} ({pattern})" for pattern, why in BANNED.items() if re.search(pattern, code)]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_no_hardware(file: Path) -> None:
    """No banned word in the code of models and training."""
    assert not findings(file.read_text())


@pytest.mark.parametrize(
    "source",
    [
        "x = y.cuda()",
        "import triton",
        "from opensora_fast import _C",
        "if x.device.type == 'cpu':\n    pass",
        "try:\n    import xformers\nexcept ImportError:\n    pass",
        "try:\n    from a.b import c\nexcept ImportError:\n    pass",
        "device = 'cuda'",
    ],
)
def test_the_rule_finds_what_it_should(source: str) -> None:
    """The rule itself, on code that breaks it."""
    assert findings(source)


def test_the_rule_lets_prose_alone() -> None:
    """Comments and docstrings may name what they like."""
    assert not findings(
        '"""Runs on cuda."""\n\n# triton too\ndef f():\n    """_C."""\n    return 1\n'
    )
