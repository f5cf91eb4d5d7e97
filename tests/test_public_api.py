"""The public names, and what importing the package costs. A change here is a change of the API."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

PUBLIC = {
    "opensora_fast": ["VideoPipeline", "VideoPipelineOutput", "__version__"],
    "opensora_fast.kernels": [
        "attention",
        "causal_conv3d",
        "channel_duplicate_shuffle3d",
        "concat_gelu",
        "conv3d",
        "frame_causal_attention",
        "gate_residual",
        "gelu",
        "glu_mb_conv",
        "group_norm_silu",
        "group_norm_silu_conv3d",
        "joint_qk_norm_rope",
        "layer_norm_modulate",
        "layer_norm_modulate_quantized",
        "linear_attention",
        "nearest_upsample3d",
        "pixel_unshuffle_average3d",
        "qk_norm_rope",
        "quantize_rows",
        "quantized_linear",
        "rms_norm3d",
        "upsample_conv3d",
    ],
    "opensora_fast.models": [
        "AutoEncoder2D",
        "AutoEncoder2DConfig",
        "CheckpointError",
        "HunyuanVAE",
        "HunyuanVAEConfig",
        "MMDiT",
        "MMDiTConfig",
        "VideoDCAE",
        "VideoDCAEConfig",
    ],
}


@pytest.mark.parametrize("module_name", PUBLIC)
def test_the_public_names_are_these(module_name: str) -> None:
    module = importlib.import_module(module_name)
    assert sorted(module.__all__) == PUBLIC[module_name]
    for name in module.__all__:
        assert getattr(module, name) is not None


def test_names_resolve_lazily_and_unknown_ones_are_refused() -> None:
    import opensora_fast
    from opensora_fast.pipeline import VideoPipeline

    assert opensora_fast.VideoPipeline is VideoPipeline
    assert "VideoPipeline" in dir(opensora_fast)
    with pytest.raises(AttributeError, match="VideoPipelin"):
        opensora_fast.VideoPipelin  # noqa: B018


def loaded_by(statement: str) -> set[str]:
    """Names of all modules that a fresh interpreter holds after a statement."""
    code = f"{statement}\nimport sys\nprint('\\n'.join(n for n, m in sys.modules.items() if m))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=ROOT / "tests",
        check=True,
        capture_output=True,
        text=True,
    )
    return set(done.stdout.split())


def rooms(modules: set[str]) -> set[str]:
    parts = (name.split(".") for name in modules)
    return {words[1] for words in parts if words[0] == "opensora_fast" and len(words) > 1}


def test_importing_the_package_loads_no_room_and_no_torch() -> None:
    modules = loaded_by("import opensora_fast")
    assert not {"torch", "numpy", "transformers", "av", "typer", "rich"} & modules
    assert rooms(modules) == set()


def test_importing_the_kernels_loads_no_model() -> None:
    modules = loaded_by("import opensora_fast.kernels")
    assert "opensora_fast.kernels" in modules
    assert not {"transformers", "av", "typer"} & modules
    assert rooms(modules) == {"kernels"}


def test_importing_the_models_loads_no_door() -> None:
    modules = loaded_by("import opensora_fast.models")
    assert not {"av", "typer"} & modules
    assert rooms(modules) <= {"kernels", "models", "_C"}


def test_the_command_line_answers_without_torch() -> None:
    modules = loaded_by("import opensora_fast.cli")
    assert not {"torch", "transformers", "av"} & modules


def test_the_pipeline_loads_no_training() -> None:
    assert not {"train", "bench"} & rooms(loaded_by("from opensora_fast import VideoPipeline"))


def test_the_checkouts_rooms_do_not_pose_as_other_packages() -> None:
    loaded_by(
        "import sys; sys.path.insert(0, '..')\n"
        "import opensora_fast, importlib.util as u\n"
        "assert u.find_spec('kernels') is None"
    )
