"""What the compiler makes of the launches in the catalogue, several at a time.

Compiling one launch takes seconds and one core; processes of their own share the work.
"""

from __future__ import annotations

import multiprocessing
import os
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Final

from .catalogue import launches

# Instructions that tell how a kernel computes and moves its data: name, and pattern in PTX.
INSTRUCTIONS: Final = {
    "tcgen05": r"\btcgen05\.mma\b",
    "wgmma": r"\bwgmma\.mma_async\b",
    "mma": r"\bmma\.sync\b",
    "bulk copy": r"\bcp\.async\.bulk\.tensor\b",
    "async copy": r"\bcp\.async\.c[ag]\b",
    "16-byte load": r"\bld\.global(\.[\w:]+)*\.v4\b",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Inspection:
    """One launch, compiled for one architecture.

    Args:
        op: folder that it comes from.
        case: its name in the catalogue.
        kernel: name of the function.
        capability: compute capability times ten.
        num_warps: of a block.
        registers: of a thread.
        stack_bytes: of a thread; spilled registers live there.
        shared_bytes: of a block.
        instructions: how often each of `INSTRUCTIONS` occurs, where it does.
        complaints: why the kernel must not ship, sentences.
    """

    op: str
    case: str
    kernel: str
    capability: int
    num_warps: int
    registers: int
    stack_bytes: int
    shared_bytes: int
    instructions: dict[str, int]
    complaints: tuple[str, ...]


def inspect(op: str, case: str, capability: int) -> Inspection:
    """Compile one launch of the catalogue.

    Args:
        op: a folder with launches.
        case: name of a launch for this capability.
        capability: compute capability times ten.

    Returns:
        What came out; a compiler that gives up is a complaint.
    """
    from .compile import compile_launch  # imports Triton

    found = next(one for one in launches(op, capability) if one.name == case)
    try:
        resources = compile_launch(found.launch, capability)
    except Exception as error:
        sentence = f"{case}: does not compile for sm_{capability}: {' '.join(str(error).split())}"
        return Inspection(
            op=op, case=case, kernel=found.launch.kernel.__name__, capability=capability,
            num_warps=found.launch.num_warps, registers=0, stack_bytes=0, shared_bytes=0,
            instructions={}, complaints=(sentence[:2000],),
        )  # fmt: skip
    complaints = [f"{case}: {sentence}" for sentence in resources.complaints()]
    complaints += [
        f"{case}: the PTX for sm_{capability} has no {instruction}"
        for instruction in found.promises
        if instruction not in resources.ptx
    ]
    return Inspection(
        op=op,
        case=case,
        kernel=resources.kernel,
        capability=capability,
        num_warps=resources.num_warps,
        registers=resources.registers,
        stack_bytes=resources.stack_bytes,
        shared_bytes=resources.shared_bytes,
        instructions=count_instructions(resources.ptx),
        complaints=tuple(complaints),
    )


def count_instructions(ptx: str) -> dict[str, int]:
    """How often each of `INSTRUCTIONS` occurs; those that do not are left out."""
    counts = {name: len(re.findall(pattern, ptx)) for name, pattern in INSTRUCTIONS.items()}
    return {name: count for name, count in counts.items() if count}


def inspect_all(
    wanted: Iterable[tuple[str, int]], jobs: int | None = None
) -> Iterator[tuple[str, int, list[Inspection]]]:
    """Compile all launches of some ops for some architectures.

    Args:
        wanted: op and capability.
        jobs: processes at a time; by default one per core.

    Yields:
        Op, capability and their launches, in the order asked for.
    """
    # Processes that were forked would share the locks of this one's threads.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([f"{__package__}.compile"])
    with ProcessPoolExecutor(jobs or os.cpu_count() or 1, mp_context=context) as pool:
        waiting = [
            (op, cap, [pool.submit(inspect, op, one.name, cap) for one in launches(op, cap)])
            for op, cap in wanted
        ]
        for op, capability, futures in waiting:
            yield op, capability, [future.result() for future in futures]
