"""`opensora-fast plan`: what a generation will take, before it runs."""

from __future__ import annotations

import dataclasses
import json
from typing import Annotated

import typer

from opensora_fast.cli import generate_options as given

_HELP = """Say what a generation takes: tokens, operations, a floor in time, memory.

Nothing is loaded and nothing computed: the networks run on shapes alone.

\b
Examples:
  opensora-fast plan --resolution 768px --aspect-ratio 16:9 --device H200
  opensora-fast plan --resolution 256px --aspect-ratio 16:9 --steps 30 --memory 24
  opensora-fast plan --model open-sora-v2-hc --height 768 --width 768 --memory-budget 40
  opensora-fast plan --model tiny --num-frames 17 --height 64 --width 64
"""

_Model = Annotated[
    str, typer.Option(help="open-sora-v2, open-sora-v2-t2v, open-sora-v2-hc or tiny.")
]
_Task = Annotated[
    str, typer.Option(help="t2v, i2v_head, i2v_tail, i2v_loop, v2v_head or v2v_tail.")
]
_Device = Annotated[
    str | None, typer.Option(help="A GPU whose data sheet gives the floor, e.g. H200, RTX 4090.")
]
_Memory = Annotated[float | None, typer.Option(help="GiB that the device has.")]
_Dtype = Annotated[str, typer.Option(help="bfloat16, float16 or float32.")]
_Tiling = Annotated[bool, typer.Option("--tiling", help="Decode in overlapping tiles.")]
_Budget = Annotated[
    float | None,
    typer.Option(help="GiB within which the decoder is to stay, exactly and without tiles."),
]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("plan", help=_HELP)(plan)


def plan(
    model: _Model = "open-sora-v2",
    task: _Task = "t2v",
    num_frames: given.NumFrames = None,
    height: given.Height = None,
    width: given.Width = None,
    resolution: given.Resolution = None,
    aspect_ratio: given.AspectRatio = None,
    num_inference_steps: given.Steps = None,
    device: _Device = None,
    memory: _Memory = None,
    dtype: _Dtype = "bfloat16",
    tiling: _Tiling = False,
    memory_budget: _Budget = None,
    as_json: _Json = False,
) -> None:
    """Fill in the released model's sizes, count, print."""
    import torch

    from opensora_fast.device import resolve_dtype
    from opensora_fast.plan import plan as count
    from opensora_fast.plan import sampling_of

    if memory is not None and not memory > 0:
        raise ValueError(f"memory must be above 0 GiB, got {memory}")
    if memory_budget is not None and not memory_budget > 0:
        raise ValueError(f"memory-budget must be above 0 GiB, got {memory_budget}")
    named = {
        "num_frames": num_frames,
        "height": height,
        "width": width,
        "num_inference_steps": num_inference_steps,
    }
    fields = {name: value for name, value in named.items() if value is not None}
    config = sampling_of(model, fields, resolution, aspect_ratio)
    found = count(
        model,
        config,
        task=task,
        dtype=resolve_dtype(dtype, torch.device("cpu")),
        device=device,
        memory_gib=memory,
        tiling=tiling,
        budget_gib=memory_budget,
    )
    if as_json:
        document = dataclasses.asdict(found) | {"peak_bytes": found.peak_bytes}
        typer.echo(json.dumps(document, indent=2, default=str))
    else:
        typer.echo(found)
