"""What this machine can do for this package, and why not more."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass

import torch

from opensora_fast import __version__, kernels
from opensora_fast.components import INDEX_NAME, TINY_FOLDER
from opensora_fast.kernels import native, verification
from opensora_fast.kernels.device import DeviceInfo, device_info
from opensora_fast.kernels.registry import OPS

_PACKAGES = ("torch", "triton", "transformers", "safetensors", "av", "numpy")
_VARIABLES = ("OPENSORA_FAST_BACKEND", "OPENSORA_FAST_CPU_ISA", "OPENSORA_FAST_CACHE")


@dataclass(frozen=True, slots=True)
class OpReport:
    """Which backends of one op could serve a typical call, and what would run.

    Args:
        name: the op.
        device: of the call's tensors.
        dtype: of the call's tensors.
        chosen: the backend that would run; None if the forced one cannot.
        backends: backend to "usable", or the reason why not; and the hardware it was verified on.
    """

    name: str
    device: str
    dtype: str
    chosen: str | None
    backends: dict[str, str]


@dataclass(frozen=True, slots=True)
class Report:
    """What `examine` found; prints as text.

    Args:
        facts: title of a section to its lines, name to value.
        ops: one entry per op and device.
        advice: what would give more, in order of gain.
    """

    facts: dict[str, dict[str, str]]
    ops: tuple[OpReport, ...]
    advice: tuple[str, ...]

    def to_json(self) -> str:
        """The report as JSON."""
        return json.dumps(dataclasses.asdict(self), indent=2)

    def __str__(self) -> str:
        lines: list[str] = []
        for title, facts in self.facts.items():
            lines += [title, *(f"  {name:<22} {value}" for name, value in facts.items()), ""]
        lines.append("Ops (-> is what runs)")
        for op in self.ops:
            lines.append(f"  {op.name} on {op.device}, {op.dtype}")
            for name, verdict in op.backends.items():
                lines.append(f"    {'->' if name == op.chosen else '  '} {name:<10} {verdict}")
        lines += ["", "To get more"] if self.advice else ["", "Nothing is missing."]
        lines += [f"  - {sentence}" for sentence in self.advice]
        return "\n".join(lines)


def examine() -> Report:
    """Look at the machine and the installation. Runs no kernel and changes nothing."""
    devices = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    facts = {
        "Software": _software(),
        "CPU": _cpu(),
        "GPU": _gpus(),
        "Model": {"tiny": _tiny()},
        "Environment": {name: os.environ.get(name) or "(not set)" for name in _VARIABLES},
    }
    if torch.cuda.is_available():
        facts["Rows that auto takes on cuda:0 once they have passed there"] = _checked("cuda:0")
    ops = tuple(_op(name, device) for device in devices[:2] for name in kernels.__all__)
    return Report(facts, ops, _advice())


def verify(device: str, say: Callable[[str], None]) -> bool:
    """Run the conformance cases of every row that has not passed them on a device yet.

    Args:
        device: "cuda:n".
        say: told what came out, row by row.

    Returns:
        Whether all rows have passed, in every dtype that they take.
    """
    place, all_passed = torch.device(device), True
    for op, row in verification.unverified(place):
        for dtype, found in verification.state(op, row, place).items():
            if found is None or found.failed:
                found = verification.verify(op, row, dtype, place)
                verification.remember([found], place)
                say(f"{op.name} {row.name} {dtype}: {_outcome(found)}, {found.seconds:.1f} s")
            all_passed = all_passed and not found.failed
    return all_passed


def _checked(device: str) -> dict[str, str]:
    place = torch.device(device)
    return {
        f"{op.name} {row.name}": "; ".join(
            f"{dtype} {_outcome(found)}"
            for dtype, found in verification.state(op, row, place).items()
        )
        for op, row in verification.unverified(place)
    }


def _outcome(found: verification.Finding | None) -> str:
    if found is None:
        return "not checked yet"
    if found.failed:
        return f"FAILED: {found.reason}"
    return "passed" if found.reason is None else "not for it"


def _software() -> dict[str, str]:
    facts = {"opensora-fast": __version__, "Python": platform.python_version()}
    for package in _PACKAGES:
        try:
            facts[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            facts[package] = "not installed"
    return facts


def _cpu() -> dict[str, str]:
    info = device_info("cpu")
    return {
        "model": info.name,
        "threads of torch": str(info.num_units),
        "memory": _gib(info),
        "instruction sets": ", ".join(info.isa) or "none that matter here",
        "native extension": _extension(),
    }


def _why_no_extension() -> str | None:
    try:
        return native.why_no_cpu()
    except ImportError as error:
        return f"built, but it does not load: {error}"


def _extension() -> str:
    reason = _why_no_extension()
    if reason is not None:
        return reason
    from opensora_fast import _C

    cuda = "with CUDA kernels" if _C.HAS_CUDA else "without CUDA kernels"
    return f"built, {cuda}; uses {_C.cpu_isa()} of {', '.join(_C.cpu_isas())}"


def _gpus() -> dict[str, str]:
    facts = {"CUDA": _cuda_state(), "CUDA C++ kernels": _cuda_kernels(), "Triton": _triton()}
    for index in range(torch.cuda.device_count()):
        info = device_info(f"cuda:{index}")
        capability = ".".join(map(str, info.compute_capability or ()))
        facts[f"cuda:{index}"] = f"{info.name}, capability {capability}, {_gib(info)}"
    return facts


def _cuda_state() -> str:
    if torch.version.cuda is None:
        return "this torch was built without CUDA"
    if not torch.cuda.is_available():
        return f"torch was built for CUDA {torch.version.cuda}, but sees no device"
    return f"CUDA {torch.version.cuda}, {torch.cuda.device_count()} device(s)"


def _cuda_kernels() -> str:
    reason = _why_no_extension() or native.why_no_cuda()
    if reason is not None:
        return reason
    rows = [row for op in OPS.values() for row in op.backends if row.name == "cuda"]
    verified = sorted({row.verified for row in rows if row.verified})
    return "compiled; " + ("; ".join(verified) or "unverified: never run on real hardware")


def _triton() -> str:
    if importlib.util.find_spec("triton") is None:
        return "not installed"
    if not torch.cuda.is_available():
        return "installed; compiles, but has no GPU to run on"
    return "installed"


def _tiny() -> str:
    path = TINY_FOLDER / INDEX_NAME
    return str(TINY_FOLDER) if path.is_file() else f"missing ({TINY_FOLDER})"


def _op(name: str, device: str) -> OpReport:
    """Ask the op about a typical call: the first of its bench cases."""
    cases = importlib.import_module(f"opensora_fast.kernels.{name}.cases")
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    report = functools.partial(OpReport, name, device, str(dtype).removeprefix("torch."))
    try:
        explanation = OPS[name].explain(*cases.make_inputs(cases.BENCH[0], device, dtype))
    except ImportError as error:  # the extension is there and does not load
        return report(None, {"none": f"the op cannot run: {error}"})
    backends = {
        verdict.backend: (
            f"usable; {verdict.verified or 'unverified: never run on real hardware'}"
            if verdict.usable
            else f"no: {verdict.reason}"
        )
        for verdict in explanation
    }
    return report(explanation.chosen, backends)


def _advice() -> tuple[str, ...]:
    advice = []
    if _why_no_extension() is not None:
        compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
        how = "run `make build`" if compiler else "install a C++17 compiler, then run `make build`"
        advice.append(f"{how}: the C++ kernels make the CPU faster")
    if shutil.which("nvidia-smi") and torch.version.cuda is None:
        advice.append("there is an NVIDIA driver: install the CUDA build of torch to use the GPU")
    if torch.cuda.is_available() and importlib.util.find_spec("triton") is None:
        advice.append("pip install triton: most GPU kernels are written in it")
    if not (TINY_FOLDER / INDEX_NAME).is_file():
        advice.append("run `make train-tiny`: the tiny model is missing")
    return tuple(advice)


def _gib(info: DeviceInfo) -> str:
    return "not known" if info.memory_bytes is None else f"{info.memory_bytes / 2**30:.1f} GiB"
