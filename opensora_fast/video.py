"""Reading and writing video and image files as uint8 frames `[T, H, W, 3]`.

Axes: T frames, H height, W width. PyAV (FFmpeg) does the coding; it is imported on first use.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from opensora_fast.kernels.atomic import replacing
from opensora_fast.output_path import check_output

if TYPE_CHECKING:
    import torch

Frames = npt.NDArray[np.uint8]

# Time in seconds (None: not known), duration in seconds (0: not known), pixels.
_Timed = tuple[Fraction | None, Fraction, npt.NDArray[np.uint8]]

VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")

# The original writes crf 23. 18 costs about twice the bytes and keeps what H.264 loses below what
# the video autoencoder loses, also at the small sizes where 23 visibly smears colours.
CRF = 18

# H.264 with 4:2:0 chroma holds even sizes only. An odd side gets one replicated line, and the true
# size is kept in the file's comment, so that `read_video` returns exactly what was written.
_SIZE_COMMENT = "opensora-fast size="
_MAX_SIDE = 16384
_BT709 = 1
_DEFAULT_FPS = Fraction(24)


@dataclass(frozen=True, slots=True)
class Video:
    """Frames `[T, H, W, 3]` uint8 (RGB) at a constant rate in frames per second."""

    frames: Frames
    fps: float


def _av() -> Any:
    try:
        import av
    except ImportError:
        raise ImportError(
            "reading and writing video needs PyAV, which is not installed: pip install av"
        ) from None
    # Errors arrive as exceptions; FFmpeg's own lines on stderr would double them.
    av.logging.set_level(None)
    return av


def read_video(path: str | Path, fps: float | None = None, max_frames: int | None = None) -> Video:
    """Read a video (or an image, as one frame) as it is meant to be shown.

    Rotation and mirroring by the display matrix are applied, non-square pixels are stretched in
    width, transparency is laid over white, a rate that varies is made constant by holding frames.

    Args:
        path: any file that FFmpeg can decode.
        fps: frames per second to resample to; default: the file's average rate.
        max_frames: stop after this many frames; default: all.

    Returns:
        The frames, uint8, and their rate.

    Numerics:
        With the file's own constant rate every frame is returned once, unchanged. Otherwise frame
        j is shown from round(t_j * fps) until the next one begins: duration is kept, not motion.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not a video, has no frame, or is damaged or truncated.
    """
    if fps is not None and not 0 < fps <= 1000:
        raise ValueError(f"fps must be above 0 and at most 1000, got {fps}")
    path = _existing_file(path)
    av = _av()
    frames: list[Frames] = []
    try:
        with av.open(str(path), metadata_errors="ignore") as container:
            stream = _video_stream(container, path)
            rate = _rate(stream) if fps is None else Fraction(fps).limit_denominator(100_000)
            size = _recorded_size(container)
            length = stream.duration and stream.duration * Fraction(stream.time_base)
            for frame in _at_constant_rate(_decode(container, stream, path), rate, length):
                frames.append(frame)
                if max_frames is not None and len(frames) >= max_frames:
                    break
    except (av.FFmpegError, EOFError) as error:
        raise _unreadable(path, error) from None
    if not frames:
        raise ValueError(f"cannot read {path}: it holds no video frame (empty or truncated?)")
    video = np.stack(frames)
    if size is not None:
        height, width = size
        # Only the padding of an odd size is cut; a re-encoded copy may carry an old comment.
        if (height + height % 2, width + width % 2) == video.shape[1:3]:
            video = video[:, :height, :width]
    return Video(np.ascontiguousarray(video), float(rate))


def read_image(path: str | Path) -> Frames:
    """Read a picture `[H, W, 3]` uint8; of a video, its first frame. See `read_video`."""
    frame: Frames = read_video(path, max_frames=1).frames[0]
    return frame


def write_video(path: str | Path, frames: Frames, fps: float, crf: int = CRF) -> Path:
    """Write frames as H.264 (yuv420p, BT.709), playable everywhere; whole or not at all.

    Args:
        path: ends in .mp4, .mov or .mkv; missing folders are made.
        frames: `[T, H, W, 3]` uint8, RGB. An odd H or W is padded by one replicated line in the
            file, which `read_video` removes again (other players show it).
        fps: frames per second.
        crf: x264's constant rate factor, 0 (best) to 51; default 18, see `CRF`.

    Returns:
        The path.

    Raises:
        ValueError: wrong extension, shape, dtype, rate or crf.
        OSError: the folder cannot be written.
    """
    path = check_output(path, VIDEO_SUFFIXES)
    frames = _checked(frames)
    if not (math.isfinite(fps) and 0 < fps <= 1000):
        raise ValueError(f"fps must be above 0 and at most 1000, got {fps}")
    if not 0 <= crf <= 51:
        raise ValueError(f"crf must be from 0 (best) to 51 (smallest), got {crf}")
    height, width = frames.shape[1:3]
    if height > _MAX_SIDE or width > _MAX_SIDE:
        raise ValueError(f"H.264 holds at most {_MAX_SIDE} pixels a side, got {width}x{height}")
    padded = np.pad(frames, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    with replacing(path) as temporary:
        _encode(temporary, padded, fps, crf, comment=f"{_SIZE_COMMENT}{width}x{height}")
    return path


def write_image(path: str | Path, frame: Frames) -> Path:
    """Write a picture `[H, W, 3]` uint8 as .png (exact) or .jpg; whole or not at all."""
    path = check_output(path, IMAGE_SUFFIXES)
    pixels = _checked(frame[None])[0]
    av = _av()
    is_png = path.suffix.lower() == ".png"
    codec = av.CodecContext.create("png" if is_png else "mjpeg", "w")
    codec.height, codec.width = pixels.shape[:2]
    codec.pix_fmt = "rgb24" if is_png else "yuvj444p"
    codec.time_base = Fraction(1)
    if not is_png:
        codec.qmin, codec.qmax = 1, 2  # the finest of mjpeg's 31 steps
    picture = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=codec.pix_fmt)
    with replacing(path) as temporary:
        temporary.write_bytes(b"".join(bytes(p) for p in [*codec.encode(picture), *codec.encode()]))
    return path


def resize_crop(
    frames: Frames, height: int, width: int, resample: Literal["bicubic", "bilinear"]
) -> torch.Tensor:
    """Scale frames until they cover `height` x `width`, then cut out the centre.

    Args:
        frames: `[T, H, W, 3]` uint8.
        height: of the result, pixels.
        width: of the result, pixels.
        resample: "bicubic" (antialiased, rounded to whole levels: for images) or "bilinear" (not
            antialiased, not rounded: for video).

    Returns:
        `[3, T, height, width]` fp32 in [-1, 1].

    Numerics:
        "bicubic" agrees with Pillow's to within one level in 255; "bilinear" is computed in fp32.

    Source:
        The original's reference loader (`resize_crop`).
    """
    import torch

    x = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)
    # Bicubic stays in uint8, as Pillow does: rounded and clamped between the two passes.
    x = x if resample == "bicubic" else x.float()
    scale = max(height / x.shape[2], width / x.shape[3])
    covering = (max(height, round(x.shape[2] * scale)), max(width, round(x.shape[3] * scale)))
    if covering != tuple(x.shape[2:]):
        x = torch.nn.functional.interpolate(
            x, size=covering, mode=resample, align_corners=False, antialias=resample == "bicubic"
        )
    top, left = round((covering[0] - height) / 2), round((covering[1] - width) / 2)
    x = x[:, :, top : top + height, left : left + width]
    return (x.permute(1, 0, 2, 3).float() / 127.5 - 1).contiguous()


def over_white(rgba: Frames) -> Frames:
    """Lay pixels `[..., 4]` uint8 with straight alpha over white: `[..., 3]` uint8, rounded."""
    wide = rgba.astype(np.uint32)
    alpha = wide[..., 3:]
    return ((wide[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def to_frames(pixels: torch.Tensor) -> Frames:
    """Turn pixels `[3, T, H, W]` in [-1, 1] (clamped) into frames `[T, H, W, 3]` uint8, rounded."""
    levels = pixels.detach().float().clamp(-1, 1).add(1).mul(127.5).add(0.5)
    frames: Frames = levels.byte().permute(1, 2, 3, 0).contiguous().cpu().numpy()
    return frames


def _existing_file(path: str | Path) -> Path:
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"cannot read {path}: it is a folder, a video or image file is expected")
    if not path.exists():
        raise FileNotFoundError(f"cannot read {path}: there is no such file")
    return path


def _unreadable(path: Path, error: Exception) -> Exception:
    if isinstance(error, PermissionError):
        return PermissionError(f"cannot read {path}: permission denied")
    if path.stat().st_size == 0:
        return ValueError(f"cannot read {path}: the file is empty")
    return ValueError(f"cannot read {path}: it is not a video or image file, or it is damaged")


def _video_stream(container: Any, path: Path) -> Any:
    # FFmpeg would draw a text file as terminal art.
    if not container.streams.video or container.format.name == "tty":
        raise ValueError(f"cannot read {path}: it holds no video, or it is truncated")
    stream = container.streams.video[0]
    if stream.codec_context is None:
        raise ValueError(f"cannot read {path}: its video codec is not known")
    # A cut-off file decodes up to the cut without an error, so its declared end is compared first.
    entries = stream.index_entries
    end = max((entry.pos + entry.size for entry in entries), default=0) if entries else 0
    end = max(end, _end_of_matroska(path) if "matroska" in container.format.name else 0)
    if end > path.stat().st_size:
        raise ValueError(
            f"cannot read {path}: it is truncated ({path.stat().st_size} of at least {end} bytes)"
        )
    stream.thread_type = "AUTO"
    return stream


def _end_of_matroska(path: Path) -> int:
    """Where the segment of an mkv or webm file ends, as its header says; 0 if it does not say."""
    with path.open("rb") as file:
        head = file.read(4096)
    at = head.find(b"\x18\x53\x80\x67") + 4
    if at < 4 or at >= len(head) or head[at] == 0:
        return 0
    # The number of leading zero bits of the first byte is the number of bytes that follow it.
    length = 9 - head[at].bit_length()
    bits = 7 * length
    size = int.from_bytes(head[at : at + length], "big") & ((1 << bits) - 1)
    is_known = size != (1 << bits) - 1
    return at + length + size if is_known else 0


def _rate(stream: Any) -> Fraction:
    rate = stream.average_rate or stream.guessed_rate or _DEFAULT_FPS
    return Fraction(rate) if 0 < rate <= 1000 else _DEFAULT_FPS


def _recorded_size(container: Any) -> tuple[int, int] | None:
    """(height, width) that `write_video` recorded, if it wrote this file."""
    metadata = {key.lower(): value for key, value in container.metadata.items()}
    width, x, height = metadata.get("comment", "").removeprefix(_SIZE_COMMENT).partition("x")
    return (int(height), int(width)) if x and width.isdecimal() and height.isdecimal() else None


def _decode(container: Any, stream: Any, path: Path) -> Iterator[_Timed]:
    """Yield every frame, upright."""
    first = None
    for packet in container.demux(stream):
        if packet.is_corrupt:
            raise ValueError(f"cannot read {path}: it is damaged or truncated")
        for frame in packet.decode():
            first = first or frame
            time = None if frame.pts is None else frame.pts * Fraction(frame.time_base)
            duration = (frame.duration or 0) * Fraction(frame.time_base or 0)
            yield time, duration, _upright(_rgb(frame, first, stream.sample_aspect_ratio), frame)


def _rgb(frame: Any, first: Any, pixel_aspect: Fraction | None) -> Frames:
    """RGB pixels at the size of the first frame, with square pixels, transparency over white."""
    width = max(1, round(first.width * (pixel_aspect or 1)))
    size = {"width": width, "height": first.height}
    has_alpha = frame.format.name == "pal8" or any(c.is_alpha for c in frame.format.components)
    if not has_alpha:
        pixels: Frames = frame.to_ndarray(format="rgb24", **size)
        return pixels
    return over_white(frame.to_ndarray(format="rgba", **size))


def _upright(pixels: Frames, frame: Any) -> Frames:
    """Apply the display matrix where it is a multiple of 90 degrees, possibly mirrored."""
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return pixels
    # x' = a x + c y and y' = b x + d y, y pointing down; stored as a b u c d v x y w.
    a, b, _, c, d = np.frombuffer(bytes(matrix), dtype=np.int32)[:5]
    if abs(a) + abs(d) >= abs(b) + abs(c):
        flip_y, flip_x = d < 0, a < 0
    else:
        pixels = pixels.transpose(1, 0, 2)
        flip_y, flip_x = b < 0, c < 0
    return pixels[:: -1 if flip_y else 1, :: -1 if flip_x else 1]


def _at_constant_rate(
    decoded: Iterator[_Timed], rate: Fraction, length: Fraction | None
) -> Iterator[Frames]:
    """Hold or drop frames: frame j fills the slots from round(t_j rate) to round(t_j+1 rate)."""
    start: Fraction | None = None
    shown: Frames | None = None
    end = Fraction(0)
    slot = 0  # the next slot to fill
    for stamp, duration, pixels in decoded:
        start = stamp if start is None else start
        time = end if stamp is None or start is None else stamp - start
        if shown is not None:
            for _ in range(slot, _nearest(time * rate)):
                yield shown
            slot = max(slot, _nearest(time * rate))
        shown, end = pixels, time + (duration or 1 / rate)
    # What decoders report for the last frame may reach past the end of the stream.
    end = end if length is None else min(end, length)
    if shown is not None:
        for _ in range(slot, max(_nearest(end * rate), 1)):
            yield shown


def _nearest(x: Fraction) -> int:
    """Round half up: round() would round halves to even and halve a rate unevenly."""
    return math.floor(x + Fraction(1, 2))


def _checked(frames: Frames) -> Frames:
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3 or 0 in frames.shape:
        raise ValueError(
            "frames must be uint8 [T, H, W, 3] with no empty axis, "
            f"got {frames.dtype} {list(frames.shape)}"
        )
    return np.ascontiguousarray(frames)


def _encode(path: Path, frames: Frames, fps: float, crf: int, comment: str) -> None:
    av = _av()
    try:
        av.Codec("libx264", "w")
    except av.codec.codec.UnknownCodecError:
        raise ImportError(
            "this PyAV was built without libx264: pip install --force-reinstall av"
        ) from None
    options = {"movflags": "faststart"} if path.suffix.lower() != ".mkv" else {}
    with av.open(str(path), "w", options=options) as container:
        container.metadata["comment"] = comment
        rate = Fraction(fps).limit_denominator(1001)
        stream = container.add_stream("libx264", rate=rate, options={"crf": str(crf)})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        for pixels in frames:
            rgb = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame = rgb.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
