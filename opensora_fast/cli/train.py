"""`opensora-fast train`: handed to `opensora_fast.train`."""

from __future__ import annotations

import typer

from opensora_fast.cli.handover import PASS_THROUGH, hand_over


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(
        "train",
        help="Train a preset: PRESET [section.field=value ...], e.g. tiny.",
        context_settings=PASS_THROUGH,
    )(train)


def train(context: typer.Context) -> None:
    """Hand all arguments over."""
    hand_over("opensora_fast.train", context.args)
