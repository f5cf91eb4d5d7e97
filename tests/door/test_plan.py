"""The plan: counts that are known, memory that is measured, and refusals."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch

from opensora_fast.cli import app
from opensora_fast.cli.errors import run
from opensora_fast.kernels.footprint import peak_bytes
from opensora_fast.plan import plan, sampling_of
from opensora_fast.sampling_config import SamplingConfig

SMALL = SamplingConfig(num_frames=5, height=64, width=96)


def test_the_released_model_at_768_pixels() -> None:
    """Tokens and operations as counted by hand: 24 M^2 per token and layer, 4 L^2 M per layer."""
    found = plan("open-sora-v2", SamplingConfig(height=576, width=1024), device="H200")
    assert found.latent_size == (33, 72, 128) and found.tokens == (76_032, 512)
    assert (found.forwards, found.original_forwards) == (80, 150)
    length, width, layers = 76_544, 3072, 57
    branch = layers * (24 * length * width**2 + 4 * length**2 * width)
    denoise = found.stages["denoise"]
    assert denoise.flops / 80 == pytest.approx(branch, rel=0.003)
    assert denoise.parameter_bytes == pytest.approx(2 * 11.89e9, rel=0.01)
    assert denoise.floor_s == pytest.approx(denoise.flops / 989e12)


def test_image_to_video_takes_more_forwards() -> None:
    assert plan("open-sora-v2", SMALL, task="i2v_head").forwards == 110


def test_small_batches_of_branches_take_the_memory_of_all() -> None:
    text, image = (plan("open-sora-v2", SMALL, task=task) for task in ("t2v", "i2v_head"))
    ratio = image.stages["denoise"].activation_bytes / text.stages["denoise"].activation_bytes
    assert ratio == pytest.approx(3 / 2, rel=0.1)


def test_tiles_take_less_memory() -> None:
    size = SamplingConfig(num_frames=5, height=512, width=512)
    whole, tiled = (plan("open-sora-v2", size, tiling=tiling) for tiling in (False, True))
    assert tiled.stages["decode"].activation_bytes < 0.5 * whole.stages["decode"].activation_bytes
    assert tiled.stages["decode"].flops > whole.stages["decode"].flops


def test_a_budget_for_the_decoder_is_kept() -> None:
    size = SamplingConfig(num_frames=16, height=256, width=256)
    whole, within = (
        plan("open-sora-v2-hc", size, budget_gib=budget).stages["decode"] for budget in (None, 0.25)
    )
    assert whole.activation_bytes > 3 * within.activation_bytes
    assert within.activation_bytes <= 0.25 * 2**30
    # The rows around a slab that an upsampling makes twice.
    assert whole.flops < within.flops < 1.3 * whole.flops
    with pytest.raises(ValueError, match="the least that this size can be done with is"):
        plan("open-sora-v2-hc", size, budget_gib=0.001)


def test_a_budget_for_the_causal_decoder_is_kept() -> None:
    """Half the memory; norms, which need all rows first, make passes of their own."""
    size = SamplingConfig(num_frames=17, height=256, width=256)
    whole, within = (
        plan("open-sora-v2", size, budget_gib=budget).stages["decode"] for budget in (3.0, 0.65)
    )
    assert whole.activation_bytes > 1.3 * 2**30
    assert within.activation_bytes <= 0.65 * 2**30
    assert whole.flops < within.flops < 2.5 * whole.flops


def test_high_compression_has_a_quarter_of_the_tokens() -> None:
    found = plan("open-sora-v2-hc", sampling_of("open-sora-v2-hc", {"height": 768, "width": 768}))
    assert found.config.num_frames == 128
    assert found.latent_size == (32, 24, 24) and found.tokens == (18_432, 512)
    decode = found.stages["decode"]
    assert decode.flops == pytest.approx(1633e12, rel=0.01)


PREDICTED_AND_HELD = """
import sys

import opensora_fast
import torch
from opensora_fast.bench.memory import measure_memory
from opensora_fast.kernels.footprint import peak_bytes
from opensora_fast.models import HunyuanVAE, HunyuanVAEConfig, VideoDCAE, VideoDCAEConfig

name, budget = sys.argv[1], eval(sys.argv[2])
if name == "HunyuanVAE":
    config = HunyuanVAEConfig(
        block_out_channels=(64, 128, 128, 128), layers_per_block=1, norm_num_groups=16
    )
    model, shape = HunyuanVAE, (1, config.latent_channels, 5, 24, 24)
else:
    config = VideoDCAEConfig(
        latent_channels=16,
        encoder_widths=(64, 128, 128),
        encoder_depths=(1, 1, 1),
        decoder_widths=(64, 128, 128),
        decoder_depths=(1, 1, 1),
        block_types=("ResBlock", "ResBlock", "EViTS5_GLU"),
        temporal_downsample=(False, True, False),
        spatial_tile_size=32,
        temporal_tile_size=8,
    )
    model, shape = VideoDCAE, (1, config.latent_channels, 8, 64, 64)
vae = model(config).requires_grad_(False)
z = torch.randn(shape)
with torch.device("meta"):
    skeleton = model(config)
predicted = peak_bytes(lambda: skeleton.decode(z.to("meta"), memory_budget=budget))
with torch.inference_mode():
    _, memory = measure_memory(lambda: vae.decode(z, memory_budget=budget), torch.device("cpu"))
print(predicted, memory.activations)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "budget"), [("HunyuanVAE", None), ("HunyuanVAE", 400 << 20), ("VideoDCAE", 400 << 20)]
)
def test_the_predicted_activations_are_those_that_are_held(model: str, budget: int | None) -> None:
    """Against the resident set of a process of its own, half the released width."""
    # Large blocks go back at once: the holes that slabs leave in the heap are not tensors.
    done = subprocess.run(
        [sys.executable, "-c", PREDICTED_AND_HELD, model, str(budget)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"},
    )
    predicted, held = map(int, done.stdout.split())
    assert held == pytest.approx(predicted, rel=0.15)


def test_memory_is_freed_when_the_last_view_is_gone() -> None:
    def run() -> torch.Tensor:
        for _ in range(3):
            x = torch.empty(1000, device="meta")
            x = x.view(10, 100)[2:]
        return x

    # The old tensor lives until the name has the new one.
    assert peak_bytes(run) == 2 * 4000


@pytest.mark.parametrize(
    ("keywords", "sentence"),
    [
        ({"model": "open-sora-v9"}, "unknown model"),
        ({"task": "v2t"}, "unknown task"),
        ({"device": "abacus"}, "no data sheet"),
        ({"config": SamplingConfig(num_frames=6, height=64, width=64)}, "4k \\+ 1"),
    ],
)
def test_bad_input(keywords: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        plan(**keywords)  # type: ignore[arg-type]


def test_the_verb_prints_text_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    size = ["--num-frames", "5", "--height", "64", "--width", "64", "--model", "tiny"]
    assert run(app, ["plan", *size, "--device", "H100", "--memory", "80"]) == 0
    printed = capsys.readouterr().out
    assert "32 of the video" in printed and "fits, the device has 80 GiB" in printed
    assert run(app, ["plan", *size, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["tokens"] == [32, 32] and document["stages"]["denoise"]["floor_s"] is None
    assert run(app, ["plan", "--resolution", "256px"]) == 2
    assert "belong together" in capsys.readouterr().err
