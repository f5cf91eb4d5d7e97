"""One run of a suite of timings: calibrate, measure case by case, write, compare."""

from __future__ import annotations

import argparse
import dataclasses
import secrets
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from . import processes
from .arguments import options_of, results_path, selection_of
from .calibrate import calibrate
from .case import OURS, Case
from .circumstances import circumstances, state_of
from .compare import compare
from .peers import found, why_missing
from .records import FAILED, OK, Row, Run, Writer, read
from .runner import Options, run_case
from .show import print_changes, print_rows, seconds, speed_up_of
from .suites import cases_of_suite

SUCCESS, LOSS = 0, 1
_DIFFUSERS = (
    "diffusers.models.autoencoders.autoencoder_kl_hunyuan_video",
    "diffusers.models.transformers.transformer_flux",
)


def run_suite(arguments: argparse.Namespace, console: Console, out: Console) -> int:
    """Measure a suite.

    Args:
        arguments: see `arguments.add_arguments`.
        console: shows the progress.
        out: gets the table.

    Returns:
        The exit status: 1 if ours is wrong somewhere, or lost more than `--fail-on` allows.

    Raises:
        ValueError: arguments that contradict each other, or results that cannot be continued.
    """
    if arguments.resume and arguments.json is None:
        raise ValueError("--resume needs --json FILE, the file to go on in")
    if arguments.fail_on is not None and arguments.compare is None:
        raise ValueError("--fail-on needs --compare OLD, the results to compare with")
    path = results_path(arguments.json) if arguments.json is not None else None
    before = read(Path(arguments.compare)) if arguments.compare is not None else None
    selection = selection_of(arguments)
    cases = cases_of_suite(arguments.suite, selection)
    run = Run(id=secrets.token_hex(4), facts={})
    options = options_of(arguments, selection, run.id)
    earlier: list[Run] = []
    if arguments.resume and path is not None and path.exists():
        earlier = read(path)
        cases = _remaining(cases, earlier, selection.device, options.threads)
        console.print(f"{path}: {len(cases)} cases are left", highlight=False)
    _measure(run, cases, options, selection.device, arguments, console, (path, bool(earlier)))
    print_rows(run.rows, _title(arguments.suite, run), out)
    status = SUCCESS
    if any(row.status == FAILED and row.contender.startswith(OURS) for row in run.rows):
        status = LOSS
    if before is not None:
        changes = compare(before, [*earlier, run])
        print_changes(changes, out)
        if arguments.fail_on is not None and any(c.fails(arguments.fail_on) for c in changes):
            status = LOSS
    return status


def _measure(
    run: Run,
    cases: Sequence[Case],
    options: Options,
    device: str,
    arguments: argparse.Namespace,
    console: Console,
    target: tuple[Path | None, bool],
) -> None:
    """Fill the run with rows and write them as they come."""
    wanted = any("diffusers" in case.contenders for case in cases)
    if wanted and why_missing("diffusers", device) is None:
        processes.preload(*_DIFFUSERS)
    writer = Writer(target[0], append=target[1])
    began = time.monotonic()
    try:
        with _progress(console) as progress:
            task = progress.add_task("calibrating the machine", total=len(cases))
            outcome = processes.run_apart(
                calibrate, device, options.threads, timeout_s=options.timeout_s
            )
            if outcome.failure is not None:
                raise RuntimeError(f"the calibration failed: {outcome.failure}\n{outcome.log}")
            options = dataclasses.replace(options, peaks=outcome.result)
            run.facts = _facts(device, options, arguments)
            writer.run(run)
            for case in cases:

                def say(what: str, name: str = case.id) -> None:
                    progress.update(task, description=f"{name}: {what}")

                for row in run_case(case, options, say):
                    run.rows.append(row)
                    writer.row(row)
                progress.advance(task)
                progress.console.print(_line(case, run.rows), highlight=False, soft_wrap=True)
        run.end = {
            "state": state_of(torch.device(device)),
            "seconds": round(time.monotonic() - began, 1),
        }
        writer.end(run, run.end)
    finally:
        writer.close()


def _facts(device: str, options: Options, arguments: argparse.Namespace) -> dict[str, Any]:
    """Everything that the numbers of a run depend on besides its cases."""
    place = torch.device(device)
    facts = circumstances(place)
    facts["device"]["threads"] = options.threads
    settings = {
        name: value
        for name, value in sorted(vars(arguments).items())
        if name not in ("json", "resume", "compare", "fail_on", "suite")
    }
    return {
        "suite": arguments.suite,
        **facts,
        "peers": found(),
        "peaks": options.peaks,
        "state": state_of(place),
        "settings": settings | dataclasses.asdict(options.budget),
    }


def _remaining(
    cases: Sequence[Case], earlier: Sequence[Run], device: str, threads: int
) -> list[Case]:
    """Cases that a file does not have yet.

    Raises:
        ValueError: the file is of another machine or another commit.
    """
    here = circumstances(torch.device(device))
    last = earlier[-1]
    machine = (here["device"]["type"], here["device"]["name"], threads)
    if last.machine != machine:
        raise ValueError(f"cannot resume: the file is of {last.machine}, this is {machine}")
    if last.facts.get("commit") != here["commit"]:
        raise ValueError(
            f"cannot resume: the file is of commit {str(last.facts.get('commit'))[:12]}, "
            f"this is {str(here['commit'])[:12]}"
        )
    done = {row.case_id for run in earlier for row in run.rows}
    return [case for case in cases if case.id not in done]


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("[progress.description]{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )


def _line(case: Case, rows: Sequence[Row]) -> str:
    """What became of a case, in one line."""
    ours = next(row for row in reversed(rows) if row.case_id == case.id and row.contender == OURS)
    if ours.status != OK:
        return f"{case.id}: {ours.status}: {ours.reason}"
    return f"{case.id}: {seconds(ours.median_s)}, {speed_up_of(ours) or 'no peer'}"


def _title(suite: str, run: Run) -> str:
    device = run.facts["device"]
    peaks = ", ".join(f"{name} {value / 1e9:.0f} G/s" for name, value in run.peaks.items())
    return f"{suite} on {device['name']}, {device['threads']} threads ({peaks})"
