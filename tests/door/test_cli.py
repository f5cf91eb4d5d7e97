"""The command line: what the verbs make, and one line with status 2 for every user's mistake."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

pytest.importorskip("av", reason="PyAV is not installed")

from opensora_fast import video
from opensora_fast.cli import app
from opensora_fast.cli.errors import run
from opensora_fast.cli.handover import hand_over
from opensora_fast.video import read_image, read_video


class Result(NamedTuple):
    """What a command left."""

    status: int
    out: str
    error: str


class Shell:
    """Runs the command line in this process, in a folder of its own."""

    def __init__(self, capsys: pytest.CaptureFixture[str], model: Path) -> None:
        self._capsys, self._model = capsys, model

    def __call__(self, *arguments: object) -> Result:
        words = [str(word) for word in arguments]
        if words and words[0] in ("generate", "encode", "decode", "reconstruct"):
            words += ["--quiet"]
            words += [] if "--device" in words else ["--device", "cpu"]
            words += [] if "--model" in words else ["--model", str(self._model)]
        self._capsys.readouterr()
        status = run(app, words)
        out, error = self._capsys.readouterr()
        return Result(status, out, error)

    def refused(self, *arguments: object) -> str:
        """The one line that a user's mistake gets."""
        status, out, error = self(*arguments)
        assert status == 2, (out, error)
        assert out == ""
        assert error.startswith("error: ")
        assert error.count("\n") == 1
        return error


@pytest.fixture
def shell(
    capsys: pytest.CaptureFixture[str],
    pipeline_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Shell:
    """A shell whose working folder is `tmp_path`."""
    monkeypatch.chdir(tmp_path)
    return Shell(capsys, pipeline_folder)


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_generate_makes_a_video_and_says_so(shell: Shell, tmp_path: Path) -> None:
    result = shell("generate", "a red ball", "--out", "new/ball.mp4", "--seed", 3)
    assert (result.status, result.error) == (0, "")
    assert read_video("new/ball.mp4").frames.shape == (5, 16, 32, 3)
    for piece in ("new/ball.mp4", "seed 3", "denoise", "decode", "try next: opensora-fast"):
        assert piece in result.out
    settings = json.loads(Path("new/ball.json").read_text())
    assert settings["prompt"] == "a red ball"
    assert settings["seed"] == 3
    assert settings["sampling"]["num_inference_steps"] == 3
    assert set(settings["seconds"]) == {"load", "text", "denoise", "decode"}
    assert files(tmp_path) == {"new", "new/ball.mp4", "new/ball.json"}


def test_generate_without_out_names_the_file_itself(shell: Shell) -> None:
    result = shell("generate", "--prompt", "a ball", "--num-frames", 1)
    path = Path(result.out.splitlines()[0])
    assert path.parent == Path("outputs")
    assert path.is_file()


def test_everything_can_be_set(shell: Shell, picture: Path) -> None:
    result = shell(
        *("generate", "a ball", "sampling.shift_alpha=none", "sampling.text_oscillation=true"),
        *("--out", "a.mp4", "--negative-prompt", "blur", "--image", picture, "--num-frames", 9),
        *("--height", 32, "--width", 16, "--steps", 2, "--guidance-scale", 2, "--seed", 0),
        *("--image-guidance-scale", 1.5, "--num-videos", 2, "--dtype", "float32"),
    )
    assert result.status == 0, result.error
    assert read_video("a-1.mp4").frames.shape == (9, 32, 16, 3)
    settings = json.loads(Path("a.json").read_text())
    assert settings["sampling"]["shift_alpha"] is None
    assert settings["sampling"]["text_oscillation"] is True
    assert settings["outputs"] == ["a-0.mp4", "a-1.mp4"]


def test_a_prompt_that_is_too_long_is_cut_with_a_warning(shell: Shell) -> None:
    result = shell("generate", "word " * 20, "-o", "a.png", "--num-frames", 1)
    assert result.status == 0
    assert result.error.startswith("warning: the model reads 32 tokens, the prompt has 100")
    assert result.error.count("\n") == 1


def test_one_frame_becomes_a_picture_and_latents_can_be_decoded_later(shell: Shell) -> None:
    assert shell("generate", "a ball", "-o", "a.png", "--num-frames", 1, "--seed", 1).status == 0
    arguments = ("generate", "a ball", "--num-frames", 1, "--seed", 1, "-o")
    assert shell(*arguments, "a.safetensors").status == 0
    assert shell("decode", "a.safetensors", "-o", "b.png").status == 0
    assert np.array_equal(read_image("a.png"), read_image("b.png"))


def test_encode_and_decode_give_back_the_size_of_the_clip(shell: Shell, clip: Path) -> None:
    result = shell("encode", clip)
    assert result.status == 0, result.error
    assert "9 frames of 56x40" in result.out
    result = shell("decode", "clip.latents.safetensors", "--out", "back.mp4")
    assert result.status == 0, result.error
    back = read_video("back.mp4")
    assert back.frames.shape == (9, 40, 56, 3)
    assert back.fps == 8


def test_reconstruct_of_an_awkward_clip(shell: Shell, tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 255, (6, 21, 35, 3), dtype=np.uint8)
    video.write_video(tmp_path / "odd.mp4", frames, 12)
    result = shell("reconstruct", "odd.mp4", "--out", "both.mp4")
    assert result.status == 0, result.error
    assert read_video("both.mp4").frames.shape == (6, 21, 70, 3)
    assert "PSNR" in result.out
    numbers = json.loads(Path("both.json").read_text())
    assert 0 < numbers["psnr_db"] < 60
    assert -1 < numbers["ssim"] < 1


def test_a_memory_budget_changes_nothing_but_the_memory(shell: Shell, clip: Path) -> None:
    found = []
    for name, *budget in (("whole",), ("within", "--memory-budget", 0.0015)):
        result = shell("reconstruct", clip, "-o", f"{name}.mp4", *budget)
        assert result.status == 0, result.error
        found.append(json.loads(Path(f"{name}.json").read_text()))
    assert found[1]["memory_budget"] == 0.0015
    assert found[1]["psnr_db"] == pytest.approx(found[0]["psnr_db"], abs=0.01)


def test_reconstruct_takes_a_part_in_another_size(shell: Shell, clip: Path) -> None:
    options = ("--max-frames", 5, "--height", 24, "--width", 24, "--tiling", "on")
    assert shell("reconstruct", clip, "-o", "both.mov", *options).status == 0
    assert read_video("both.mov").frames.shape == (5, 24, 48, 3)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((), "missing"),
        (("",), "prompt is empty"),
        (("   ",), "prompt is empty"),
        (("a", "b"), "expected one prompt, got 2; put it in quotes"),
        (("a", "--prompt", "b"), "expected one prompt"),
        (("a\udcff",), "Unicode"),
        (("a", "--colour", "red"), "colour"),
        (("a", "--num-framse", "5"), "num-framse"),
        (("a", "--num-frames", "18"), "must be 4k + 1, got 18; the nearest are 17 and 21"),
        (("a", "--num-frames", "0"), "num_frames must be at least 1"),
        (("a", "--num-frames", "-4"), "num_frames must be at least 1"),
        (("a", "--num-frames", "many"), "--num-frames"),
        (("a", "--num-frames", str(4 * 10**20 + 1)), "tokens"),
        (("a", "--height", "0"), "height must be from 1"),
        (("a", "--width", "-16"), "width must be from 1"),
        (
            ("a", "--width", "33"),
            "width must be a multiple of 16, got 33; the nearest are 32 and 48",
        ),
        (("a", "--height", "1000000"), "height must be from 1 to 8192"),
        (("a", "--resolution", "256px"), "belong together"),
        (("a", "--resolution", "4k", "--aspect-ratio", "1:1"), "256px"),
        (("a", "--resolution", "256px", "--aspect-ratio", "5:7"), "5:7"),
        (("a", "--steps", "0"), "num_inference_steps must be from 1 to 1000"),
        (("a", "--steps", "-2"), "num_inference_steps must be from 1 to 1000"),
        (("a", "--steps", "1000000"), "num_inference_steps must be from 1 to 1000"),
        (("a", "--seed", "-1"), "seed must be a whole number from 0"),
        (("a", "--seed", str(2**70)), "seed must be a whole number from 0"),
        (("a", "--seed", "x"), "--seed"),
        (("a", "--guidance-scale", "nan"), "guidance_scale"),
        (("a", "--num-videos", "0"), "num_videos_per_prompt must be at least 1"),
        (("a", "--image", "absent.png"), "absent.png: there is no such file"),
        (("a", "--image", "words.png"), "words.png: it is not a video or image file"),
        (("a", "--last-image", "."), "it is a folder"),
        (("a", "--video", "half.mp4"), "half.mp4: it is truncated"),
        (("a", "--model", "absent"), "there is no folder absent"),
        (("a", "--model", "words.png"), "words.png is a file"),
        (("a", "--model", "."), "holds no model_index.json"),
        (("a", "--device", "tpu"), "device must be"),
        (("a", "--dtype", "int8"), "dtype must be"),
        (("a", "--quality", "fast"), 'quality must be "lossless" or "high" for now'),
        (("a", "--offload", "disk"), "offload"),
        (("a", "sampling.shft=true"), "no field sampling.shft; did you mean 'shift'?"),
        (("a", "sampling.shift=maybe"), "sampling.shift must be true or false, got 'maybe'"),
        (("a", "sampling.fps=-8"), "fps must be above 0"),
        (("a", "training.lr=1"), "there is no section 'training'"),
        (("a", "--out", "a.avi"), "extension '.avi' is not supported"),
        (("a", "--out", "a"), "without extension"),
        (("a", "--out", "a.png"), "extension '.png' is not supported; use .mp4, .mov or .mkv"),
        (("a", "--out", "folder.mp4"), "it is a folder"),
        (("a", "--out", "words.png/a.mp4"), "cannot write into the folder words.png"),
        (("a", "--out", "words.png/b/a.mp4"), "cannot write into the folder words.png/b"),
        (("a", "--out", "/proc/nothing/a.mp4"), "cannot write into the folder /proc/nothing"),
    ],
)
def test_generate_refuses(
    shell: Shell, tmp_path: Path, clip: Path, arguments: tuple[str, ...], reason: str
) -> None:
    (tmp_path / "words.png").write_text("no picture")
    (tmp_path / "half.mp4").write_bytes(clip.read_bytes()[: clip.stat().st_size // 2 + 500])
    (tmp_path / "folder.mp4").mkdir()
    before = files(tmp_path)
    out = () if "--out" in arguments else ("--out", "new/a.mp4")
    assert reason in shell.refused("generate", *arguments, *out)
    assert files(tmp_path) == before


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("encode",), "CLIP"),
        (("encode", "absent.mp4"), "there is no such file"),
        (("encode", "words.mp4"), "it is not a video"),
        (("encode", "clip.mp4", "--out", "a.mp4"), "use .safetensors"),
        (("encode", "clip.mp4", "--max-frames", "0"), "max-frames must be from 1"),
        (("encode", "clip.mp4", "--height", "-1"), "height must be from 1"),
        (("encode", "clip.mp4", "--tiling", "perhaps"), "tiling must be on, off or auto"),
        (("encode", "clip.mp4", "--memory-budget", "0"), "memory-budget must be above 0 GiB"),
        (("encode", "clip.mp4", "--memory-budget", "1", "--tiling", "on"), "give it or tiling"),
        (("decode", "absent.safetensors"), "there is no such file"),
        (("decode", "words.mp4"), "no complete safetensors file"),
        (("decode", "weights.safetensors"), "holds no video latents"),
        (("decode", "."), "it is a folder"),
        (("reconstruct", "words.mp4"), "it is not a video"),
        (("reconstruct", "clip.mp4", "--out", "clip.gif"), "extension '.gif' is not supported"),
        (("reconstruct", "clip.mp4", "--out", "clip.png"), "extension '.png' is not supported"),
        (("dance",), "dance"),
        (("--loud",), "--loud"),
    ],
)
def test_other_verbs_refuse(
    shell: Shell,
    tmp_path: Path,
    clip: Path,
    pipeline_folder: Path,
    arguments: tuple[str, ...],
    reason: str,
) -> None:
    (tmp_path / "words.mp4").write_text("no video")
    shutil.copy(pipeline_folder / "vae.safetensors", tmp_path / "weights.safetensors")
    before = files(tmp_path)
    assert reason in shell.refused(*arguments)
    assert files(tmp_path) == before


def test_latents_of_another_model(shell: Shell, tmp_path: Path) -> None:
    import torch

    from opensora_fast.latents import VideoLatents

    VideoLatents(torch.zeros(1, 7, 2, 2, 2), 5, 16, 16, 8).save(tmp_path / "alien.safetensors")
    assert "do not fit this model" in shell.refused("decode", "alien.safetensors")


def test_a_spoilt_checkpoint(shell: Shell, pipeline_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(pipeline_folder, tmp_path / "model"))
    (folder / "transformer.safetensors").write_bytes(b"no weights")
    error = shell.refused("generate", "a", "--model", folder, "--out", "a.mp4")
    assert "safetensors" in error


def test_ctrl_c_while_writing_leaves_nothing(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(path: Path, *arguments: object, **keywords: object) -> None:
        path.write_bytes(b"half a video")
        raise KeyboardInterrupt

    monkeypatch.setattr(video, "_encode", interrupted)
    result = shell("generate", "a ball", "--out", "a.mp4")
    assert result.status == 130
    assert "interrupted" in result.error
    assert files(tmp_path) == set()


def test_a_bug_of_ours_is_not_hidden(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    def broken(*arguments: object, **keywords: object) -> None:
        torch.zeros(2).view(3)

    monkeypatch.setattr("opensora_fast.pipeline.denoise", broken)
    with pytest.raises(RuntimeError, match="shape"):
        shell("generate", "a ball", "--out", "a.mp4")
    monkeypatch.setattr("opensora_fast.pipeline.denoise", lambda *a, **k: json.loads("{"))
    with pytest.raises(ValueError, match="Expecting"):
        shell("generate", "a ball", "--out", "a.mp4")


def test_no_memory_is_said_in_a_sentence(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def greedy(*arguments: object, **keywords: object) -> None:
        raise RuntimeError("CUDA out of memory. Tried to allocate 80.00 GiB")

    monkeypatch.setattr("opensora_fast.pipeline.denoise", greedy)
    assert "fewer frames" in shell.refused("generate", "a ball", "--out", "a.mp4")


def test_verbs_of_other_rooms_get_their_arguments_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    room = tmp_path / "a_room"
    room.mkdir()
    (room / "__init__.py").touch()
    (room / "__main__.py").write_text(
        "import sys\nprint(__name__, sys.argv[1:])\nsys.exit(3)\n", "utf-8"
    )
    (tmp_path / "an_empty_room").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SystemExit, match="3"):
        hand_over("a_room", ["tiny", "optim.lr=1", "--help"])
    assert capsys.readouterr().out == "__main__ ['tiny', 'optim.lr=1', '--help']\n"
    with pytest.raises(ImportError, match="lacks an_empty_room"):
        hand_over("an_empty_room", [])


def test_help_and_version(shell: Shell) -> None:
    assert shell("--version").out.startswith("opensora-fast ")
    for verb in ("generate", "encode", "decode", "reconstruct"):
        result = run(app, [verb, "--help"])
        assert result == 0
    assert "Examples:" in shell("decode", "--help", "x").out


def spawn(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "opensora_fast", *arguments],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background job ignores Ctrl-C, and its children would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler) and None,
    )


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_process_leaves_no_partial_file(
    pipeline_folder: Path, tmp_path: Path, number: signal.Signals, status: int
) -> None:
    arguments = ("generate", "a ball", "--out", "new/a.mp4", "--steps", "1000")
    process = spawn(*arguments, "--model", str(pipeline_folder), "--device", "cpu", cwd=tmp_path)
    maps = Path(f"/proc/{process.pid}/maps")
    while "libtorch_cpu" not in maps.read_text():
        assert process.poll() is None
        time.sleep(0.05)
    time.sleep(1.0)  # it is still loading, or sampling: both can be stopped
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    # Python ends itself with SIGINT when the interrupt met code that C had started: 130 to a shell.
    shell_status = 128 - process.returncode if process.returncode < 0 else process.returncode
    assert shell_status == status
    assert "Traceback" not in error
    assert files(tmp_path) == set()


def test_the_module_runs_as_a_program(tmp_path: Path) -> None:
    process = spawn("generate", "", cwd=tmp_path)
    out, error = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, "")
    assert error == "error: the prompt is empty: describe the video in a few words\n"
