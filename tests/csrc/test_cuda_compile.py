"""Every CUDA source compiles for the generations it is shipped for, within a device's limits.

What ptxas says of each kernel: registers, stack and spills, shared memory. The shared memory that a
launch asks for is checked against the device's by static_asserts, so by compiling at all.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

CSRC = Path(__file__).parent.parent.parent / "csrc"
SOURCES = sorted((CSRC / "cuda").rglob("*.cu"))
HALO_CONVOLUTION = CSRC / "cuda" / "group_norm_silu_conv3d.cu"
ARCHITECTURES = ("80", "90a")
FLAGS = ["-std=c++17", "-O3", f"-I{CSRC}", "--Werror", "all-warnings"]
# 65536 registers to a multiprocessor: with at most 128 a thread, two blocks of 256 are resident.
MOST_REGISTERS = 128
# One block has all shared memory, and with it all registers.
MOST_REGISTERS_OF_ONE_BLOCK = 255
MOST_STATIC_SHARED_BYTES = 48 * 1024
# What the fast form of the halo convolution is made of, in PTX and in machine code.
HOPPER_PTX = (
    "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16",
    "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes",
    "mbarrier.try_wait.parity",
    "setmaxnreg.inc",
)
HOPPER_SASS = ("HGMMA.64x128x16.F32.BF16", "UBLKCP", "USETMAXREG", "LDSM.16.M88.4")

_KERNEL = re.compile(
    r"Compiling entry function '(?P<name>\w+)'.*?"
    r"(?P<stack>\d+) bytes stack frame, (?P<stores>\d+) bytes spill stores, "
    r"(?P<loads>\d+) bytes spill loads.*?"
    r"Used (?P<registers>\d+) registers(?P<rest>[^\n]*)",
    re.DOTALL,
)


@dataclass(frozen=True)
class Kernel:
    """What ptxas reports of one kernel."""

    name: str
    registers: int
    stack_bytes: int
    spilled_bytes: int
    shared_bytes: int


def kernels_of(report: str) -> list[Kernel]:
    """Read the report of ptxas -v."""
    found = []
    for match in _KERNEL.finditer(report):
        shared = re.search(r"(\d+) bytes smem", match["rest"])
        found.append(
            Kernel(
                name=match["name"],
                registers=int(match["registers"]),
                stack_bytes=int(match["stack"]),
                spilled_bytes=int(match["stores"]) + int(match["loads"]),
                shared_bytes=int(shared[1]) if shared else 0,
            )
        )
    return found


def compile_source(source: Path, output: Path, *flags: str) -> str:
    """Compile; return what nvcc printed. Skips where there is no nvcc."""
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("nvcc is not installed: nothing of the CUDA sources was checked")
    done = subprocess.run(
        [nvcc, str(source), "-o", str(output), *FLAGS, *flags],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_compiles_within_the_limits_of_the_device(
    source: Path, arch: str, tmp_path: Path, record_property: pytest.RecordProperty
) -> None:
    target = f"arch=compute_{arch},code=sm_{arch}"
    report = compile_source(source, tmp_path / "out.o", "-c", "-Xptxas", "-v", "-gencode", target)
    kernels = kernels_of(report)
    most = MOST_REGISTERS_OF_ONE_BLOCK if source == HALO_CONVOLUTION else MOST_REGISTERS
    record_property("kernels", [str(kernel) for kernel in kernels])
    print("\n".join(f"{source.name} sm_{arch}: {kernel}" for kernel in kernels))
    assert bool(kernels) == ("<<<" in source.read_text()), report[-4000:]
    for kernel in kernels:
        assert kernel.spilled_bytes == kernel.stack_bytes == 0, kernel
        assert kernel.registers <= most, kernel
        assert kernel.shared_bytes <= MOST_STATIC_SHARED_BYTES, kernel
    # ptxas only remarks on it when it makes asynchronous products wait for each other.
    assert "serialized" not in report, report[-4000:]


@pytest.mark.slow
def test_the_halo_convolution_multiplies_by_wgmma(tmp_path: Path) -> None:
    hopper = ("-gencode", "arch=compute_90a,code=compute_90a")
    compile_source(HALO_CONVOLUTION, tmp_path / "hopper.ptx", "-ptx", *hopper)
    ptx = (tmp_path / "hopper.ptx").read_text()
    assert [promise for promise in HOPPER_PTX if promise not in ptx] == []
    # Four steps of 16 channels for two rows of a warp, once: the loop over taps stays a loop.
    assert ptx.count("wgmma.mma_async") == 8
    ampere = ("-gencode", "arch=compute_80,code=compute_80")
    compile_source(HALO_CONVOLUTION, tmp_path / "ampere.ptx", "-ptx", *ampere)
    ptx = (tmp_path / "ampere.ptx").read_text()
    assert "wgmma.mma_async" not in ptx
    assert "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32" in ptx


@pytest.mark.slow
def test_the_machine_code_of_the_halo_convolution(tmp_path: Path) -> None:
    triton = pytest.importorskip("triton", reason="triton, which brings cuobjdump, is missing")
    cuobjdump = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    if not cuobjdump.is_file():
        pytest.skip(f"there is no {cuobjdump}")
    compile_source(HALO_CONVOLUTION, tmp_path / "out.cubin", "-cubin", "-arch=sm_90a")
    done = subprocess.run(
        [cuobjdump, "-sass", tmp_path / "out.cubin"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert [promise for promise in HOPPER_SASS if promise not in done.stdout] == []
    assert not re.search(r"\b(STL|LDL)\b", done.stdout), "registers go to local memory"


def test_the_report_is_read() -> None:
    report = """ptxas info    : Compiling entry function '_Z4loopv' for 'sm_90a'
ptxas info    : Function properties for _Z4loopv
    512 bytes stack frame, 8 bytes spill stores, 4 bytes spill loads
ptxas info    : Used 64 registers, used 1 barriers, 6152 bytes smem, 512 bytes cmem[0]
ptxas info    : Compiling entry function '_Z4stopv' for 'sm_90a'
ptxas info    : Function properties for _Z4stopv
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 8 registers, used 0 barriers
"""
    assert kernels_of(report) == [
        Kernel("_Z4loopv", 64, 512, 12, 6152),
        Kernel("_Z4stopv", 8, 0, 0, 0),
    ]
