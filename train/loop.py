"""The training loop of every stage: steps, averages, logs, and checkpoints to go on from.

A stage draws all its randomness from (seed, step), so a resumed run repeats what an uninterrupted
one does.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Protocol

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors import safe_open
from torch import Tensor

from opensora_fast.models.checkpoint import save_tensors

from .optim import Ema

LOG_EVERY_S = 20.0


class Stage(Protocol):
    """What the loop needs to know of a stage."""

    name: str
    num_steps: int
    parameters: dict[str, Tensor]
    optimizers: list[torch.optim.Optimizer]

    @property
    def ema(self) -> Ema | None:
        """Averages of the parameters, if the stage keeps any."""
        ...

    def step(self, step: int) -> dict[str, float]:
        """Do one optimiser step and return what to log."""
        ...


def _state(stage: Stage) -> dict[str, Tensor]:
    """Everything that a stage needs to go on, by name."""
    names = {id(p): name for name, p in stage.parameters.items()}
    state = {f"param/{name}": p.detach() for name, p in stage.parameters.items()}
    if stage.ema is not None:
        state |= {f"ema/{name}": value for name, value in stage.ema.averages.items()}
    for i, optimizer in enumerate(stage.optimizers):
        for p, values in optimizer.state.items():
            state |= {
                f"optim/{i}/{names[id(p)]}/{key}": torch.as_tensor(v) for key, v in values.items()
            }
    return state


def _save(stage: Stage, path: Path, step: int, seconds: float) -> None:
    progress = {"step": step, "seconds": seconds}
    if stage.ema is not None:
        progress["ema_updates"] = stage.ema.num_updates
    tensors = {name: value.contiguous() for name, value in _state(stage).items()}
    save_tensors(tensors, path, metadata={"progress": json.dumps(progress)})


@torch.no_grad()
def _restore(stage: Stage, path: Path) -> tuple[int, float]:
    """Fill a stage from a checkpoint; returns the step to go on with and the seconds spent."""
    with safe_open(path, framework="pt") as file:
        progress = json.loads(file.metadata()["progress"])
        for key in file.keys():  # noqa: SIM118 (a safe_open handle is not iterable)
            kind, _, rest = key.partition("/")
            value = file.get_tensor(key)
            if kind == "param":
                stage.parameters[rest].copy_(value)
            elif kind == "ema" and stage.ema is not None:
                stage.ema.averages[rest].copy_(value)
            elif kind == "optim":
                index, _, rest = rest.partition("/")
                name, _, slot = rest.rpartition("/")
                stage.optimizers[int(index)].state[stage.parameters[name]][slot] = value
    if stage.ema is not None:
        stage.ema.num_updates = progress["ema_updates"]
    return progress["step"], progress["seconds"]


def restore_stage(stage: Stage, folder: Path) -> int:
    """Fill a stage from its checkpoint in `folder` and return the step that it reached.

    Raises:
        ValueError: the stage has no checkpoint there.
    """
    path = folder / f"{stage.name}.state.safetensors"
    if not path.exists():
        raise ValueError(f"there is no {path}: run the stage {stage.name!r} first")
    return _restore(stage, path)[0]


def run_stage(stage: Stage, folder: Path, *, checkpoint_s: float) -> float:
    """Run a stage to its end, from its last checkpoint if there is one.

    Args:
        stage: the stage; its parameters hold the trained values afterwards.
        folder: where ``<name>.state.safetensors`` and ``<name>.log.jsonl`` live.
        checkpoint_s: seconds between checkpoints.

    Returns:
        Seconds of training, those of earlier runs included.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{stage.name}.state.safetensors"
    first, spent = _restore(stage, path) if path.exists() else (0, 0.0)
    began = last_log = last_save = time.monotonic()
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TimeRemainingColumn(), TextColumn("{task.fields[metrics]}"),
    )  # fmt: skip
    console = Console()
    with (
        Progress(*columns, console=console) as bar,
        (folder / f"{stage.name}.log.jsonl").open("a") as log,
    ):
        task = bar.add_task(stage.name, total=stage.num_steps, completed=first, metrics="")
        for step in range(first, stage.num_steps):
            metrics = stage.step(step)
            if stage.ema is not None:
                stage.ema.update(stage.parameters)
            now = time.monotonic()
            seconds = spent + now - began
            text = " ".join(f"{key} {value:.4g}" for key, value in metrics.items())
            bar.update(task, completed=step + 1, metrics=text)
            if now - last_log > LOG_EVERY_S or step + 1 == stage.num_steps:
                last_log = now
                record: dict[str, Any] = {"step": step + 1, "seconds": round(seconds, 1), **metrics}
                log.write(json.dumps(record) + "\n")
                log.flush()
                if not console.is_terminal:
                    console.print(
                        f"{stage.name} {step + 1}/{stage.num_steps} {seconds:.0f} s {text}"
                    )
            if now - last_save > checkpoint_s or step + 1 == stage.num_steps:
                last_save = now
                _save(stage, path, step + 1, seconds)
    return spent + time.monotonic() - began
