"""The command line: `opensora-fast VERB`, one file per verb."""

from __future__ import annotations

from collections.abc import Sequence

import typer

from opensora_fast import __version__
from opensora_fast.cli import (
    bench,
    decode,
    doctor,
    encode,
    generate,
    plan,
    profile,
    reconstruct,
    train,
)
from opensora_fast.cli.errors import let_interrupts_through, let_termination_clean_up, run

app = typer.Typer(
    name="opensora-fast",
    help="Make videos from words, and look into how it is done.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for verb in (generate, encode, decode, reconstruct, train, bench, profile, plan, doctor):
    verb.register(app)


@app.callback(invoke_without_command=True)
def _options(
    version: bool = typer.Option(False, "--version", help="Print the version and exit."),
) -> None:
    if version:
        typer.echo(f"opensora-fast {__version__}")
        raise typer.Exit


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: arguments after the program's name; default: those of the process.

    Returns:
        The exit status: 0 success; 2 bad input, with one line on stderr that says what was wrong;
        130 after Ctrl-C. An internal error is not caught: its traceback is shown, with status 1.
    """
    let_interrupts_through()
    let_termination_clean_up()
    return run(app, argv)
