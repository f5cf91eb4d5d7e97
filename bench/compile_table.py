"""The table of all GPU kernels as the compilers make them: no GPU is needed for it."""

from __future__ import annotations

import argparse
import functools
import importlib.util
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from rich.console import Console

from opensora_fast.kernels.atomic import replacing
from opensora_fast.kernels.common.catalogue import CAPABILITIES, ops_with_launches
from opensora_fast.kernels.common.inspection import Inspection, inspect_all
from opensora_fast.kernels.common.sources import digest

from .arguments import positive

SUCCESS, LOSS = 0, 1
# Architectures that the extension ships machine code for.
CUDA_ARCHITECTURES = ("80", "90a")
_CSRC = Path(__file__).resolve().parent.parent / "csrc"
# The same instructions as in PTX, as machine code spells them.
_MACHINE_CODE = {
    "wgmma": r"\bHGMMA\b",
    "mma": r"\bHMMA\b",
    "bulk copy": r"\b(?:UTMALDG|UBLKCP)\b",
    "async copy": r"\bLDGSTS\b",
    "16-byte load": r"\bLDG(?:\.\w+)*\.128\b",
}
_HEAD = """# What the compilers make of the GPU kernels

Every Triton launch of the released models' shapes ({triton}) for sm_80, sm_90 and sm_100, and every
CUDA kernel ({nvcc}) for the architectures it ships for. Written by `opensora-fast bench
compile-table`; the tests fail on a spill, on a launch that does not fit the device and on a
promised instruction that is not there. They believe this table where the digest of an op's sources
and the version of Triton are still the same, and compile the rest. Registers and stack are per
thread, shared memory per block; instructions say how often each occurs in the code, not how often
it runs.
"""
_SOURCES = "Sources {}"
_COLUMNS = "| launch | kernel | sm | warps | registers | stack | shared, KiB | instructions |"
_CUDA_COLUMNS = "| kernel | sm | registers | stack | shared, KiB | instructions |"


@dataclass(frozen=True, kw_only=True, slots=True)
class CudaKernel:
    """One kernel of a CUDA source for one architecture; static shared memory."""

    source: str
    kernel: str
    architecture: str
    registers: int
    stack_bytes: int
    shared_bytes: int
    instructions: dict[str, int]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the verb takes."""
    parser.add_argument("ops", nargs="*", metavar="OP", help="folders of kernels; default: all")
    parser.add_argument("--out", metavar="FILE.md", help="default: print it")
    parser.add_argument(
        "--jobs", type=positive, metavar="N", help="processes (default: one per core)"
    )
    parser.add_argument("--no-cuda", action="store_true", help="leave the CUDA C++ kernels out")


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Compile everything and write the table.

    Args:
        arguments: see `add_arguments`.
        console: shows the progress and the complaints.

    Returns:
        1 if a kernel does not fit its device, else 0.

    Raises:
        ValueError: an unknown folder, or no Triton.
    """
    if importlib.util.find_spec("triton") is None:
        raise ValueError("bench compile-table needs Triton, which is not installed")
    known = ops_with_launches()
    unknown = [op for op in arguments.ops if op not in known]
    if unknown:
        raise ValueError(f"{unknown[0]!r} has no launches; those that have are {', '.join(known)}")
    found: list[Inspection] = []
    wanted = [(op, capability) for op in arguments.ops or known for capability in CAPABILITIES]
    for op, capability, some in inspect_all(wanted, arguments.jobs):
        console.print(f"{op} sm_{capability}: {len(some)} launches", highlight=False)
        found += some
    native = [] if arguments.no_cuda else list(cuda_kernels(console, arguments.jobs))
    text = table(found, native)
    if arguments.out is None:
        print(text)
    else:
        with replacing(arguments.out) as temporary:
            temporary.write_text(text, encoding="utf-8")
    complaints = [f"{one.op}: {sentence}" for one in found for sentence in one.complaints]
    for sentence in complaints:
        console.print(sentence, markup=False, highlight=False, soft_wrap=True)
    return LOSS if complaints else SUCCESS


def table(found: Sequence[Inspection], native: Sequence[CudaKernel] = ()) -> str:
    """The table as Markdown: Triton's launches by op, then the CUDA kernels by source.

    Args:
        found: launches.
        native: CUDA kernels.

    Returns:
        The text.
    """
    lines = [_HEAD.format(triton=f"Triton {metadata.version('triton')}", nvcc=_nvcc_version())]
    for op in dict.fromkeys(one.op for one in found):
        lines += [f"## {op}", "", _SOURCES.format(digest(op)), "", _COLUMNS, _rule(_COLUMNS)]
        launches = [one for one in found if one.op == op]
        for one in sorted(launches, key=lambda one: (one.case, one.capability)):
            if one.registers == 0:
                rest = "does not compile | | |"
            elif one.complaints:
                rest = f"{one.registers}: does not fit | {one.stack_bytes} | |"
            else:
                rest = f"{one.registers} | {one.stack_bytes} | {_kib(one.shared_bytes)} |"
            lines.append(
                f"| {one.case} | {one.kernel} | {one.capability} | {one.num_warps} | {rest} "
                f"{_listed(one.instructions)} |"
            )
        lines.append("")
    for source in dict.fromkeys(one.source for one in native):
        lines += [f"## csrc/cuda/{source}", "", _CUDA_COLUMNS, _rule(_CUDA_COLUMNS)]
        lines += [
            f"| {one.kernel} | {one.architecture} | {one.registers} | {one.stack_bytes} | "
            f"{_kib(one.shared_bytes)} | {_listed(one.instructions)} |"
            for one in native
            if one.source == source
        ]
        lines.append("")
    return "\n".join(lines)


@dataclass(frozen=True, kw_only=True, slots=True)
class Recorded:
    """What a table says of one op.

    Args:
        sources: digest of the files that it was made of.
        registers: of a thread, by launch and capability.
    """

    sources: str
    registers: dict[tuple[str, int], int]


def read_table(text: str) -> tuple[str, dict[str, Recorded]]:
    """Read what `table` wrote of Triton's launches.

    Args:
        text: of the file.

    Returns:
        The version of Triton, and the ops.
    """
    version = re.search(r"\(Triton (\S+)\)", text)
    ops = {}
    for part in text.split("\n## ")[1:]:
        sources = re.search(_SOURCES.format(r"(\w+)"), part)
        rows = re.findall(r"^\| (\S+) \| \S+ \| (\d+) \| \d+ \| (\d+) \| 0 \|", part, re.M)
        if sources is not None:
            ops[part.split("\n")[0]] = Recorded(
                sources=sources[1],
                registers={(case, int(cap)): int(registers) for case, cap, registers in rows},
            )
    return version[1] if version else "", ops


def cuda_kernels(console: Console, jobs: int | None = None) -> Iterator[CudaKernel]:
    """Compile the CUDA sources for every architecture, and look at the machine code.

    Args:
        console: told what is missing.
        jobs: compilers at a time.

    Yields:
        The kernels, by source and architecture.
    """
    nvcc, tool = shutil.which("nvcc"), _cuobjdump()
    if nvcc is None or tool is None or not _CSRC.is_dir():
        missing = "a checkout" if not _CSRC.is_dir() else "nvcc" if nvcc is None else "cuobjdump"
        console.print(f"without {missing} the CUDA C++ kernels are left out", highlight=False)
        return
    sources = sorted((_CSRC / "cuda").glob("*.cu"))
    pairs = [(source, arch) for source in sources for arch in CUDA_ARCHITECTURES]
    with ThreadPoolExecutor(jobs or 2) as pool:
        for some in pool.map(lambda pair: _compiled(nvcc, tool, *pair), pairs):
            yield from some


def read_resources(text: str) -> dict[str, tuple[int, int, int]]:
    """Registers, stack and shared memory by function, from what `cuobjdump -res-usage` prints."""
    pattern = r"Function (\S+):\s*REG:(\d+) STACK:(\d+) SHARED:(\d+)"
    return {
        name: (int(registers), int(stack), int(shared))
        for name, registers, stack, shared in re.findall(pattern, text)
    }


def read_instructions(text: str) -> dict[str, dict[str, int]]:
    """How often instructions that matter occur by function, from what `cuobjdump -sass` prints."""
    parts = re.split(r"Function : (\S+)", text)[1:]
    counts = {}
    for name, code in zip(parts[::2], parts[1::2], strict=True):
        found = {what: len(re.findall(word, code)) for what, word in _MACHINE_CODE.items()}
        counts[name] = {what: count for what, count in found.items() if count}
    return counts


def _compiled(nvcc: str, tool: str, source: Path, architecture: str) -> list[CudaKernel]:
    with tempfile.TemporaryDirectory(prefix="opensora-fast-cubin-") as folder:
        cubin = Path(folder, "out.cubin")
        target = f"arch=compute_{architecture},code=sm_{architecture}"
        _output(nvcc, "-std=c++17", "-O3", f"-I{_CSRC}", "-cubin", "-o", cubin, "-gencode", target,
                source)  # fmt: skip
        resources = read_resources(_output(tool, "-res-usage", cubin))
        instructions = read_instructions(_output(tool, "-sass", cubin))
    names = _demangled(resources)
    return [
        CudaKernel(
            source=source.name, kernel=names[name], architecture=architecture,
            registers=registers, stack_bytes=stack, shared_bytes=shared,
            instructions=instructions.get(name, {}),
        )
        for name, (registers, stack, shared) in sorted(resources.items())
    ]  # fmt: skip


def _demangled(names: Iterable[str]) -> dict[str, str]:
    """Names as in the source, without namespace, return type and arguments."""
    tool = shutil.which("c++filt") or shutil.which("cu++filt")
    names = list(names)
    if tool is None or not names:
        return {name: name for name in names}
    plain = _output(tool, *names).splitlines()
    return {name: short_name(text) for name, text in zip(names, plain, strict=True)}


def short_name(text: str) -> str:
    """`void osf::(anonymous namespace)::k<int, (bool)1>(osf::P)` becomes `k<int, 1>`."""
    text = text.replace("(anonymous namespace)::", "").removeprefix("void ")
    text = re.sub(r"\b(?:osf|cuda)::", "", text)
    text = re.sub(r"\((?:bool|int|long|unsigned int)\)", "", text)
    depth = 0
    for i, letter in enumerate(text):
        depth += (letter == "<") - (letter == ">")
        if letter == "(" and depth == 0:
            return text[:i]
    return text


def _output(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} failed: {' '.join((done.stdout + done.stderr).split())}")
    return done.stdout


def _cuobjdump() -> str | None:
    """Triton brings one; else the toolkit's."""
    spec = importlib.util.find_spec("triton")
    if spec is not None and spec.origin is not None:
        tool = Path(spec.origin).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
        if tool.is_file():
            return str(tool)
    return shutil.which("cuobjdump")


@functools.cache
def _nvcc_version() -> str:
    nvcc = shutil.which("nvcc")
    found = re.search(r"release ([\d.]+)", _output(nvcc, "--version")) if nvcc else None
    return f"nvcc {found[1]}" if found else "no nvcc"


def _listed(instructions: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in instructions.items())


def _kib(size: int) -> str:
    return f"{size / 1024:.1f}" if size else "0"


def _rule(columns: str) -> str:
    return "|" + "---|" * (columns.count("|") - 1)
