"""Operations of a network, counted from its definition without computing anything."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from opensora_fast.kernels.registry import NAMESPACE, OPS


class _References(TorchDispatchMode):
    """Replaces our operators by their references, whose matrix products can be counted."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        namespace, _, rest = func.name().partition("::")
        if namespace != NAMESPACE:
            return func(*args, **(kwargs or {}))
        return OPS[rest.partition(".")[0]].reference(*args)


def count_flops(run: Callable[[], Any]) -> int:
    """Count multiplications and additions of matrix products and convolutions.

    Args:
        run: calls a network on tensors of the meta device.

    Returns:
        Operations of the direct algorithms.
    """
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter, _References():  # type: ignore[no-untyped-call]
        run()
    return int(counter.get_total_flops())
