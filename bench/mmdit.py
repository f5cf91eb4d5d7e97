"""Cases of the MMDiT: one double and one single block of the released width, and what is around."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from opensora_fast.kernels.counting import count_flops
from opensora_fast.models import MMDiT, MMDiTConfig
from opensora_fast.models.mmdit.patchify import latent_position_ids, text_position_ids

from .case import OURS, Bind, Case, Outputs, Problem, calling, wide_name, widened
from .draw import drawn_weights, filled, shapes_of
from .flux import flux_call, flux_model
from .plain_mmdit import PlainMMDiT

PEERS = ("eager", "compile", "diffusers")
NUM_TXT = 512
# Latent frames, rows and columns of the released model's videos of 129 frames; for a few cores
# fewer of each: 1024 image tokens, and a quarter and a ninth of 256px and 768px.
SIZES = {
    "mmdit-256": (
        ("smoke", (2, 4, 6), "smoke"),
        ("1024+512", (4, 32, 32), "cpu"),
        ("2016+512", (8, 24, 42), "cpu"),
        ("192x336", (33, 24, 42), "full"),
        ("192x336.guided", (33, 24, 42), "full"),
    ),
    "mmdit-768": (
        ("smoke", (2, 6, 4), "smoke"),
        ("4608+512", (2, 72, 128), "cpu"),
        ("576x1024", (33, 72, 128), "full"),
    ),
}
BLOCKS = MMDiTConfig(depth=1, depth_single_blocks=1, cond_embed=False)
SMOKE = MMDiTConfig(
    depth=1,
    depth_single_blocks=1,
    cond_embed=False,
    hidden_size=64,
    num_heads=2,
    axes_dim=(8, 12, 12),
    vec_in_dim=16,
    context_in_dim=24,
    in_channels=16,
)
_GUIDED_BATCH = 3
_TIME = 0.5
_WEIGHTS_SEED = 11


def mmdit_cases(suite: str, device: str, dtypes: Sequence[str]) -> list[Case]:
    """Forwards at every number of tokens.

    Args:
        suite: one of `SIZES`.
        device: "cpu" or "cuda:n".
        dtypes: to measure in; the largest sizes are measured in 16 bits only.

    Returns:
        The cases.
    """
    return [
        Case(
            suite=suite,
            name=name,
            dtype=dtype,
            device=device,
            scale=scale,
            contenders=(OURS, *PEERS),
            load=load,
            parameters={
                "size": size,
                "smoke": scale == "smoke",
                "batch": _GUIDED_BATCH if name.endswith("guided") else 1,
            },
        )
        for name, size, scale in SIZES[suite]
        for dtype in dtypes
        # The exact result in fp64 would need all scores of 24 heads at once.
        if scale != "full" or dtype != "fp32"
    ]


def load(case: Case) -> Problem:
    """Build the problem of a case."""
    config = SMOKE if case.parameters["smoke"] else BLOCKS
    dtype, device = case.torch_dtype, case.device
    size, batch = tuple(case.parameters["size"]), case.parameters["batch"]
    with torch.device("meta"):
        skeleton = MMDiT(config)
    shapes = shapes_of(skeleton)

    @functools.cache
    def weights() -> dict[str, Tensor]:
        return drawn_weights(shapes, device=device, dtype=dtype, seed=_WEIGHTS_SEED)

    inputs = functools.partial(model_inputs, config, size, batch=batch, device=device, dtype=dtype)

    def oracle(*args: Any) -> Outputs:
        wide = {name: widened(value, case.dtype) for name, value in weights().items()}
        return PlainMMDiT(config, wide)(*(widened(arg, case.dtype) for arg in args))

    make: dict[str, Callable[[], Bind]] = {
        OURS: lambda: calling(ours_mmdit(config, weights()))(),
        "eager": lambda: calling(PlainMMDiT(config, weights()))(),
        "compile": lambda: calling(
            torch.compile(PlainMMDiT(config, weights()).__call__, dynamic=False)
        )(),
        "diffusers": lambda: calling(flux_call(flux_model(config, weights())))(),
    }
    parameters = sum(shape.numel() for shape in shapes.values())
    meta = model_inputs(config, size, batch=batch, device="meta", dtype=dtype, seed=0)
    moved = sum(arg.numel() for arg in (meta[0], meta[0], meta[2]))
    return Problem(
        inputs=lambda seed: inputs(seed=seed),
        make=make,
        oracle=oracle,
        oracle_dtype=wide_name(case.dtype),
        flops=count_flops(lambda: skeleton.to(dtype)(*meta)),
        bytes=dtype.itemsize * (parameters + moved),
    )


def model_inputs(
    config: MMDiTConfig,
    size: tuple[int, ...],
    *,
    batch: int,
    device: str,
    dtype: torch.dtype,
    seed: int,
    num_txt: int | None = None,
) -> tuple[Tensor, ...]:
    """Arguments of a forward: img, img_ids, txt, txt_ids, timesteps, y_vec."""
    frames, rows, columns = size
    if num_txt is None:
        num_txt = NUM_TXT if config.hidden_size > SMOKE.hidden_size else 5
    length = frames * rows * columns // config.patch_size**2
    draw = functools.partial(_normal, torch.Generator("cpu").manual_seed(seed), device, dtype)
    grid = (frames, rows, columns)
    return (
        draw(batch, length, config.in_channels),
        latent_position_ids(batch, grid, config.patch_size, device=torch.device(device)),
        draw(batch, num_txt, config.context_in_dim),
        text_position_ids(batch, num_txt, device=torch.device(device)),
        torch.full((batch,), _TIME, dtype=dtype, device=device),
        draw(batch, config.vec_in_dim),
    )


def ours_mmdit(config: MMDiTConfig, weights: dict[str, Tensor]) -> MMDiT:
    """Our transformer with these parameters."""
    with torch.device("meta"):
        model: nn.Module = MMDiT(config)
    model = filled(model, weights)
    assert isinstance(model, MMDiT)
    return model


def _normal(generator: torch.Generator, device: str, dtype: torch.dtype, *shape: int) -> Tensor:
    if device == "meta":
        return torch.empty(shape, dtype=dtype, device="meta")
    return torch.randn(shape, generator=generator).to(device=device, dtype=dtype)
