"""What a suite of qualities found: printed as a table, written as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from rich.console import Console
from rich.table import Table

from opensora_fast.kernels.atomic import replacing
from opensora_fast.output_path import check_output

from .circumstances import circumstances

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
