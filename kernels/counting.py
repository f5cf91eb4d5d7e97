"""Operations of a network or of a call, counted from the definitions, without computing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from .registry import NAMESPACE, OPS

_by_signature: dict[Any, int] = {}


class _References(TorchDispatchMode):
    """Replaces our operators by their references, whose matrix products can be counted."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        namespace, _, rest = func.name().partition("::")
        if namespace != NAMESPACE:
            return func(*args, **(kwargs or {}))
        return OPS[rest.partition(".")[0]].reference(*args)


class OfOperators(TorchDispatchMode):
    """Hands every operator that does work to `run`, composite ones as what they are made of."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func.namespace != NAMESPACE:
            with self:
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        # A view and a question about a tensor do no work.
        if func.is_view or func.namespace == "prim":
            return func(*args, **kwargs)
        return self.run(func, args, kwargs)

    def run(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """Call the operator; for what watches, to do more."""
        return func(*args, **kwargs)


class _Counter(OfOperators):
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def run(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        out = func(*args, **kwargs)
        self.total += flops_of_call(func, args, kwargs, out)
        return out


def count_flops(run: Callable[[], Any]) -> int:
    """Count multiplications and additions of matrix products and convolutions.

    Args:
        run: calls a network on tensors of the meta device.

    Returns:
        Operations of the direct algorithms.
    """
    counter = _Counter()
    with torch.no_grad(), counter:
        run()
    return counter.total


def flops_of_call(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> int:
    """Count the multiplications and additions of one operator call, as `count_flops` does.

    Args:
        func: an operator of ours or of torch.
        args: its arguments.
        kwargs: its named arguments.
        out: its result.

    Returns:
        Operations of the direct algorithm; 0 for what multiplies no matrices.
    """
    if func.namespace != NAMESPACE:
        count = flop_registry.get(func._overloadpacket)
        return int(count(*args, **kwargs, out_val=out)) if count is not None else 0
    op = OPS[func.name().partition("::")[2].partition(".")[0]]
    shapes = tuple(
        (tuple(arg.shape), arg.dtype) if isinstance(arg, Tensor) else repr(arg) for arg in args
    )
    if (op.name, shapes) not in _by_signature:
        meta = tree_map(_on_meta, list(args))
        counter = FlopCounterMode(display=False)
        with torch.no_grad(), counter, _References():  # type: ignore[no-untyped-call]
            op.reference(*meta)
        _by_signature[op.name, shapes] = int(counter.get_total_flops())
    return _by_signature[op.name, shapes]


def _on_meta(arg: Any) -> Any:
    return torch.empty_like(arg, device="meta") if isinstance(arg, Tensor) else arg
