"""The core of attention, and which positions see which: causal, or causal within documents.

DeepSeek-V3 packs documents into rows without a mask between them [§4.1]: that is the default here
too. With document numbers a row is attended, and its positions are counted, as if each of its
documents were read alone.

Legend: B rows, T tokens, H heads, q width of queries and keys, V width of values.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, TypeAlias, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from dsv3data.contracts.errors import BadConfig
from dsv3data.model.config import AttentionBackend

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

# bool [B, 1, T, T], true where a query (third axis) sees a key; None: causal, nothing else.
Mask: TypeAlias = "Tensor | BlockMask | None"


def attend(
    query_BTHq: Tensor,
    key_BTHq: Tensor,
    value_BTHV: Tensor,
    mask: Mask,
    *,
    scale: float,
    backend: AttentionBackend,
) -> Tensor:
    """softmax(scale · q·k) · v over what each position sees → [B, T, H, V].

    `mask` is what `mask_for` made for this back end. "math" writes the formula down and is the slow
    twin of the others; "sdpa" lets torch choose a kernel (on a GPU cuDNN's or its own), "flex"
    compiles one that passes over blocks between documents.
    """
    query, key, value = (x.transpose(1, 2) for x in (query_BTHq, key_BTHq, value_BTHV))
    if backend == "flex":
        mixed_BHTV = _by_flex(query, key, value, cast("BlockMask", mask), scale)
    elif backend == "math":
        mixed_BHTV = _by_formula(query, key, value, cast("Tensor | None", mask), scale)
    else:
        mixed_BHTV = F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=cast("Tensor | None", mask),
            is_causal=mask is None,
            scale=scale,
        )
    return mixed_BHTV.transpose(1, 2)


def mask_for(
    backend: AttentionBackend, documents_BT: Tensor | None, n_tokens: int, device: torch.device
) -> Mask:
    """What `attend` needs to know of who sees whom: made once for all layers of a model.

    Args:
        documents_BT: the number of each token's document in its row; None: no borders.
    """
    if backend == "flex":
        return _flex_mask(documents_BT, n_tokens, device)
    if documents_BT is None:
        return None
    same_BTT = documents_BT[:, :, None] == documents_BT[:, None, :]
    return same_BTT.tril()[:, None]


def places_in_documents(documents_BT: Tensor) -> Tensor:
    """How many tokens of its document stand before each token, int64 [B, T]."""
    places_T = torch.arange(documents_BT.shape[1], device=documents_BT.device)
    begins_BT = torch.ones_like(documents_BT, dtype=torch.bool)
    begins_BT[:, 1:] = documents_BT[:, 1:] != documents_BT[:, :-1]
    return places_T - torch.where(begins_BT, places_T, 0).cummax(dim=1).values


def _by_formula(
    query_BHTq: Tensor, key_BHTq: Tensor, value_BHTV: Tensor, mask: Tensor | None, scale: float
) -> Tensor:
    scores_BHTT = (query_BHTq @ key_BHTq.transpose(-1, -2)).float() * scale
    if mask is None:
        mask = torch.ones_like(scores_BHTT[0, 0], dtype=torch.bool).tril()
    weights_BHTT = scores_BHTT.masked_fill(~mask, float("-inf")).softmax(dim=-1)
    return weights_BHTT.to(value_BHTV.dtype) @ value_BHTV


def _by_flex(
    query_BHTq: Tensor, key_BHTq: Tensor, value_BHTV: Tensor, mask: BlockMask, scale: float
) -> Tensor:
    if not query_BHTq.is_cuda and query_BHTq.requires_grad:
        raise BadConfig(
            "flex attention has no gradient on a CPU",
            where="attention",
            effect="nothing was computed",
            fix="train with --set attention=sdpa, or on a GPU",
        )
    run = _flex_attention(compiled=query_BHTq.is_cuda)
    return run(query_BHTq, key_BHTq, value_BHTV, block_mask=mask, scale=scale)


@cache
def _flex_attention(*, compiled: bool) -> Callable[..., Tensor]:
    # Imported when asked for: it brings the compiler along.
    from torch.nn.attention.flex_attention import flex_attention

    run: Callable[..., Tensor] = flex_attention
    return torch.compile(run) if compiled else run


def _flex_mask(documents_BT: Tensor | None, n_tokens: int, device: torch.device) -> BlockMask:
    from torch.nn.attention.flex_attention import create_block_mask

    def sees(row: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        causal = query >= key
        if documents_BT is None:
            return causal
        return causal & (documents_BT[row, query] == documents_BT[row, key])

    rows = None if documents_BT is None else len(documents_BT)
    return create_block_mask(sees, rows, None, n_tokens, n_tokens, device=str(device))
