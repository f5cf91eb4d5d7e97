"""Whole models of the released sizes on one GPU, with random weights, in one process each.

The exact result of such a size fits no device and no patience. So a model is judged by the gate
(`gate.py`) on a small input, with the very weights that are then timed; the large result must be
finite and come out in the same bits twice.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from opensora_fast.kernels.counting import count_flops
from opensora_fast.kernels.registry import use_backend
from opensora_fast.kernels.testing import full_precision
from opensora_fast.models import (
    HunyuanVAE,
    HunyuanVAEConfig,
    MMDiT,
    MMDiTConfig,
    VideoDCAE,
    VideoDCAEConfig,
)

from . import gate
from .arguments import device_of, positive, results_path, seconds
from .calibrate import calibrate, roofline
from .case import DTYPES, OURS, as_tuple, widened
from .circumstances import circumstances, state_of
from .dc_ae import SMOKE as SMOKE_DEEP
from .draw import drawn_weights, filled, shapes_of
from .memory import Memory, measure_memory
from .mmdit import SMOKE as SMOKE_MMDIT
from .mmdit import model_inputs, ours_mmdit
from .plain_mmdit import PlainMMDiT
from .records import FAILED, OK, Row, Run, Writer
from .show import print_rows
from .stats import summarise
from .vae import SMOKE as SMOKE_VAE
from .whole_pipeline import measure_pipeline
from .worker import clock_of, set_up

SUITE = "whole"
SUCCESS, LOSS = 0, 1
_SEED = 11
_CALIBRATION_S = 0.2  # for each figure
_SMALL_VIDEO, _SMALL_LATENT = (5, 64, 64), (3, 8, 12)
_DEEP_BUDGET, _SMOKE_BUDGET = 60 << 30, 512 << 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """Where and how long."""

    device: str
    dtype: str
    smoke: bool
    rounds: int
    budget_s: float
    steps: int
    peaks: dict[str, float] = field(default_factory=dict)

    @property
    def torch_dtype(self) -> torch.dtype:
        """Of weights and inputs."""
        return DTYPES[self.dtype]


def measure_decode(
    name: str,
    build: Callable[[], HunyuanVAE | VideoDCAE],
    size: tuple[int, int, int],
    setting: Setting,
    **keywords: Any,
) -> Row:
    """Decode a video of `size` frames, rows and columns, untiled.

    Args:
        name: of the row.
        build: makes the autoencoder; called on the meta device.
        size: frames, rows, columns.
        setting: where and how long.
        **keywords: of `decode` for the large video.

    Returns:
        What came out.
    """
    with torch.device("meta"):
        skeleton = build()
    config = skeleton.config
    make = functools.partial(
        drawn_weights, shapes_of(skeleton), device=setting.device, seed=_SEED,
        drawn_on=setting.device,
    )  # fmt: skip
    weights = make(dtype=setting.torch_dtype)

    def decoder(parameters: dict[str, Tensor]) -> Callable[[Tensor], Tensor]:
        with torch.device("meta"):
            model = build()
        filled(model, parameters)
        return model.decode

    def latent(video: tuple[int, int, int]) -> Tensor:
        shape = (1, config.latent_channels, *skeleton.latent_size(*video))
        drawn = torch.randn(shape, generator=torch.Generator().manual_seed(_SEED))
        return drawn.to(device=setting.device, dtype=setting.torch_dtype)

    def exact(z: Tensor) -> Tensor:
        wide = {key: widened(value, setting.dtype) for key, value in weights.items()}
        with use_backend("reference"), full_precision():
            return decoder(wide)(widened(z, setting.dtype))

    def plain(z: Tensor) -> Tensor:
        with use_backend("reference"):
            return ours(z)

    ours = decoder(weights)
    grid = skeleton.frame_grid
    small, large = latent((grid.at_least(5), *_SMALL_VIDEO[1:])), latent(size)
    judged = _judge(setting.dtype, small, exact, plain, ours)
    flops = count_flops(lambda: skeleton.decode(torch.empty(large.shape, device="meta")))
    elements = sum(value.numel() for value in skeleton.decoder.parameters()) + large.numel()
    elements += config.in_channels * size[0] * size[1] * size[2]
    run = functools.partial(ours, large, **keywords)
    return _timed(name, judged, run, setting, flops, elements)


def _hunyuan_row(name: str, setting: Setting) -> Row:
    def build() -> HunyuanVAE:
        return HunyuanVAE(SMOKE_VAE if setting.smoke else HunyuanVAEConfig())

    size = (5, 16, 16) if setting.smoke else (129, 768, 768)
    return measure_decode(name, build, size, setting)


def _deep_row(name: str, setting: Setting) -> Row:
    def build() -> VideoDCAE:
        return VideoDCAE(SMOKE_DEEP if setting.smoke else VideoDCAEConfig())

    # Whole it would hold more than any one GPU has.
    budget = _SMOKE_BUDGET if setting.smoke else _DEEP_BUDGET
    size = (4, 32, 32) if setting.smoke else (128, 768, 768)
    return measure_decode(name, build, size, setting, memory_budget=budget)


def measure_step(name: str, size: tuple[int, int, int], setting: Setting) -> Row:
    """One forward of the whole transformer for a latent of `size` frames, rows and columns."""
    config = SMOKE_MMDIT if setting.smoke else MMDiTConfig(cond_embed=False)
    with torch.device("meta"):
        skeleton = MMDiT(config)
    shapes = shapes_of(skeleton)
    weights = drawn_weights(
        shapes, device=setting.device, dtype=setting.torch_dtype, seed=_SEED,
        drawn_on=setting.device,
    )  # fmt: skip
    draw = functools.partial(model_inputs, config, batch=1, seed=_SEED)
    place: dict[str, Any] = {"device": setting.device, "dtype": setting.torch_dtype}
    small, large = draw(_SMALL_LATENT, **place), draw(size, **place)
    ours, plain = ours_mmdit(config, weights), PlainMMDiT(config, weights)

    def exact(*args: Any) -> Tensor:
        wide = {key: widened(value, setting.dtype) for key, value in weights.items()}
        with full_precision():
            return PlainMMDiT(config, wide)(*(widened(arg, setting.dtype) for arg in args))

    judged = _judge(setting.dtype, small, exact, plain, ours)
    meta = draw(size, device="meta", dtype=setting.torch_dtype)
    flops = count_flops(lambda: skeleton.to(setting.torch_dtype)(*meta))
    elements = sum(shape.numel() for shape in shapes.values()) + 2 * large[0].numel()
    return _timed(name, judged, lambda: ours(*large), setting, flops, elements)


MODELS: dict[str, tuple[str, Callable[[str, Setting], Row]]] = {
    "decode-768": (
        "HunyuanVAE decodes 129 frames of 768x768, untiled",
        _hunyuan_row,
    ),
    "decode-dcae-768": (
        "Video DC-AE decodes 128 frames of 768x768, exactly, within 60 GiB",
        _deep_row,
    ),
    "step-256": (
        "one forward of the transformer, 129 frames of 192x336",
        lambda name, setting: measure_step(
            name, (2, 4, 6) if setting.smoke else (33, 24, 42), setting
        ),
    ),
    "step-768": (
        "one forward of the transformer, 129 frames of 576x1024",
        lambda name, setting: measure_step(
            name, (2, 6, 4) if setting.smoke else (33, 72, 128), setting
        ),
    ),
    "t2v-256": (
        "text to video, 129 frames of 192x336, text encoders and all",
        lambda name, setting: _pipeline_row(name, setting),
    ),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the verb takes."""
    known = "; ".join(f"{name}: {what}" for name, (what, _) in MODELS.items())
    parser.add_argument("models", nargs="*", metavar="MODEL", help=known)
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda[:n]")
    parser.add_argument("--dtype", choices=tuple(DTYPES), default="bf16", help="default: bf16")
    parser.add_argument("--smoke", action="store_true", help="tiny models, for tests")
    parser.add_argument("--repeat", type=positive, default=3, metavar="N", help="calls at least")
    parser.add_argument("--seconds", type=seconds, default=5.0, metavar="S", help="go on so long")
    parser.add_argument(
        "--steps", type=positive, default=50, metavar="N",
        help="of t2v; fewer than the released 50 are extrapolated, and the result says so",
    )  # fmt: skip
    parser.add_argument("--json", metavar="FILE", help="write the results to FILE.jsonl")


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Measure the models and print a table.

    Args:
        arguments: see `add_arguments`.
        console: shows what is being done.

    Returns:
        1 if a result is wrong, else 0.

    Raises:
        ValueError: an unknown model, or released sizes without a GPU.
    """
    wanted = arguments.models or list(MODELS)
    unknown = [name for name in wanted if name not in MODELS]
    if unknown:
        raise ValueError(f"there is no model {unknown[0]!r}; models are {', '.join(MODELS)}")
    device = device_of(arguments.device)
    if device == "cpu" and not arguments.smoke:
        raise ValueError("whole models of the released sizes need a CUDA device (or --smoke)")
    path = results_path(arguments.json) if arguments.json is not None else None
    set_up(torch.get_num_threads())
    console.print("calibrating the machine")
    peaks = {} if arguments.smoke else calibrate(device, torch.get_num_threads(), _CALIBRATION_S)
    setting = Setting(
        device=device, dtype=arguments.dtype, smoke=arguments.smoke, rounds=arguments.repeat,
        budget_s=arguments.seconds, steps=arguments.steps, peaks=peaks,
    )  # fmt: skip
    place = torch.device(device)
    facts = {"suite": SUITE, **circumstances(place), "peaks": peaks, "state": state_of(place)}
    result = Run(id=secrets.token_hex(4), facts=facts)
    writer = Writer(path, append=False)
    began = time.monotonic()
    try:
        writer.run(result)
        for name in wanted:
            console.print(f"{name}: {MODELS[name][0]}", highlight=False)
            with torch.inference_mode():
                row = dataclasses.replace(MODELS[name][1](name, setting), run=result.id)
            result.rows.append(row)
            writer.row(row)
        writer.end(result, {"seconds": round(time.monotonic() - began, 1)})
    finally:
        writer.close()
    print_rows(result.rows, f"{SUITE} on {facts['device']['name']}", Console(width=160))
    return LOSS if any(row.status == FAILED for row in result.rows) else SUCCESS


@dataclass(frozen=True, kw_only=True, slots=True)
class _Judged:
    """What the gate says about the small input."""

    reason: str | None
    errors: gate.Errors
    allowed: gate.Errors


def _judge(
    dtype: str,
    small: Any,
    exact: Callable[..., Tensor],
    plain: Callable[..., Tensor],
    ours: Callable[..., Tensor],
) -> _Judged:
    args = as_tuple(small)
    truth = as_tuple(exact(*args))
    baseline = gate.errors(as_tuple(plain(*args)), truth)
    allowed = gate.ours_allowed(baseline, dtype)
    found = gate.errors(as_tuple(ours(*args)), truth)
    return _Judged(reason=gate.why_wrong(found, allowed), errors=found, allowed=allowed)


def _timed(
    name: str, judged: _Judged, call: Callable[[], Tensor], setting: Setting, flops: int, moved: int
) -> Row:
    """Time what the gate let pass."""
    row = _row(name, setting, judged.reason)
    row = dataclasses.replace(
        row,
        oracle="fp64" if setting.dtype == "fp32" else "fp32",
        rel_l2=judged.errors.rel_l2,
        largest=judged.errors.largest,
        allowed_rel_l2=judged.allowed.rel_l2,
        flops=flops,
        bytes=moved * setting.torch_dtype.itemsize,
        facts={"judged": "on a small input, with the same weights"},
    )
    if judged.reason is not None:
        return row
    began = time.perf_counter()
    out, memory = measure_memory(call, torch.device(setting.device))
    first_call_s = time.perf_counter() - began
    again = call()
    if not bool(torch.isfinite(out).all()) or not torch.equal(out, again):
        kind = "the same bits twice" if bool(torch.isfinite(out).all()) else "finite"
        return dataclasses.replace(row, status=FAILED, reason=f"the large result is not {kind}")
    if out.dim() == 5:
        row = dataclasses.replace(row, facts={**row.facts, "deviation": evenness(out)})
    del out, again
    clock = clock_of(setting.device)
    samples: list[float] = []
    while len(samples) < setting.rounds or sum(samples) < setting.budget_s:
        samples.append(clock.seconds(call, 1))
    return _with_times(row, samples, memory, first_call_s, setting)


def evenness(video: Tensor) -> dict[str, list[float]]:
    """Standard deviation along an axis: smallest, median, largest.

    A decoder with random weights has no reason to treat one place unlike another. A part that was
    not written, or was written from elsewhere, stands out.

    Args:
        video: [B, C, T, H, W].

    Returns:
        By axis: frames, rows, columns.
    """
    found = {}
    for axis, name in ((2, "frames"), (3, "rows"), (4, "columns")):
        others = tuple(i for i in range(5) if i != axis)
        values = video.float().std(dim=others).sort().values
        found[name] = [round(float(values[i]), 4) for i in (0, len(values) // 2, -1)]
    return found


def _with_times(
    row: Row, samples: list[float], memory: Memory, first_call_s: float, setting: Setting
) -> Row:
    found = summarise(samples)
    place = roofline(found.median_s, row.flops or 0, row.bytes or 0, setting.dtype, setting.peaks)
    return dataclasses.replace(
        row,
        n=found.n, median_s=found.median_s, min_s=found.min_s, p20_s=found.p20_s,
        p80_s=found.p80_s, spread=found.spread, smallest_difference=found.smallest_difference,
        gflops_per_s=(row.flops or 0) / found.median_s / 1e9,
        gbytes_per_s=(row.bytes or 0) / found.median_s / 1e9,
        percent_of_peak=place.percent if place is not None else None,
        bound=place.bound if place is not None else None,
        first_call_s=first_call_s,
        memory_before=memory.before, memory_kept=memory.kept, memory_peak=memory.peak,
        memory_activations=memory.activations,
    )  # fmt: skip


def _pipeline_row(name: str, setting: Setting) -> Row:
    facts = measure_pipeline(setting.device, setting.torch_dtype, setting.steps, setting.smoke)
    reason = None if facts.pop("finite") else "the video's latent is not finite"
    total = facts["seconds"]
    row = _row(name, setting, reason)
    return dataclasses.replace(
        row, n=1, median_s=total, min_s=total, p20_s=total, p80_s=total, spread=0.0,
        first_call_s=facts.pop("first_call_s"), memory_peak=facts.pop("memory_peak"), facts=facts,
    )  # fmt: skip


def _row(name: str, setting: Setting, reason: str | None) -> Row:
    return Row(
        run="",
        suite=SUITE,
        case=name,
        direction="fwd",
        dtype=setting.dtype,
        device=setting.device,
        scale="smoke" if setting.smoke else "full",
        contender=OURS,
        status=OK if reason is None else FAILED,
        reason=reason,
    )
