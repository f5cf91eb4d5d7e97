"""Every CUDA source compiles for the generations it is shipped for, without spilling registers."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

CSRC = Path(__file__).parent.parent.parent / "csrc"
SOURCES = sorted((CSRC / "cuda").rglob("*.cu"))
FLAGS = ["-std=c++17", "-O3", f"-I{CSRC}", "-Xptxas", "-v", "--Werror", "all-warnings"]
# 65536 registers to a multiprocessor: with at most 128 a thread, two blocks of 256 are resident.
MOST_REGISTERS = 128


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["80", "90a"])
@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_compiles_without_spills(
    source: Path, arch: str, tmp_path: Path, record_property: pytest.RecordProperty
) -> None:
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("nvcc is not installed")
    target = f"arch=compute_{arch},code=sm_{arch}"
    done = subprocess.run(
        [nvcc, "-c", str(source), "-o", str(tmp_path / "out.o"), *FLAGS, "-gencode", target],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    report = done.stderr
    registers = [int(count) for count in re.findall(r"Used (\d+) registers", report)]
    spills = [int(count) for count in re.findall(r"(\d+) bytes spill (?:stores|loads)", report)]
    record_property("registers", registers)
    print(f"{source.name} sm_{arch}: {len(registers)} kernels, registers {sorted(registers)}")
    if "__global__" in source.read_text():
        assert registers, "ptxas reported no kernel"
    assert not any(spills), f"{source.name} spills registers on sm_{arch}:\n{report[-4000:]}"
    assert max(registers, default=0) <= MOST_REGISTERS
