"""These files run only where Triton interprets its kernels: see test_triton_interpreter.py."""

from __future__ import annotations

import os

collect_ignore_glob = [] if os.environ.get("TRITON_INTERPRET") == "1" else ["test_*.py"]
