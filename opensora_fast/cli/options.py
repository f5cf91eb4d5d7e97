"""Options that several verbs share, and what they print alike."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from opensora_fast import __version__

Model = Annotated[
    str,
    typer.Option(
        help='"tiny" or "tiny-hc" (shipped), a pipeline folder, or a Hugging Face id owner/name.'
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Dtype = Annotated[
    str, typer.Option(help="auto, float32, bfloat16 or float16; auto: bfloat16 on CUDA.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bars.")]
MaxFrames = Annotated[
    int | None, typer.Option(help="Use only the first so many frames.  [default: all]")
]
Height = Annotated[
    int | None, typer.Option(help="Scale and crop to this height.  [default: the clip's]")
]
Width = Annotated[
    int | None, typer.Option(help="Scale and crop to this width.  [default: the clip's]")
]
Tiling = Annotated[
    str,
    typer.Option(help="on, off or auto (large clips): overlapping tiles, which bound the memory."),
]

MemoryBudget = Annotated[
    float | None,
    typer.Option(
        help="GiB that the autoencoder may hold beside its parameters: exact, where tiles are not;"
        " the less, the slower."
    ),
]


def budget_in_bytes(memory_budget: float | None, tiling: str = "auto") -> int | None:
    """What --memory-budget says, checked; None where it was left out."""
    if memory_budget is None:
        return None
    if not 0 < memory_budget < float("inf"):
        raise ValueError(f"memory-budget must be above 0 GiB, got {memory_budget}")
    if tiling == "on":
        raise ValueError("memory-budget works without tiles: give it or tiling, not both")
    return int(memory_budget * 2**30)


def save_json(beside: Path, verb: str, values: Mapping[str, Any]) -> Path:
    """Write what a command resolved to beside its output, as `<output stem>.json`."""
    from opensora_fast.kernels.atomic import replacing

    path = beside.with_suffix(".json")
    content = {"command": verb, "opensora_fast": __version__, **values}
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")
    return path


def seconds(timings: Mapping[str, float]) -> str:
    """`text 0.12, denoise 3.40, decode 0.25; 3.77 in all`."""
    stages = ", ".join(f"{name} {value:.2f}" for name, value in timings.items())
    return f"{stages}; {sum(timings.values()):.2f} in all"


def quoted(path: Path | str) -> str:
    """The path as a shell would take it."""
    import shlex

    return shlex.quote(str(path))
