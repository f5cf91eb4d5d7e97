"""Ahead-of-time compilation of a planned launch, for a device that need not be here.

A kernel that compiles may still not run well, or at all: the compiler spills registers silently and
accepts more shared memory than the device has. ``compile_launch`` reports both against the limits.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.tools.tensor_descriptor import TensorDescriptor

from .launch import Launch

# Shared memory that one thread block may ask for, bytes, by compute capability (CUDA C++
# Programming Guide, technical specifications).
SHARED_MEMORY_LIMIT = {
    75: 65536,
    80: 166912,
    86: 101376,
    89: 101376,
    90: 232448,
    100: 232448,
    120: 101376,
}
MAX_REGISTERS_PER_THREAD = 255
REGISTERS_PER_BLOCK = 65536
_WARP_SIZE = 32

_POINTER_TYPES = {
    torch.float64: "*fp64",
    torch.float32: "*fp32",
    torch.float16: "*fp16",
    torch.bfloat16: "*bf16",
    torch.int64: "*i64",
    torch.int32: "*i32",
    torch.int8: "*i8",
    torch.float8_e4m3fn: "*fp8e4nv",
    torch.bool: "*i1",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Resources:
    """What one compiled kernel asks of a device, and what the device has."""

    kernel: str
    capability: int
    num_warps: int
    registers: int  # per thread
    stack_bytes: int  # per thread; spilled registers live there
    shared_bytes: int  # per block
    ptx: str

    @property
    def register_limit(self) -> int:
        """Registers that a thread may have when the whole block must fit on a multiprocessor."""
        return min(MAX_REGISTERS_PER_THREAD, REGISTERS_PER_BLOCK // (self.num_warps * _WARP_SIZE))

    @property
    def shared_limit(self) -> int:
        """Shared memory that a block may have, bytes."""
        return SHARED_MEMORY_LIMIT[self.capability]

    def complaints(self) -> list[str]:
        """Return a sentence for every reason not to ship this kernel; empty when it fits."""
        name = f"{self.kernel} for sm_{self.capability} with {self.num_warps} warps"
        found = []
        if self.stack_bytes:
            found.append(
                f"{name} uses {self.stack_bytes} bytes of stack per thread: registers are spilled"
            )
        if self.registers > self.register_limit:
            found.append(
                f"{name} needs {self.registers} registers per thread of {self.register_limit}"
            )
        if self.shared_bytes > self.shared_limit:
            found.append(
                f"{name} needs {self.shared_bytes} bytes of shared memory of {self.shared_limit}"
            )
        return found


def compile_launch(launch: Launch, capability: int) -> Resources:
    """Compile ``launch`` as its first run on an sm_``capability`` device would.

    Args:
        launch: the planned launch; its tensors may be on any device, meta included. Pointers are
            taken to be 16-byte aligned; integers are specialised by value, as a run does.
        capability: compute capability times ten, a key of SHARED_MEMORY_LIMIT.

    Raises:
        ValueError: the capability is unknown.
        RuntimeError: Triton's cuobjdump is missing or does not report.
    """
    if capability not in SHARED_MEMORY_LIMIT:
        known = ", ".join(map(str, sorted(SHARED_MEMORY_LIMIT)))
        raise ValueError(
            f"compile_launch: compute capability {capability} is unknown (known: {known})"
        )
    signature: dict[str, str] = {}
    constants: dict[tuple[int, ...], Any] = {}
    attributes: dict[tuple[int, ...], list[list[Any]]] = {}
    for i, parameter in enumerate(launch.kernel.params):
        name = parameter.name
        if name in launch.constants:
            signature[name], divisible = "constexpr", False
            constants[(i,)] = launch.constants[name]
        else:
            value = launch.arguments[name]
            signature[name], divisible = _specialise(value, parameter.do_not_specialize)
            if signature[name] == "constexpr":
                constants[(i,)] = value
        if divisible:
            attributes[(i,)] = [["tt.divisibility", 16]]
    source = triton.compiler.ASTSource(
        fn=launch.kernel, signature=signature, constexprs=constants, attrs=attributes
    )
    target = GPUTarget("cuda", capability, _WARP_SIZE)
    compiled = triton.compile(source, target=target, options=launch.options)
    registers, stack_bytes = _registers_and_stack(compiled.asm["cubin"])
    return Resources(
        kernel=launch.kernel.__name__,
        capability=capability,
        num_warps=launch.num_warps,
        registers=registers,
        stack_bytes=stack_bytes,
        shared_bytes=compiled.metadata.shared,
        ptx=compiled.asm["ptx"],
    )


def _specialise(value: Any, plain: bool) -> tuple[str, bool]:
    """Type of a run-time argument, and whether it is a multiple of 16; 1 becomes a constant.

    A plain integer is neither: whatever its value, the kernel is the same.
    """
    if isinstance(value, torch.Tensor):
        return _POINTER_TYPES[value.dtype], True
    if isinstance(value, TensorDescriptor):
        element = _POINTER_TYPES[value.base.dtype].removeprefix("*")
        return f"tensordesc<{element}{list(value.block_shape)}>", False
    if isinstance(value, float):
        return "fp32", False
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"compile_launch: cannot type the argument {value!r}")
    if value == 1 and not plain:
        return "constexpr", False
    return ("i32" if -(2**31) <= value < 2**31 else "i64"), value % 16 == 0 and not plain


def _registers_and_stack(cubin: bytes) -> tuple[int, int]:
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    if not tool.exists():
        raise RuntimeError(f"this Triton has no cuobjdump at {tool}")
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        done = subprocess.run(
            [tool, "-res-usage", file.name], capture_output=True, text=True, check=False
        )
    found = re.search(r"REG:(\d+).*?STACK:(\d+)", done.stdout + done.stderr, re.DOTALL)
    if not found:
        raise RuntimeError(f"cuobjdump reported no registers: {done.stdout}{done.stderr}")
    return int(found[1]), int(found[2])
