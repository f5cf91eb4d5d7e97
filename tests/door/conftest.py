"""A random pipeline small enough that a video takes a fraction of a second."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import opensora_fast  # noqa: F401  before transformers: closes the checkout's name "kernels"
from opensora_fast.models import HunyuanVAE, HunyuanVAEConfig, MMDiT, MMDiTConfig
from opensora_fast.models.configuration import config_to_dict
from opensora_fast.models.text.bytes_tokenizer import build_byte_tokenizer
from opensora_fast.pipeline import VideoPipeline
from opensora_fast.video import write_image, write_video

VAE = HunyuanVAEConfig(
    block_out_channels=(8, 8, 8, 8), layers_per_block=1, norm_num_groups=4, latent_channels=4
)
TRANSFORMER = MMDiTConfig(
    in_channels=16,
    vec_in_dim=16,
    context_in_dim=16,
    hidden_size=32,
    num_heads=2,
    depth=1,
    depth_single_blocks=1,
    axes_dim=(4, 6, 6),
)
DEFAULTS = {
    "num_frames": 5,
    "height": 16,
    "width": 32,
    "fps": 8,
    "num_inference_steps": 3,
    "guidance_scale": 4.0,
    "image_guidance_scale": 1.0,
    "text_oscillation": False,
    "image_oscillation": False,
    "temporal_ramp": False,
    "shift": True,
    "shift_alpha": 2.0,
}


def save_text_encoders(folder: Path) -> None:
    """Write random T5 and CLIP text encoders, each with the byte tokenizer."""
    from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

    t5 = T5Config(
        vocab_size=259, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, dropout_rate=0.0
    )
    clip = CLIPTextConfig(
        vocab_size=259,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=32,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=1,
    )
    for name, network in (("t5", T5EncoderModel(t5)), ("clip", CLIPTextModel(clip))):
        network.save_pretrained(folder / name)
        build_byte_tokenizer().save_pretrained(folder / name)


def write_pipeline(folder: Path) -> Path:
    """Write a random pipeline folder."""
    torch.manual_seed(0)
    transformer = MMDiT(TRANSFORMER)
    with torch.no_grad():
        # Some layers begin at zero, which would hide what the text and the condition do.
        for parameter in transformer.parameters():
            parameter.normal_(std=0.2)
    folder.mkdir(parents=True, exist_ok=True)
    vae = HunyuanVAE(VAE)
    with torch.no_grad():
        # A narrow posterior, so that drawing from it comes close to its mean.
        vae.quant_conv.weight[VAE.latent_channels :] = 0
        vae.quant_conv.bias[VAE.latent_channels :] = -20  # type: ignore[index]
    vae.save_checkpoint(folder / "vae.safetensors")
    transformer.save_checkpoint(folder / "transformer.safetensors")
    save_text_encoders(folder)
    index = {
        "format": 1,
        "vae": {
            "class": "HunyuanVAE",
            "config": config_to_dict(VAE),
            "file": "vae.safetensors",
        },
        "transformer": {
            "class": "MMDiT",
            "config": config_to_dict(TRANSFORMER),
            "file": "transformer.safetensors",
        },
        "t5": {"folder": "t5", "max_length": 32},
        "clip": {"folder": "clip", "max_length": 32},
        "defaults": DEFAULTS,
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


@pytest.fixture(scope="session")
def pipeline_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random pipeline folder; tests that change it copy it first."""
    return write_pipeline(tmp_path_factory.mktemp("models") / "random")


@pytest.fixture(scope="session")
def pipe(pipeline_folder: Path) -> VideoPipeline:
    """The random pipeline, loaded once."""
    return VideoPipeline.from_pretrained(pipeline_folder, device="cpu")


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A video file of 9 smooth frames, 40 x 56."""
    pytest.importorskip("av", reason="PyAV is not installed")
    t, y, x = np.mgrid[:9, :40, :56]
    frames = np.stack([x * 4, y * 5, 20 + t * 20], axis=-1).astype(np.uint8)
    return write_video(tmp_path / "clip.mp4", frames, 8)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """An image file, 40 x 56."""
    pytest.importorskip("av", reason="PyAV is not installed")
    y, x = np.mgrid[:40, :56]
    return write_image(
        tmp_path / "picture.png", np.stack([x * 4, y * 5, x + y], axis=-1).astype(np.uint8)
    )
