"""What the rows of joint_qk_norm_rope share: the streams among its arguments, and their results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Stream(NamedTuple):
    """The tokens ``start:stop`` of all, with the tables of these."""

    q: Tensor
    k: Tensor
    v: Tensor
    q_scale: Tensor
    k_scale: Tensor
    cos: Tensor
    sin: Tensor
    start: int
    stop: int

    def arguments(self, layout: str, eps: float) -> tuple[Any, ...]:
        """The arguments of qk_norm_rope."""
        return (self.q, self.k, self.q_scale, self.k_scale, self.cos, self.sin, layout, eps)


def streams_of(
    txt_q: Tensor,
    txt_k: Tensor,
    txt_v: Tensor,
    img_q: Tensor,
    img_k: Tensor,
    img_v: Tensor,
    txt_q_scale: Tensor,
    txt_k_scale: Tensor,
    img_q_scale: Tensor,
    img_k_scale: Tensor,
    cos: Tensor,
    sin: Tensor,
    *_: Any,
) -> tuple[Stream, Stream]:
    """Sort the op's arguments by stream: text, then image."""
    cut, length = txt_q.shape[1], cos.shape[-2]
    tables = [(cos[..., a:b, :], sin[..., a:b, :], a, b) for a, b in ((0, cut), (cut, length))]
    return (
        Stream(txt_q, txt_k, txt_v, txt_q_scale, txt_k_scale, *tables[0]),
        Stream(img_q, img_k, img_v, img_q_scale, img_k_scale, *tables[1]),
    )


def new_result(like: Tensor, length: int) -> Tensor:
    """An empty tensor for all tokens of q, of k or of v."""
    return like.new_empty((like.shape[0], length, *like.shape[2:]))


def side_by_side(write: Callable[..., None], *args: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Run ``write(*arguments of qk_norm_rope, q_out, k_out)`` for each stream, and join the values.

    Returns:
        q, k and v of all tokens.
    """
    streams, length = streams_of(*args), args[10].shape[-2]
    q, k = (new_result(x, length) for x in args[:2])
    for stream in streams:
        place = slice(stream.start, stream.stop)
        if stream.q.numel():
            write(*stream.arguments(*args[12:]), q[:, place], k[:, place])
    return q, k, torch.cat([stream.v for stream in streams], dim=1)


def why_not_either(why_not: Callable[..., str | None], *args: Any) -> str | None:
    """Say why qk_norm_rope's row cannot serve one of the streams, or return None."""
    for stream in streams_of(*args):
        reason = why_not(*stream.arguments(*args[12:]))
        if reason is not None:
            return reason
    return None
