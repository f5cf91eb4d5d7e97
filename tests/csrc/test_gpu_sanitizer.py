"""The script that compute-sanitizer watches: on a machine without a GPU it claims nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parent.parent / "gpu_sanitizer.py"


def test_without_a_gpu_it_says_that_nothing_was_checked() -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert "nothing was checked: torch sees no CUDA device" in done.stderr
