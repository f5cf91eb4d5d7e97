"""Contact sheets: where which pixel lands."""

import numpy as np
import pytest

from opensora_fast.bench.contact_sheet import GAP, PAPER, contact_sheet


def clip(value: int, num_frames: int = 5) -> np.ndarray:
    """Frame t is filled with value + t."""
    frames = np.arange(num_frames, dtype=np.uint8)[:, None, None, None] + np.uint8(value)
    return np.broadcast_to(frames, (num_frames, 3, 4, 3))


def test_frames_run_from_first_to_last_and_clips_from_top_to_bottom() -> None:
    sheet = contact_sheet([clip(10), clip(100)], columns=3, scale=2)
    assert sheet.shape == (2 * 6 + GAP, 3 * 8 + 2 * GAP, 3)
    assert [int(sheet[0, x, 0]) for x in (0, 8 + GAP, 16 + 2 * GAP)] == [10, 12, 14]
    assert [int(sheet[6 + GAP, x, 0]) for x in (0, 8 + GAP, 16 + 2 * GAP)] == [100, 102, 104]
    assert (sheet[6 : 6 + GAP] == PAPER).all()
    assert (sheet[:, 8 : 8 + GAP] == PAPER).all()


def test_a_pixel_becomes_a_square() -> None:
    frames = np.zeros((1, 2, 2, 3), np.uint8)
    frames[0, 1, 0] = 7
    sheet = contact_sheet([frames], columns=1, scale=3)
    assert (sheet[3:, :3] == 7).all()
    assert sheet.sum() == 7 * 27


@pytest.mark.parametrize("clips", [[], [clip(0), clip(0)[:, :2]]])
def test_nothing_to_lay_out_is_refused(clips: list[np.ndarray]) -> None:
    with pytest.raises(ValueError, match="at least one clip, and all of one size"):
        contact_sheet(clips)
