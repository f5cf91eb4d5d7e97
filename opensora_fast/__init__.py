"""opensora-fast: fast, faithful implementations of the Open-Sora video generation systems.

Importing this package loads no room and no torch: public names are resolved on first use (PEP 562).
"""

from __future__ import annotations

import importlib
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_PUBLIC = {
    "VideoPipeline": "opensora_fast.pipeline",
    "VideoPipelineOutput": "opensora_fast.pipeline_output",
}

__all__ = ["VideoPipeline", "VideoPipelineOutput", "__version__"]

if TYPE_CHECKING:
    from opensora_fast.pipeline import VideoPipeline
    from opensora_fast.pipeline_output import VideoPipelineOutput


def _find_rooms() -> None:
    """A wheel holds the rooms inside this folder; a checkout holds them beside it."""
    if (Path(__file__).parent / "kernels").is_dir():
        return
    root = Path(__file__).parent.parent
    __path__.append(str(root))
    # transformers probes for a package named "kernels" (an optional dependency of its own). With
    # the checkout on sys.path it would find our room under a wrong name: that name is closed.
    if "kernels" not in sys.modules:
        spec = find_spec("kernels")
        if spec is not None and spec.origin == str(root / "kernels" / "__init__.py"):
            sys.modules["kernels"] = None  # type: ignore[assignment]


_find_rooms()


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'opensora_fast' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
