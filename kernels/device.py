"""What a device is, for launch choices, rooflines and messages: cached, pure queries."""

from __future__ import annotations

import functools
import os
import platform
from dataclasses import dataclass, field
from pathlib import Path

import torch


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceInfo:
    """Facts about one device; None where the device does not say and no data sheet is known.

    Args:
        type: "cpu" or "cuda".
        name: as the device reports it.
        compute_capability: of a GPU, e.g. (9, 0).
        num_units: multiprocessors of a GPU, threads that torch uses on a CPU.
        memory_bytes: of the device.
        l2_bytes: level-2 cache of a GPU.
        shared_memory_bytes: most that one block of a GPU may use.
        isa: instruction sets of a CPU that matter to kernels, e.g. ("avx2", "avx512f").
        bandwidth_bytes_per_s: of the memory, from the data sheet.
        peak_flops: dense operations per second by dtype, from the data sheet.
    """

    type: str
    name: str
    compute_capability: tuple[int, int] | None = None
    num_units: int
    memory_bytes: int | None = None
    l2_bytes: int | None = None
    shared_memory_bytes: int | None = None
    isa: tuple[str, ...] = ()
    bandwidth_bytes_per_s: float | None = None
    peak_flops: dict[torch.dtype, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _DataSheet:
    bandwidth_bytes_per_s: float
    half_flops: float
    fp32_flops: float


# NVIDIA data sheets, without sparsity; the first row whose words all occur in the name applies.
_DATA_SHEETS = (
    (("H200",), _DataSheet(4.8e12, 989e12, 67e12)),
    (("H100", "NVL"), _DataSheet(3.9e12, 835e12, 60e12)),
    (("H100", "PCIe"), _DataSheet(2.0e12, 756e12, 51e12)),
    (("H100",), _DataSheet(3.35e12, 989e12, 67e12)),
    (("A100", "80GB"), _DataSheet(2.04e12, 312e12, 19.5e12)),
    (("A100",), _DataSheet(1.56e12, 312e12, 19.5e12)),
    (("B200",), _DataSheet(8.0e12, 2250e12, 80e12)),
    (("L40S",), _DataSheet(0.864e12, 362e12, 91.6e12)),
    (("RTX 4090",), _DataSheet(1.01e12, 165e12, 82.6e12)),
)

_ISA_FLAGS = ("avx2", "fma", "avx512f", "avx512bw", "avx512_bf16", "amx_bf16", "asimd", "sve")


def device_info(device: torch.device | str = "cpu") -> DeviceInfo:
    """Return the facts about a device.

    Args:
        device: a CPU or CUDA device; "cuda" means the current one.

    Returns:
        The facts, gathered once per device.

    Raises:
        ValueError: the device is neither, or torch sees no such GPU.
    """
    device = torch.device(device)
    if device.type == "cpu":
        return _cpu()
    if device.type != "cuda":
        raise ValueError(f"device_info: knows CPU and CUDA devices, not {device}")
    count = torch.cuda.device_count()
    index = device.index
    if index is None:
        index = torch.cuda.current_device() if count else 0  # type: ignore[unreachable]
    if index >= count:
        raise ValueError(f"device_info: no device {device}, torch sees {count} CUDA devices")
    return _cuda(index)


@functools.cache
def _cpu() -> DeviceInfo:
    return DeviceInfo(
        type="cpu",
        name=_cpu_field("model name") or platform.processor() or platform.machine(),
        num_units=torch.get_num_threads(),
        memory_bytes=_cpu_memory(),
        isa=tuple(flag for flag in _ISA_FLAGS if flag in _cpu_flags()),
    )


@functools.cache
def _cuda(index: int) -> DeviceInfo:
    facts = torch.cuda.get_device_properties(index)
    sheet = data_sheet(facts.name)
    return DeviceInfo(
        type="cuda",
        name=facts.name,
        compute_capability=(facts.major, facts.minor),
        num_units=facts.multi_processor_count,
        memory_bytes=facts.total_memory,
        l2_bytes=facts.L2_cache_size,
        shared_memory_bytes=getattr(facts, "shared_memory_per_block_optin", None),
        bandwidth_bytes_per_s=sheet.bandwidth_bytes_per_s if sheet else None,
        peak_flops=(
            {
                torch.bfloat16: sheet.half_flops,
                torch.float16: sheet.half_flops,
                torch.float32: sheet.fp32_flops,
            }
            if sheet
            else {}
        ),
    )


def data_sheet(name: str) -> _DataSheet | None:
    """Return the data sheet of a GPU by the name it reports, or None."""
    return next(
        (sheet for words, sheet in _DATA_SHEETS if all(word in name for word in words)), None
    )


@functools.cache
def _cpu_flags() -> frozenset[str]:
    return frozenset((_cpu_field("flags") or _cpu_field("Features") or "").split())


def _cpu_field(name: str) -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return None
    fields = (line.partition(":") for line in lines)
    return next((value.strip() for key, _, value in fields if key.strip() == name), None)


def _cpu_memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None
