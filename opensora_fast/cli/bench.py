"""`opensora-fast bench`: handed to `opensora_fast.bench`."""

from __future__ import annotations

import typer

from opensora_fast.cli.handover import PASS_THROUGH, hand_over


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(
        "bench",
        help="Measure against peers: kernels, models, all or another SUITE; `list` names them.",
        context_settings=PASS_THROUGH,
    )(bench)


def bench(context: typer.Context) -> None:
    """Hand all arguments over."""
    hand_over("opensora_fast.bench", context.args)
