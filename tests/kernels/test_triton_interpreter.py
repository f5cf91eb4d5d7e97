"""The Triton kernels, run on the CPU by Triton's interpreter, against the reference.

The interpreter is chosen by an environment variable when Triton is imported, so the checks run in
child processes: the files in `interpreted`, and the conformance suite's Triton rows. A person can
do the same: TRITON_INTERPRET=1 python -m pytest tests/kernels/interpreted.
"""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
import torch

pytest.importorskip("triton", reason="triton is not installed")

from opensora_fast.kernels.common.availability import interpreted
from opensora_fast.kernels.registry import explain

HERE = Path(__file__).parent
FILES = sorted((HERE / "interpreted").glob("test_*.py"))


def _version(text: str) -> tuple[int, int]:
    major, minor = text.split(".")[:2]
    return int(major), int(minor)


BROKEN = _version(importlib.metadata.version("triton")) < (3, 7) and _version(
    numpy.__version__
) >= (2, 4)
pytestmark = [
    pytest.mark.skipif(interpreted(), reason="this process is itself the interpreter's"),
    pytest.mark.skipif(
        BROKEN, reason="the interpreter of Triton 3.6 cannot loop under NumPy 2.4 or later"
    ),
]


def passes_in_the_interpreter(*arguments: str | Path) -> None:
    child = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *arguments],
        env=os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 0, child.stdout + child.stderr
    assert " passed" in child.stdout


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem.removeprefix("test_"))
def test_checks_pass_in_the_interpreter(file: Path) -> None:
    passes_in_the_interpreter(file)


def test_conformance_in_the_interpreter() -> None:
    """Point by point as everywhere; bf16 is left to real hardware: the interpreter emulates it."""
    chosen = "test_backend and -triton- and not cuda"
    passes_in_the_interpreter(HERE / "test_conformance.py", "-k", chosen)


def test_a_cpu_tensor_is_refused_with_the_reason() -> None:
    x, shift = torch.zeros(1, 2, 4), torch.zeros(1, 4)
    verdicts = explain("layer_norm_modulate", x, shift, shift)
    row = next(v for v in verdicts if v.backend == "triton")
    assert row.reason is not None and "TRITON_INTERPRET" in row.reason
    assert row.verified is None


def test_naming_the_backend_imports_no_triton() -> None:
    code = (
        "import sys, torch; from opensora_fast.kernels import layer_norm_modulate as f;"
        "from opensora_fast.kernels.registry import explain; x = torch.zeros(1, 2, 4);"
        "f(x, x[:, 0], x[:, 0]); explain('layer_norm_modulate', x, x[:, 0], x[:, 0]);"
        "sys.exit('opensora_fast.kernels.layer_norm_modulate._triton' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
