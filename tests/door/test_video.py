"""Video and image files: what is written is read back, and what cannot be read says why."""

from __future__ import annotations

import math
import wave
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from opensora_fast import video
from opensora_fast.video import (
    Frames,
    read_image,
    read_video,
    resize_crop,
    to_frames,
    write_image,
    write_video,
)

av = pytest.importorskip("av", reason="PyAV is not installed")


def gradient(num_frames: int, height: int, width: int) -> Frames:
    """A smooth picture that drifts: every codec keeps it well, every flip and shift shows."""
    t, y, x = np.mgrid[:num_frames, :height, :width]
    red = 40 + 180 * x // max(1, width - 1)
    green = 40 + 180 * y // max(1, height - 1)
    return np.stack([red, green, 60 + 10 * t], axis=-1).astype(np.uint8)


def worst(a: Frames, b: Frames) -> int:
    assert a.shape == b.shape
    return int(np.abs(a.astype(int) - b.astype(int)).max())


def write_raw(
    path: Path,
    frames: Frames,
    pts: list[int],
    codec: str = "libx264",
    rate: int = 8,
    **stream_set: object,
) -> None:
    """Write frames with the given presentation times (in 1 / rate seconds), without our writer."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = {"libx264": "yuv420p", "png": "rgba", "qtrle": "argb"}[codec]
        stream.codec_context.time_base = Fraction(1, rate)
        rotation = stream_set.pop("rotation", None)
        if rotation is not None:
            stream.set_display_rotation(rotation)
        for key, value in stream_set.items():
            setattr(stream.codec_context, key, value)
        for pixels, at in zip(frames, pts, strict=True):
            layout = "rgba" if pixels.shape[-1] == 4 else "rgb24"
            frame = av.VideoFrame.from_ndarray(pixels, format=layout).reformat(
                format=stream.pix_fmt
            )
            frame.pts, frame.time_base = at, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize(
    "size", [(64, 64), (48, 80), (63, 64), (64, 65), (33, 17), (1, 1), (16, 201)]
)
def test_frames_come_back_with_their_size_count_and_rate(
    tmp_path: Path, suffix: str, size: tuple[int, int]
) -> None:
    frames = gradient(5, *size)
    clip = read_video(write_video(tmp_path / f"clip{suffix}", frames, fps=8))
    assert worst(clip.frames, frames) <= 16
    assert clip.fps == 8


def test_flat_colours_survive_the_colour_conversion(tmp_path: Path) -> None:
    for colour in [(220, 40, 40), (235, 220, 50), (60, 90, 220), (0, 0, 0), (255, 255, 255)]:
        frames = np.full((3, 32, 32, 3), colour, np.uint8)
        assert worst(read_video(write_video(tmp_path / "flat.mp4", frames, 8)).frames, frames) <= 3


@pytest.mark.parametrize("fps", [1, 23.976, 24, 29.97, 60])
def test_the_rate_is_kept(tmp_path: Path, fps: float) -> None:
    clip = read_video(write_video(tmp_path / "clip.mp4", gradient(4, 32, 32), fps))
    assert math.isclose(clip.fps, fps, rel_tol=1e-4)
    assert len(clip.frames) == 4


def test_a_file_is_playable_h264_420(tmp_path: Path) -> None:
    write_video(tmp_path / "clip.mp4", gradient(3, 31, 33), 8)
    with av.open(str(tmp_path / "clip.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
        assert (context.height, context.width) == (32, 34)  # what other players show


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_a_rotated_clip_is_read_upright(tmp_path: Path, rotation: int) -> None:
    frames = gradient(3, 32, 48)
    write_raw(tmp_path / "turned.mp4", frames, [0, 1, 2], rotation=rotation)
    upright = read_video(tmp_path / "turned.mp4").frames
    # FFmpeg counts display rotation counter-clockwise, and so does rot90.
    assert worst(upright, np.rot90(frames, rotation // 90, axes=(1, 2))) <= 16


def test_pixels_that_are_not_square_are_stretched(tmp_path: Path) -> None:
    write_raw(
        tmp_path / "wide.mp4", gradient(2, 32, 32), [0, 1], sample_aspect_ratio=Fraction(3, 2)
    )
    assert read_video(tmp_path / "wide.mp4").frames.shape == (2, 32, 48, 3)


def test_a_varying_rate_becomes_constant_by_holding_frames(tmp_path: Path) -> None:
    frames = gradient(4, 32, 32)
    write_raw(tmp_path / "vfr.mp4", frames, [0, 1, 4, 5])
    clip = read_video(tmp_path / "vfr.mp4", fps=8)
    assert worst(clip.frames, frames[[0, 1, 1, 1, 2, 3]]) <= 16
    assert clip.fps == 8


def test_a_clip_is_resampled_to_the_rate_asked_for(tmp_path: Path) -> None:
    frames = gradient(8, 32, 32)
    path = write_video(tmp_path / "clip.mp4", frames, 8)
    assert worst(read_video(path, fps=16).frames, frames.repeat(2, axis=0)) <= 16
    assert worst(read_video(path, fps=4).frames, frames[::2]) <= 16
    assert worst(read_video(path, max_frames=3).frames, frames[:3]) <= 16


def test_transparency_is_laid_over_white(tmp_path: Path) -> None:
    rgba = np.zeros((2, 2, 4), np.uint8)
    rgba[0, 0] = (200, 100, 0, 255)
    rgba[0, 1] = (200, 100, 0, 0)
    rgba[1, 0] = (200, 100, 0, 128)
    Image.fromarray(rgba).save(tmp_path / "glass.png")
    expected = [[(200, 100, 0), (255, 255, 255)], [(227, 177, 127), (255, 255, 255)]]
    assert read_image(tmp_path / "glass.png").tolist() == [
        [list(p) for p in row] for row in expected
    ]
    write_raw(tmp_path / "glass.mov", np.stack([rgba, rgba]), [0, 1], codec="png")
    assert read_video(tmp_path / "glass.mov").frames[1].tolist() == [
        [list(p) for p in row] for row in expected
    ]


def test_a_palette_with_transparency_is_laid_over_white(tmp_path: Path) -> None:
    picture = Image.new("P", (4, 4), 1)
    picture.putpalette([10, 20, 30, 40, 50, 60])
    picture.putpixel((0, 0), 0)
    picture.save(tmp_path / "palette.png", transparency=0)
    pixels = read_image(tmp_path / "palette.png")
    assert pixels[0, 0].tolist() == [255, 255, 255]
    assert pixels[1, 1].tolist() == [40, 50, 60]


def test_images_round_trip(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (33, 47, 3), dtype=np.uint8)
    assert np.array_equal(read_image(write_image(tmp_path / "noise.png", noise)), noise)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "noise.png")), noise)
    smooth = gradient(1, 33, 47)[0]
    assert worst(read_image(write_image(tmp_path / "smooth.jpg", smooth)), smooth) <= 8
    gray = Image.fromarray(noise[..., 0])
    gray.save(tmp_path / "gray.png")
    assert worst(read_image(tmp_path / "gray.png"), np.repeat(noise[..., :1], 3, axis=2)) <= 1


def broken_files(folder: Path) -> dict[str, Path]:
    for suffix in (".mp4", ".mov", ".mkv"):
        write_video(folder / f"good{suffix}", gradient(9, 64, 64), 8)
    write_image(folder / "good.png", gradient(1, 64, 64)[0])
    for name, source, share in [
        ("headless.mp4", "good.mp4", 0.02),
        ("half.mp4", "good.mp4", 0.7),
        ("almost.mp4", "good.mp4", 0.98),
        ("half.png", "good.png", 0.5),
        ("half.mkv", "good.mkv", 0.5),
        ("half.mov", "good.mov", 0.5),
    ]:
        data = (folder / source).read_bytes()
        (folder / name).write_bytes(data[: int(len(data) * share)])
    (folder / "empty.mp4").touch()
    for name in ("words.mp4", "words.txt"):
        (folder / name).write_text("this is not a video\n" * 40)
    (folder / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    with wave.open(str(folder / "sound.wav"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(16000))
    (folder / "a_folder.mp4").mkdir()
    return {path.name: path for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("absent.mp4", "there is no such file"),
        ("empty.mp4", "the file is empty"),
        ("headless.mp4", "damaged|truncated"),
        ("half.mp4", "truncated"),
        ("almost.mp4", "truncated"),
        ("half.png", "damaged|truncated"),
        ("half.mkv", "truncated"),
        ("half.mov", "truncated"),
        ("words.mp4", "not a video"),
        ("words.txt", "not a video|no video"),
        ("noise.mp4", "not a video"),
        ("sound.wav", "no video"),
        ("a_folder.mp4", "it is a folder"),
    ],
)
def test_what_cannot_be_read_says_why(tmp_path: Path, name: str, reason: str) -> None:
    path = broken_files(tmp_path).get(name, tmp_path / name)
    with pytest.raises((ValueError, FileNotFoundError), match=reason) as caught:
        read_video(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("frames", "keywords", "reason"),
    [
        (np.zeros((2, 8, 8, 3), np.float32), {}, "float32"),
        (np.zeros((2, 8, 8), np.uint8), {}, r"\[2, 8, 8\]"),
        (np.zeros((0, 8, 8, 3), np.uint8), {}, "empty axis"),
        (np.zeros((2, 8, 8, 3), np.uint8), {"fps": 0}, "fps"),
        (np.zeros((2, 8, 8, 3), np.uint8), {"fps": float("nan")}, "fps"),
        (np.zeros((2, 8, 8, 3), np.uint8), {"crf": 60}, "crf"),
        (np.zeros((1, 1, 20000, 3), np.uint8), {}, "16384"),
    ],
)
def test_frames_that_cannot_be_written(
    tmp_path: Path, frames: Frames, keywords: dict[str, float], reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        write_video(tmp_path / "clip.mp4", frames, **{"fps": 8, **keywords})  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_outputs_that_cannot_be_written(tmp_path: Path) -> None:
    frames = gradient(2, 16, 16)
    (tmp_path / "file").touch()
    for name, error, reason in [
        ("clip.avi", ValueError, r"\.avi.*\.mp4, \.mov or \.mkv"),
        ("clip", ValueError, "without extension"),
        (".", ValueError, "it is a folder"),
        ("file/clip.mp4", OSError, "cannot write into the folder"),
        ("file/below/clip.mp4", OSError, "cannot write into the folder"),
    ]:
        with pytest.raises(error, match=reason):
            write_video(tmp_path / name, frames, 8)
    with pytest.raises(OSError, match="cannot write into the folder /proc"):
        write_video("/proc/clip.mp4", frames, 8)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_missing_folders_are_made(tmp_path: Path) -> None:
    assert write_video(tmp_path / "a" / "b" / "clip.mp4", gradient(2, 16, 16), 8).is_file()


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interruption: type[BaseException]
) -> None:
    path = write_video(tmp_path / "clip.mp4", gradient(2, 16, 16), 8)
    before = path.read_bytes()
    encode = video._encode

    def interrupted(*args: object, **keywords: object) -> None:
        encode(*args, **keywords)  # type: ignore[arg-type]
        raise interruption

    monkeypatch.setattr(video, "_encode", interrupted)
    with pytest.raises(interruption):
        write_video(path, gradient(5, 16, 16), 8)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_without_pyav_the_message_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(ImportError, match="pip install av"):
        read_video(__file__)


@pytest.mark.parametrize("size", [(64, 64), (32, 80), (100, 40), (17, 33)])
def test_resize_crop_of_an_image_agrees_with_pillow(size: tuple[int, int]) -> None:
    picture = np.random.default_rng(1).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    height, width = size
    scale = max(height / 50, width / 70)
    covering = max(height, round(50 * scale)), max(width, round(70 * scale))
    resized = np.asarray(Image.fromarray(picture).resize(covering[::-1], Image.Resampling.BICUBIC))
    top, left = round((covering[0] - height) / 2), round((covering[1] - width) / 2)
    expected = resized[top : top + height, left : left + width]
    ours = to_frames(resize_crop(picture[None], height, width, "bicubic"))[0]
    assert worst(ours, expected) <= 1


def test_resize_crop_of_a_video_covers_and_cuts_the_centre() -> None:
    frames = np.zeros((2, 20, 60, 3), np.uint8)
    frames[:, :, 20:40] = 200
    cut = resize_crop(frames, 10, 10, "bilinear")
    assert cut.shape == (3, 2, 10, 10)
    assert torch.allclose(cut, torch.tensor(200 / 127.5 - 1), atol=1e-5)


def test_resize_crop_at_the_same_size_changes_nothing() -> None:
    frames = gradient(3, 24, 40)
    for resample in ("bicubic", "bilinear"):
        assert np.array_equal(to_frames(resize_crop(frames, 24, 40, resample)), frames)  # type: ignore[arg-type]
