"""The Triton kernels, run on the CPU by Triton's interpreter, against the reference.

The interpreter is chosen by an environment variable when Triton is imported, so the checks run in
child processes (see conftest.py): the files in `interpreted`, and the conformance suite's Triton
rows. A person can do the same: TRITON_INTERPRET=1 python -m pytest tests/kernels/interpreted.
"""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import Future
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


# Arguments of pytest by name: each is a child. The conformance suite's rows are several, point by
# point as everywhere; bf16 is left to real hardware, which the interpreter does not round like.
_ROWS = "test_backend and -triton- and not cuda"
# The interpreter takes minutes for the gradients of the larger convolutions.
_SMALL = "strided or pointwise or image or ones or pixel or empty"
_LONG = "released"  # linear_attention: 125 taps of 192 channels
CHILDREN = {file.stem.removeprefix("test_"): (str(file),) for file in FILES} | {
    f"conformance-{name}": (str(HERE / "test_conformance.py"), "-k", f"{_ROWS} and {chosen}")
    for name, chosen in (
        ("convolutions", "conv3d and not backward"),
        ("gradients-of-convolutions", f"conv3d and backward and contiguous and ({_SMALL})"),
        ("attention", "attention and not linear_attention"),
        ("linear-attention", f"linear_attention and not ({_LONG})"),
        ("others", "not conv3d and not attention"),
    )
}

Children = Mapping[tuple[str, ...], "Future[subprocess.CompletedProcess[str]]"]


@pytest.mark.slow
@pytest.mark.parametrize("child", CHILDREN.values(), ids=CHILDREN)
def test_checks_pass_in_the_interpreter(child: tuple[str, ...], children: Children) -> None:
    done = children[child].result()
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


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
