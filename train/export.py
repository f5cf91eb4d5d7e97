"""Write a trained system as a pipeline folder: index, weights, text encoders, tokenizers."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import CLIPTextModel, PreTrainedModel, T5EncoderModel

from opensora_fast.kernels.atomic import replacing
from opensora_fast.models import HunyuanVAE, MMDiT, VideoDCAE
from opensora_fast.models.checkpoint import save_tensors
from opensora_fast.models.text.bytes_tokenizer import build_byte_tokenizer

from .config import RunConfig

GUIDANCE_SCALE = 4.0
# Half the size of fp32, and eight times finer than bf16; all weights are far from its limits.
STORED = torch.float16
NUM_INFERENCE_STEPS = 30


def export_pipeline(
    folder: Path,
    config: RunConfig,
    *,
    vae: HunyuanVAE | VideoDCAE,
    transformer: MMDiT,
    t5: T5EncoderModel,
    clip: CLIPTextModel,
) -> None:
    """Write the folder that ``VideoPipeline.from_pretrained`` reads.

    Args:
        folder: where to; files of the same names are replaced one by one.
        config: of the run; gives frames, size, rate and text length.
        vae: stored in fp16.
        transformer: stored in fp16.
        t5: stored in fp32.
        clip: stored in fp32.
    """
    folder.mkdir(parents=True, exist_ok=True)
    save_tensors(_as(vae, STORED), folder / "vae.safetensors")
    save_tensors(_as(transformer, STORED), folder / "transformer.safetensors")
    for name, model in (("t5", t5), ("clip", clip)):
        _save_text_encoder(model, folder / name, config.text.max_length)
    index = json.dumps(_index(config, vae, transformer), indent=2) + "\n"
    with replacing(folder / "model_index.json") as temporary:
        temporary.write_text(index, encoding="utf-8")


def _index(config: RunConfig, vae: HunyuanVAE | VideoDCAE, transformer: MMDiT) -> dict[str, object]:
    length = config.text.max_length
    return {
        "format": 1,
        "vae": {
            "class": type(vae).__name__,
            "config": dataclasses.asdict(vae.config),
            "file": "vae.safetensors",
        },
        "transformer": {
            "class": "MMDiT",
            "config": dataclasses.asdict(transformer.config),
            "file": "transformer.safetensors",
        },
        "t5": {"folder": "t5", "max_length": length},
        "clip": {"folder": "clip", "max_length": length},
        "defaults": {
            "num_frames": config.num_frames,
            "height": config.size,
            "width": config.size,
            "fps": config.fps,
            "num_inference_steps": NUM_INFERENCE_STEPS,
            "guidance_scale": GUIDANCE_SCALE,
            "image_guidance_scale": 1.0,
            "text_oscillation": False,
            "image_oscillation": False,
            "temporal_ramp": False,
            "shift": True,
            "shift_alpha": config.diffusion.shift_alpha,
        },
        "prompt_suffix": False,
    }


def _save_text_encoder(model: PreTrainedModel, folder: Path, max_length: int) -> None:
    folder.mkdir(exist_ok=True)
    model.save_pretrained(folder, safe_serialization=True)
    tokenizer = build_byte_tokenizer()
    tokenizer.model_max_length = max_length
    tokenizer.save_pretrained(folder)


def _as(module: nn.Module, dtype: torch.dtype) -> dict[str, Tensor]:
    return {name: value.to(dtype) for name, value in module.state_dict().items()}
