"""How much memory a computation holds at its peak, found on the meta device without computing."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def peak_bytes(run: Callable[[], Any]) -> int:
    """Find the most bytes that tensors made inside hold at one time.

    Every tensor is charged from the call that makes it until the last reference to its memory is
    gone, as a caching allocator would. What an operator needs inside itself (packed weights, a
    padded copy) is not seen.

    Args:
        run: calls a network on tensors of the meta device; its own result is charged too.

    Returns:
        Bytes.
    """
    ledger = _Ledger()
    with torch.inference_mode(), ledger:
        result = run()
    del result
    return ledger.peak


class _Ledger(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = self._held = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        given = {
            x.untyped_storage()._cdata for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)
        }
        for x in tree_leaves(out):
            if isinstance(x, Tensor):
                self._charge(x, given)
        return out

    def _charge(self, tensor: Tensor, given: set[int]) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._known or key in given:
            return
        size = storage.nbytes()
        self._known.add(key)
        self._held += size
        self.peak = max(self.peak, self._held)
        weakref.finalize(storage, self._release, key, size)

    def _release(self, key: int, size: int) -> None:
        self._known.discard(key)
        self._held -= size
