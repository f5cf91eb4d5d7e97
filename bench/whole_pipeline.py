"""Text to video with every part of the released sizes and random weights, timed by stage."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import nn

from opensora_fast.models import HunyuanVAE, HunyuanVAEConfig, MMDiT, MMDiTConfig
from opensora_fast.models.sampling import Guidance, denoise, forwards_needed
from opensora_fast.models.text import CLIPEncoder, T5Encoder
from opensora_fast.models.text.bytes_tokenizer import build_byte_tokenizer
from opensora_fast.pipeline import VideoPipeline
from opensora_fast.sampling_config import SamplingConfig

from .draw import drawn_weights, filled, shapes_of

RELEASED_STEPS = 50
_PROMPT = "a small boat on a calm lake, mist rises slowly"
_SEED = 11
# google/t5-v1_1-xxl and the text tower of openai/clip-vit-large-patch14, as published.
_T5_XXL: dict[str, Any] = {
    "vocab_size": 32128, "d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24,
    "num_heads": 64, "feed_forward_proj": "gated-gelu", "is_encoder_decoder": False,
    "use_cache": False,
}  # fmt: skip
_CLIP_LARGE: dict[str, Any] = {
    "vocab_size": 49408, "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
    "num_attention_heads": 12, "max_position_embeddings": 77, "projection_dim": 768,
    "eos_token_id": 1, "pad_token_id": 0,
}  # fmt: skip


def measure_pipeline(
    device: str, dtype: torch.dtype, steps: int = RELEASED_STEPS, smoke: bool = False
) -> dict[str, Any]:
    """Make one video after a short one that warms up.

    Args:
        device: where.
        dtype: of the weights.
        steps: Euler steps.
        smoke: the shipped tiny model and a tiny video instead.

    Returns:
        Seconds in all and by stage, forwards of branches, first call, memory, whether the latent
        was finite; with fewer steps than the released model's also what its steps would take, as
        "extrapolated".
    """
    place = torch.device(device)
    pipeline = (
        VideoPipeline.from_pretrained("tiny", device=device, dtype=dtype)
        if smoke
        else released_pipeline(place, dtype)
    )
    if place.type == "cuda":
        torch.cuda.reset_peak_memory_stats(place)
    began = time.perf_counter()
    pipeline(_PROMPT, num_inference_steps=2, seed=_SEED, progress=False)
    first_call_s = time.perf_counter() - began
    latent = pipeline(
        _PROMPT, num_inference_steps=2, seed=_SEED, output_type="latent", progress=False
    )
    began = time.perf_counter()
    output = pipeline(_PROMPT, num_inference_steps=steps, seed=_SEED, progress=False)
    seconds = time.perf_counter() - began
    evaluations = denoise.last_evaluations  # type: ignore[attr-defined]
    facts: dict[str, Any] = {
        "seconds": seconds,
        "steps": steps,
        "branch_forwards": evaluations,
        "stages": {name: round(value, 4) for name, value in output.timings.items()},
        "first_call_s": first_call_s,
        "memory_peak": torch.cuda.max_memory_allocated(place) if place.type == "cuda" else None,
        "finite": bool(torch.isfinite(latent.frames).all()),
    }
    if steps < RELEASED_STEPS and not smoke:
        released = forwards_needed(Guidance(), RELEASED_STEPS, "t2v")
        rest = seconds - output.timings["denoise"]
        facts["extrapolated"] = {
            "steps": RELEASED_STEPS,
            "seconds": rest + output.timings["denoise"] / evaluations * released,
        }
    return facts


def released_pipeline(device: torch.device, dtype: torch.dtype) -> VideoPipeline:
    """All parts in the released configuration, with random weights and a tokenizer of bytes."""
    t5, clip = released_text_encoders(device, dtype)
    return VideoPipeline(
        vae=_ours(HunyuanVAE, HunyuanVAEConfig(), device, dtype),
        transformer=_ours(MMDiT, MMDiTConfig(), device, dtype),
        t5=t5,
        clip=clip,
        defaults=SamplingConfig(),
        device=device,
        dtype=dtype,
    )


def released_text_encoders(
    device: torch.device, dtype: torch.dtype
) -> tuple[T5Encoder, CLIPEncoder]:
    """T5 v1.1 XXL and the large CLIP with random weights."""
    from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

    t5 = _random(T5EncoderModel, T5Config(**_T5_XXL), device, dtype)
    clip = _random(CLIPTextModel, CLIPTextConfig(**_CLIP_LARGE), device, dtype)
    tokenizer = build_byte_tokenizer()
    return (
        T5Encoder(t5, tokenizer, T5Encoder.default_max_length),
        CLIPEncoder(clip, tokenizer, CLIPEncoder.default_max_length),
    )


def _ours(model_class: Any, config: Any, device: torch.device, dtype: torch.dtype) -> nn.Module:
    with torch.device("meta"):
        model = model_class(config)
    weights = drawn_weights(
        shapes_of(model), device=str(device), dtype=dtype, seed=_SEED, drawn_on=str(device)
    )
    return filled(model, weights)


def _random(model_class: Any, config: Any, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """A network of transformers as it comes: initialised on the device, in its dtype."""
    torch.manual_seed(_SEED)
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(dtype)
        with torch.device(device):
            network: nn.Module = model_class(config)
    finally:
        torch.set_default_dtype(before)
    return network
