"""`opensora-fast doctor`: what this machine can do, and why not more."""

from __future__ import annotations

from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("doctor", help="Say what this machine can do, and why not more.")(doctor)


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Examine and print."""
    from opensora_fast.doctor import examine

    report = examine()
    typer.echo(report.to_json() if as_json else str(report))
