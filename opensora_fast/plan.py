"""What a generation will take, before it runs: tokens, operations, a floor in time, memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from opensora_fast.kernels.counting import count_flops
from opensora_fast.kernels.device import data_sheet
from opensora_fast.kernels.footprint import peak_bytes
from opensora_fast.models import HunyuanVAE, MMDiT, VideoDCAE
from opensora_fast.models.frame_grid import FrameGrid
from opensora_fast.models.mmdit.patchify import latent_position_ids, text_position_ids
from opensora_fast.models.presets import preset
from opensora_fast.models.sampling import MAX_BATCHED_TOKENS, forwards_needed
from opensora_fast.sampling_config import SamplingConfig, with_size

TASKS = ("t2v", "i2v_head", "i2v_tail", "i2v_loop", "v2v_head", "v2v_tail")
PLANNED = ("open-sora-v2", "open-sora-v2-t2v", "open-sora-v2-hc", "tiny", "tiny-hc")
_TEXT_TOKENS = {"tiny": 32, "tiny-hc": 32}
_RELEASED_TEXT_TOKENS = 512
_GIB = 2**30


@dataclass(frozen=True, kw_only=True, slots=True)
class StagePlan:
    """One stage of a generation.

    Args:
        flops: of the direct algorithms, all calls together.
        parameter_bytes: of the network.
        activation_bytes: highest of the tensors between its operators; what an operator needs
            inside itself (packed weights, padded copies) comes on top.
        floor_s: seconds at the data sheet's rate of the device; None without a device.
    """

    flops: int
    parameter_bytes: int
    activation_bytes: int
    floor_s: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What `plan` found; prints as text.

    Args:
        model: preset.
        config: of the sampling.
        task: as in `prepare_condition`.
        dtype: of the networks.
        device: whose data sheet the floors are from; None: no floors.
        latent_size: frames, rows, columns.
        tokens: of the video and of the text.
        forwards: of the transformer, over all steps and branches.
        original_forwards: that the original's three branches would run.
        stages: "denoise" and "decode".
        memory_bytes: that the device has; None if not known.
    """

    model: str
    config: SamplingConfig
    task: str
    dtype: torch.dtype
    device: str | None
    latent_size: tuple[int, int, int]
    tokens: tuple[int, int]
    forwards: int
    original_forwards: int
    stages: dict[str, StagePlan]
    memory_bytes: int | None

    @property
    def peak_bytes(self) -> int:
        """Parameters of both networks and the larger activations: nothing is offloaded."""
        stages = self.stages.values()
        parameters = sum(stage.parameter_bytes for stage in stages)
        return parameters + max(stage.activation_bytes for stage in stages)

    def __str__(self) -> str:
        config, (video, text) = self.config, self.tokens
        lines = [
            f"{self.model}, {self.task}: {config.num_frames} frames of "
            f"{config.width}x{config.height}, {config.num_inference_steps} steps, "
            f"{str(self.dtype).removeprefix('torch.')}",
            f"  latent          {'x'.join(map(str, self.latent_size))} (frames, rows, columns)",
            f"  tokens          {video:,} of the video, {text} of the text",
            f"  forwards        {self.forwards} of the transformer "
            f"(three branches in every step: {self.original_forwards})",
        ]
        for name, stage in self.stages.items():
            floor = "" if stage.floor_s is None else f", at least {stage.floor_s:.3g} s"
            lines.append(
                f"  {name:<15} {stage.flops / 1e12:,.1f} TFLOP{floor}; "
                f"weights {stage.parameter_bytes / _GIB:.2f} GiB, "
                f"activations {stage.activation_bytes / _GIB:.2f} GiB"
            )
        lines.append(f"  memory          {self.peak_bytes / _GIB:.2f} GiB{self._verdict()}")
        if self.device is not None:
            lines.append(
                f"  floors are operations over the data sheet's rate of {self.device}: "
                "no program is as fast"
            )
        return "\n".join(lines)

    def _verdict(self) -> str:
        if self.memory_bytes is None:
            return " with everything on the device"
        has = f"the device has {self.memory_bytes / _GIB:.0f} GiB"
        if self.peak_bytes <= self.memory_bytes:
            return f": fits, {has}"
        return f": does not fit, {has}; tiles, a memory budget and --offload cpu take less"


def plan(
    model: str = "open-sora-v2",
    config: SamplingConfig | None = None,
    *,
    task: str = "t2v",
    dtype: torch.dtype = torch.bfloat16,
    device: str | None = None,
    memory_gib: float | None = None,
    tiling: bool = False,
    budget_gib: float | None = None,
) -> Plan:
    """Count what a generation takes, without weights, a GPU, or any of the work.

    The networks run on the meta device, where tensors have shapes and no values.

    Args:
        model: one of `PLANNED`.
        config: of the sampling; default: the released model's, with the nearest number of frames.
        task: "t2v", or what is conditioned on.
        dtype: of the networks.
        device: name of a GPU with a data sheet, e.g. "H200"; None leaves the floors out.
        memory_gib: that the device has.
        tiling: decode in spatial and temporal tiles.
        budget_gib: decode within so much memory, exactly and without tiles.

    Returns:
        The plan.

    Raises:
        ValueError: an unknown model, task or device, or a size that the model does not accept.
    """
    _check_model(model)
    if task not in TASKS:
        raise ValueError(f"plan: unknown task {task!r}, accepted are {', '.join(TASKS)}")
    rate = _rate(device, dtype)
    system = preset(model)
    with torch.device("meta"):
        transformer = MMDiT(system.transformer).to(dtype)
        vae = system.build_vae().to(dtype)
    assert isinstance(vae, (HunyuanVAE, VideoDCAE))
    vae.use_spatial_tiling = vae.use_temporal_tiling = tiling
    config = config or sampling_of(model, {})
    patch = system.transformer.patch_size
    config.check_geometry(multiple=vae.spatial_compression_ratio * patch, frames=vae.frame_grid)
    size = vae.latent_size(config.num_frames, config.height, config.width)
    num_txt = _TEXT_TOKENS.get(model, _RELEASED_TEXT_TOKENS)
    forwards = forwards_needed(config.guidance(), config.num_inference_steps, task)
    z = torch.empty(1, vae.z_channels, *size, dtype=dtype, device="meta")
    stages = {
        "denoise": _denoise(transformer, size, num_txt, task, forwards, rate),
        "decode": _stage(vae, _decoding(vae, z, budget_gib), rate),
    }
    return Plan(
        model=model,
        config=config,
        task=task,
        dtype=dtype,
        device=device,
        latent_size=size,
        tokens=(size[0] * size[1] * size[2] // patch**2, num_txt),
        forwards=forwards,
        original_forwards=3 * config.num_inference_steps,
        stages=stages,
        memory_bytes=None if memory_gib is None else int(memory_gib * _GIB),
    )


def sampling_of(
    model: str,
    fields: dict[str, Any],
    resolution: str | None = None,
    aspect_ratio: str | None = None,
) -> SamplingConfig:
    """The sampling of a model where only some fields are named.

    Args:
        model: one of `PLANNED`.
        fields: of `SamplingConfig`; the released model's where they are left out, with the nearest
            number of frames and size that this one accepts.
        resolution: pixel budget such as "256px"; instead of height and width.
        aspect_ratio: width to height such as "16:9"; belongs to `resolution`.

    Returns:
        The configuration.

    Raises:
        ValueError: an unknown model, or fields that contradict each other.
    """
    _check_model(model)
    system = preset(model)
    multiple = system.vae.spatial_compression_ratio * system.transformer.patch_size
    frames = FrameGrid(system.vae.time_compression_ratio, system.vae_class.is_causal)
    default = SamplingConfig()
    nearest = {
        "num_frames": frames.at_most(default.num_frames),
        "height": default.height // multiple * multiple,
        "width": default.width // multiple * multiple,
    }
    given = with_size(fields, resolution, aspect_ratio, multiple)
    return SamplingConfig(**{**nearest, **given})


def _check_model(model: str) -> None:
    if model not in PLANNED:
        raise ValueError(f"plan: unknown model {model!r}, accepted are {', '.join(PLANNED)}")


def _decoding(
    vae: HunyuanVAE | VideoDCAE, z: torch.Tensor, budget_gib: float | None
) -> Callable[[], Any]:
    if budget_gib is None:
        return lambda: vae.decode(z)
    budget = int(budget_gib * _GIB)
    return lambda: vae.decode(z, memory_budget=budget)


def _denoise(
    transformer: MMDiT,
    size: tuple[int, int, int],
    num_txt: int,
    task: str,
    forwards: int,
    rate: float | None,
) -> StagePlan:
    """A forward, of all branches at once where the sampler would batch them."""
    config = transformer.config
    dtype = next(transformer.parameters()).dtype
    num_img = size[0] * size[1] * size[2] // config.patch_size**2
    branches = 2 if task == "t2v" else 3
    batch = branches if 3 * (num_img + num_txt) <= MAX_BATCHED_TOKENS else 1

    def empty(*shape: int) -> torch.Tensor:
        return torch.empty(batch, *shape, dtype=dtype, device="meta")

    meta = torch.device("meta")
    inputs: dict[str, Any] = {
        "img_ids": latent_position_ids(batch, size, config.patch_size, device=meta),
        "txt": empty(num_txt, config.context_in_dim),
        "txt_ids": text_position_ids(batch, num_txt, device=meta),
        "y_vec": empty(config.vec_in_dim),
        "cond": empty(num_img, config.cond_channels) if config.cond_embed else None,
        "guidance": empty() if config.guidance_embed else None,
    }

    def step() -> torch.Tensor:
        context = transformer.prepare(**inputs)
        img, times = empty(num_img, config.in_channels), empty()
        out: torch.Tensor = transformer(img=img, timesteps=times, context=context, **inputs)
        return out

    return _stage(transformer, step, rate, calls=forwards / batch)


def _stage(
    network: nn.Module, run: Callable[[], Any], rate: float | None, calls: float = 1.0
) -> StagePlan:
    peaks: list[int] = []
    flops = round(count_flops(lambda: peaks.append(peak_bytes(run))) * calls)
    return StagePlan(
        flops=flops,
        parameter_bytes=sum(p.numel() * p.element_size() for p in network.parameters()),
        activation_bytes=peaks[0],
        floor_s=None if rate is None else flops / rate,
    )


def _rate(device: str | None, dtype: torch.dtype) -> float | None:
    """Operations per second by the data sheet."""
    if device is None:
        return None
    sheet = data_sheet(device)
    if sheet is None:
        raise ValueError(f"plan: no data sheet of {device!r}, e.g. H200, H100, A100, RTX 4090 have")
    return sheet.fp32_flops if dtype is torch.float32 else sheet.half_flops
