"""Where documents begin in rows: for models that shall not look, or count, across documents.

DeepSeek-V3 trains without a mask between documents; these are for those who want one. Padding is a
document of its own, the last of its row, in whole rows as in parts.

n rows, L ids a row.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def document_numbers(piece_lengths: Sequence[NDArray[np.int32]], context: int) -> NDArray[np.int32]:
    """Which piece of its row each id belongs to, int32 [n, L]; padding comes after the last piece.

    Two ids may see each other if their numbers are equal: `numbers[:, :, None] == numbers[:, None]`
    and the causal mask.
    """
    starts = _starts(piece_lengths, context)
    return np.cumsum(starts, axis=1, dtype=np.int32) - 1


def positions(piece_lengths: Sequence[NDArray[np.int32]], context: int) -> NDArray[np.int32]:
    """Place of each id in its piece, int32 [n, L]: positions that begin at 0 with each document."""
    places = np.arange(context, dtype=np.int32)
    starts = np.where(_starts(piece_lengths, context), places, 0)
    return places - np.maximum.accumulate(starts, axis=1).astype(np.int32)


def cumulative_lengths(
    piece_lengths: Sequence[NDArray[np.int32]], context: int
) -> NDArray[np.int32]:
    """Borders of all pieces of all rows laid end to end, padding included, int32 [P + 1].

    What variable-length attention kernels call `cu_seqlens`.
    """
    starts = np.flatnonzero(_starts(piece_lengths, context))
    return np.append(starts, len(piece_lengths) * context).astype(np.int32)


def _starts(piece_lengths: Sequence[NDArray[np.int32]], context: int) -> NDArray[np.bool_]:
    """Ids at which a piece, or the padding, begins, bool [n, L]."""
    starts = np.zeros((len(piece_lengths), context), dtype=np.bool_)
    starts[:, 0] = True
    for row, lengths in enumerate(piece_lengths):
        ends = np.cumsum(lengths)
        starts[row, ends[ends < context]] = True
    return starts
