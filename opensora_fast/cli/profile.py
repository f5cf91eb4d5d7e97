"""`opensora-fast profile`: handed to `opensora_fast.bench.profile`."""

from __future__ import annotations

import typer

from opensora_fast.cli.handover import PASS_THROUGH, hand_over


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(
        "profile",
        help="Say where the time of another verb goes: profile [options] generate ...",
        context_settings=PASS_THROUGH,
    )(profile)


def profile(context: typer.Context) -> None:
    """Hand all arguments over."""
    hand_over("opensora_fast.bench.profile", context.args)
