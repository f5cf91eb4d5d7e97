"""`opensora-fast doctor`: what this machine can do, and why not more."""

from __future__ import annotations

from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("doctor", help="Say what this machine can do, and why not more.")(doctor)


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="First check every kernel that has not run on this GPU."),
    ] = False,
) -> None:
    """Examine and print."""
    import torch

    from opensora_fast import doctor

    passed = True
    if verify:
        if not torch.cuda.is_available():
            raise ValueError("doctor --verify needs a CUDA device, torch sees none")
        passed = doctor.verify("cuda:0", lambda line: typer.echo(line, err=True))
    report = doctor.examine()
    typer.echo(report.to_json() if as_json else str(report))
    if not passed:
        raise typer.Exit(1)
