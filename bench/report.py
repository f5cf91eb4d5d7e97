"""What a suite found and where it ran: printed as a table, written as JSON."""

from __future__ import annotations

import datetime
import json
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, TypeAlias

import torch
from rich.console import Console
from rich.table import Table

from opensora_fast import __version__
from opensora_fast.kernels.device import device_info
from opensora_fast.models.atomic import replacing
from opensora_fast.output_path import check_output

PACKAGES = ("torch", "transformers", "safetensors", "numpy", "av")
GIT_TIMEOUT_S = 10

Row: TypeAlias = "dict[str, str | int | float | None]"


@dataclass(frozen=True, kw_only=True, slots=True)
class Results:
    """What a suite found.

    Args:
        title: of the table.
        device: that the suite ran on.
        settings: everything that the numbers depend on besides code and machine, JSON-ready.
        rows: lines of the table, column name to value; None where there is nothing to say.
        notes: sentences below the table: what a column means.
    """

    title: str
    device: torch.device
    settings: dict[str, Any]
    rows: Sequence[Row]
    notes: Sequence[str] = ()


def print_results(results: Results, console: Console) -> None:
    """Print the table; columns appear in the order of their first row."""
    columns = list(dict.fromkeys(name for row in results.rows for name in row))
    table = Table(title=results.title, title_justify="left")
    for i, name in enumerate(columns):
        table.add_column(name, justify="left" if i == 0 else "right", overflow="fold")
    for row in results.rows:
        table.add_row(*(_cell(row.get(name)) for name in columns))
    console.print(table)
    for note in results.notes:
        console.print(note, highlight=False)


def _cell(value: str | int | float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def check_json_path(path: str) -> Path:
    """Check before the measurement that its file can be written.

    Raises:
        ValueError: the name does not end in .json, or is a folder's.
        OSError: the folder cannot be written to.
    """
    return check_output(path, (".json",))


def write_json(suite: str, results: Results, path: Path) -> None:
    """Write results and circumstances, whole or not at all.

    Args:
        suite: its name.
        results: what it found.
        path: of the file; one that is there is replaced.
    """
    document = {
        "suite": suite,
        **circumstances(results.device),
        "settings": results.settings,
        "results": list(results.rows),
    }
    with replacing(path) as partial:
        partial.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def circumstances(device: torch.device) -> dict[str, Any]:
    """Date, commit, device and versions: what a number means nothing without.

    Args:
        device: that was measured.

    Returns:
        JSON-ready facts; `commit` is None where the code is not in a git checkout.
    """
    info = device_info(device)
    now = datetime.datetime.now(datetime.timezone.utc)
    return {
        "date": now.isoformat(timespec="seconds"),
        **_commit(),
        "device": {
            "type": info.type,
            "name": info.name,
            "threads": torch.get_num_threads(),
            "isa": list(info.isa),
        },
        "versions": {
            "opensora-fast": __version__,
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in PACKAGES},
        },
    }


def _commit() -> dict[str, Any]:
    """The commit that this code was checked out from, and whether tracked files have changed."""
    # An installed copy may lie in the checkout of something else: ask about this very file.
    if _git("ls-files", "--error-unmatch", Path(__file__).name) is None:
        return {"commit": None, "dirty": None}
    changes = _git("status", "--porcelain", "--untracked-files=no")
    return {"commit": _git("rev-parse", "HEAD"), "dirty": bool(changes)}


def _git(*arguments: str) -> str | None:
    folder = Path(__file__).resolve().parent
    try:
        found = subprocess.run(
            ("git", "-C", str(folder), *arguments),
            capture_output=True,
            text=True,
            timeout=GIT_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()
