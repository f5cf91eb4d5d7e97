"""What the marker gpu skips, and one hypothesis profile for all tests."""

from __future__ import annotations

import hypothesis
import pytest
import torch

# Before transformers: it probes for a package named kernels, which must not find our room.
import opensora_fast  # noqa: F401

hypothesis.settings.register_profile(
    "opensora-fast",
    derandomize=True,
    deadline=None,
    max_examples=15,
    database=None,
    print_blob=False,
)
hypothesis.settings.load_profile("opensora-fast")


def pytest_configure(config: pytest.Config) -> None:
    """Run micro-benchmarks once, as tests, unless they were asked for (--benchmark-only)."""
    asked = any(config.getoption(f"benchmark_{name}", None) for name in ("only", "enable"))
    if config.pluginmanager.hasplugin("benchmark") and not asked:
        config.option.benchmark_disable = True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip GPU tests where there is no GPU."""
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="no CUDA device")
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(skip)
