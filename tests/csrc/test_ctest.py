"""The C++ tests, once per instruction set, and once more under the address sanitizer."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
TOOLS = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])


def tool(name: str) -> str:
    found = shutil.which(name, path=TOOLS)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def run(*command: str | Path, timeout_s: int = 900) -> str:
    environment = {**os.environ, "PATH": TOOLS, "OMP_NUM_THREADS": "1"}
    # The address sanitizer must come first among the libraries: nothing else may be preloaded.
    environment.pop("LD_PRELOAD", None)
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=timeout_s
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["test", pytest.param("asan", marks=pytest.mark.sanitizer)])
def test_kernels_pass_on_every_instruction_set(preset: str) -> None:
    if not any(shutil.which(compiler) for compiler in ("c++", "g++", "clang++")):
        pytest.skip("no C++ compiler is installed")
    tool("ninja")
    cmake = tool("cmake")
    run(cmake, "--preset", preset)
    run(cmake, "--build", "--preset", preset)
    output = run(tool("ctest"), "--preset", preset)
    assert "100% tests passed" in output
