"""Cases of the whole sampling loop with the shipped tiny transformer."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from importlib import resources
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from opensora_fast.kernels.counting import count_flops
from opensora_fast.models import MMDiT, MMDiTConfig
from opensora_fast.models.mmdit.patchify import latent_position_ids, text_position_ids
from opensora_fast.models.presets import preset
from opensora_fast.models.sampling import (
    Guidance,
    denoise,
    forwards_needed,
    get_schedule,
    prepare_condition,
)

from .case import OURS, Bind, Case, Problem, wide_name, widened
from .draw import shapes_of
from .mmdit import ours_mmdit
from .original_loop import denoise_three_branches
from .plain_mmdit import PlainMMDiT

SUITE = "sampler"
PEERS = ("original", "original+ours")
NUM_TXT = 72
NUM_STEPS = 50
# Task, latent frames, rows and columns, steps, scale.
LOOPS = (
    ("t2v", (5, 8, 8), 14, "smoke"),
    ("t2v", (5, 8, 8), NUM_STEPS, "cpu"),
    ("t2v", (5, 32, 32), NUM_STEPS, "cpu"),
    ("i2v_head", (5, 32, 32), NUM_STEPS, "cpu"),
    ("t2v", (33, 24, 42), NUM_STEPS, "full"),
)


class _Loop:
    """One way to sample, bound to its inputs; remembers how many forwards it ran."""

    def __init__(self, sample: Callable[[], tuple[Tensor, int]]) -> None:
        self._sample = sample
        self.facts: dict[str, Any] = {}

    def __call__(self) -> Tensor:
        latent, evaluations = self._sample()
        self.facts["branch_forwards"] = evaluations
        return latent


def sampler_cases(device: str, dtypes: Sequence[str]) -> list[Case]:
    """Loops of every task and size."""
    return [
        Case(
            suite=SUITE,
            name=f"{task}-{'x'.join(map(str, size))}-{steps}-steps",
            dtype=dtype,
            device=device,
            scale=scale,
            contenders=(OURS, *PEERS),
            load=load,
            parameters={"task": task, "size": size, "steps": steps},
        )
        for task, size, steps, scale in LOOPS
        for dtype in dtypes
    ]


def load(case: Case) -> Problem:
    """Build the problem of a case."""
    task, size, steps = (case.parameters[key] for key in ("task", "size", "steps"))
    dtype, device = case.torch_dtype, case.device
    config = preset("tiny").transformer
    guidance = Guidance()
    frames, rows, columns = size
    times = get_schedule(steps, rows * columns // config.patch_size**2, frames)

    @functools.cache
    def weights() -> dict[str, Tensor]:
        file = resources.files("opensora_fast") / "assets" / "tiny" / "transformer.safetensors"
        with resources.as_file(file) as path:
            stored = load_file(path, device=device)
        return {name: value.to(dtype) for name, value in stored.items()}

    def keywords(args: Sequence[Tensor]) -> dict[str, Any]:
        z, txt, y_vec, neg_txt, neg_y_vec, reference = args
        references = None if task == "t2v" else [[item] for item in reference]
        masks, masked_ref = prepare_condition(z, task, references)
        return {
            "z": z, "txt": txt, "y_vec": y_vec, "neg_txt": neg_txt, "neg_y_vec": neg_y_vec,
            "masks": masks, "masked_ref": masked_ref, "timesteps": times, "guidance": guidance,
            "patch_size": config.patch_size, "cond_type": task,
        }  # fmt: skip

    def ours() -> Bind:
        model = ours_mmdit(config, weights())

        def sample(*args: Tensor) -> tuple[Tensor, int]:
            latent = denoise(model, **keywords(args))
            return latent, denoise.last_evaluations  # type: ignore[attr-defined]

        return lambda *args: _Loop(functools.partial(sample, *args))

    def original(model: Callable[..., Tensor]) -> Bind:
        def sample(*args: Tensor) -> tuple[Tensor, int]:
            return denoise_three_branches(model, **keywords(args))

        return lambda *args: _Loop(functools.partial(sample, *args))

    def oracle(*args: Tensor) -> Tensor:
        wide = {name: widened(value, case.dtype) for name, value in weights().items()}
        wide_args = [widened(arg, case.dtype) for arg in args]
        return denoise_three_branches(PlainMMDiT(config, wide), **keywords(wide_args))[0]

    forwards = forwards_needed(guidance, steps, task)
    return Problem(
        inputs=functools.partial(_inputs, config, size, device, dtype),
        make={
            OURS: ours,
            "original": lambda: original(PlainMMDiT(config, weights())),
            "original+ours": lambda: original(ours_mmdit(config, weights())),
        },
        oracle=oracle,
        oracle_dtype=wide_name(case.dtype),
        flops=forwards * _flops_of_forward(config, size),
        bytes=dtype.itemsize * forwards * _elements_of_forward(config, size),
    )


def _inputs(
    config: MMDiTConfig, size: tuple[int, ...], device: str, dtype: torch.dtype, seed: int
) -> tuple[Tensor, ...]:
    """z, txt, y_vec, neg_txt, neg_y_vec, reference frame."""
    generator = torch.Generator("cpu").manual_seed(seed)
    text = [(1, NUM_TXT, config.context_in_dim), (1, config.vec_in_dim)]
    latent = (1, config.latent_channels, *size)
    still = (1, config.latent_channels, 1, *size[1:])
    return tuple(
        torch.randn(shape, generator=generator).to(device=device, dtype=dtype)
        for shape in (latent, *text, *text, still)
    )


def _flops_of_forward(config: MMDiTConfig, size: tuple[int, ...]) -> int:
    length = size[0] * size[1] * size[2] // config.patch_size**2
    with torch.device("meta"):
        model = MMDiT(config)
        args = {
            "img": torch.empty(1, length, config.in_channels),
            "img_ids": latent_position_ids(
                1, (size[0], size[1], size[2]), config.patch_size, device="meta"
            ),
            "txt": torch.empty(1, NUM_TXT, config.context_in_dim),
            "txt_ids": text_position_ids(1, NUM_TXT, device="meta"),
            "timesteps": torch.empty(1),
            "y_vec": torch.empty(1, config.vec_in_dim),
            "cond": torch.empty(1, length, config.cond_channels),
        }
    return count_flops(lambda: model(**args))


def _elements_of_forward(config: MMDiTConfig, size: tuple[int, ...]) -> int:
    """Parameters read, tokens read and written."""
    with torch.device("meta"):
        parameters = sum(shape.numel() for shape in shapes_of(MMDiT(config)).values())
    length = size[0] * size[1] * size[2] // config.patch_size**2
    return parameters + length * (2 * config.in_channels + config.cond_channels)
