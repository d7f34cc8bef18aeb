"""Writing pieces into rows of exactly L ids.

R rows, L ids a row, N pieces.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsv3data.packing.order import Arrangement


@dataclass(frozen=True, kw_only=True)
class PieceIds:
    """Where the ids of pieces are.

    Attributes:
        values: arrays of ids, int32.
        source: which of the arrays a piece is in, int64 [N].
        start: its first id there, int64 [N].
        length: ids of each piece in its row, int64 [N].
        eos: whether the last of them is an end-of-sentence that is not there, bool [N].
    """

    values: tuple[NDArray[np.int32], ...]
    source: NDArray[np.int64]
    start: NDArray[np.int64]
    length: NDArray[np.int64]
    eos: NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Finished rows.

    Attributes:
        input_ids: int32 [R, L], padded at the end with the pad id.
        n_tokens: ids before the padding, int32 [R].
        piece_lengths: lengths of all pieces, row after row, int32 [N].
        piece_offsets: int64 [R + 1]; row r holds piece_lengths[offsets[r] : offsets[r + 1]].
    """

    input_ids: NDArray[np.int32]
    n_tokens: NDArray[np.int32]
    piece_lengths: NDArray[np.int32]
    piece_offsets: NDArray[np.int64]


def build_rows(
    pieces: PieceIds,
    arrangement: Arrangement,
    *,
    context: int,
    pad_id: int,
    eos_id: int,
    start: int = 0,
    stop: int | None = None,
) -> Rows:
    """Rows start..stop of an arrangement of pieces.

    Cost: one slice copied for each piece, 0.3 µs and the copy; memory beyond input and output is a
    few words a piece.
    `reference.naive_rows` is the slow twin.

    Raises:
        ValueError: a row's pieces exceed `context`.
    """
    stop = arrangement.n_rows if stop is None else stop
    row_offsets = arrangement.offsets[start : stop + 1] - arrangement.offsets[start]
    chosen = arrangement.pieces[arrangement.offsets[start] : arrangement.offsets[stop]]
    lengths = pieces.length[chosen]
    ends = np.concatenate([[0], np.cumsum(lengths)])
    n_tokens = np.diff(ends[row_offsets])
    if len(n_tokens) and n_tokens.max() > context:
        raise ValueError(f"a row of {context} ids was given pieces of {n_tokens.max()} ids")
    input_ids = np.empty((stop - start, context), dtype=np.int32)
    flat = input_ids.reshape(-1)
    # Where each piece goes: after the ids of all earlier pieces and the padding of earlier rows.
    row_of = np.repeat(np.arange(stop - start), np.diff(row_offsets))
    target = ends[:-1] + (row_of * context - ends[row_offsets[row_of]])
    eos = pieces.eos[chosen]
    columns = (target, pieces.source[chosen], pieces.start[chosen], lengths - eos)
    for here, source, there, count in zip(*(column.tolist() for column in columns), strict=True):
        flat[here : here + count] = pieces.values[source][there : there + count]
    flat[(target + lengths - 1)[eos]] = eos_id
    for row, used in enumerate(n_tokens.tolist()):
        if used < context:
            input_ids[row, used:] = pad_id
    return Rows(
        input_ids=input_ids,
        n_tokens=n_tokens.astype(np.int32),
        piece_lengths=lengths.astype(np.int32),
        piece_offsets=row_offsets,
    )
