"""What this machine can do at best: the figures that percentages refer to, by themselves."""

from __future__ import annotations

import argparse
import secrets
import time

import torch
from rich.console import Console

from .arguments import device_of, results_path, seconds
from .calibrate import calibrate
from .circumstances import circumstances, state_of
from .records import Run, Writer

SUITE = "ceilings"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the verb takes."""
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda[:n]")
    parser.add_argument(
        "--seconds", type=seconds, default=1.0, metavar="S", help="for each figure (default: 1)"
    )
    parser.add_argument("--json", metavar="FILE", help="write the figures to FILE.jsonl")


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Measure and print.

    Args:
        arguments: see `add_arguments`.
        console: shows what is being done.

    Returns:
        0.
    """
    device = device_of(arguments.device)
    path = results_path(arguments.json) if arguments.json is not None else None
    console.print("measuring the machine")
    began = time.monotonic()
    peaks = calibrate(device, torch.get_num_threads(), arguments.seconds)
    place = torch.device(device)
    facts = {"suite": SUITE, **circumstances(place), "peaks": peaks, "state": state_of(place)}
    writer = Writer(path, append=False)
    try:
        result = Run(id=secrets.token_hex(4), facts=facts)
        writer.run(result)
        writer.end(result, {"seconds": round(time.monotonic() - began, 1)})
    finally:
        writer.close()
    print(facts["device"]["name"])
    for name, value in peaks.items():
        unit = "TFLOP/s" if name.startswith("gemm") else "TB/s"
        print(f"{name:<14} {value / 1e12:8.3f} {unit}")
    return 0
