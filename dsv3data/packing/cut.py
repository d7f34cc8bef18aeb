"""Cutting documents that do not fit a row, and only these.

A document of n tokens takes n + 1 ids with its end-of-document id (EOS). Up to L ids it is one
piece. Beyond, it becomes full rows of L tokens and a last piece that carries the EOS; where the
EOS would stand alone (n a multiple of L), the last piece takes one token from the piece before.

No cut separates the two halves of a token that was split (`packing.debias`): it moves to before
the first half, so that every piece is a run of whole tokens of the document.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_NO_TAILS = np.empty(0, dtype=np.int64)


@dataclass(frozen=True, kw_only=True)
class PieceTable:
    """Pieces in document order, then piece order.

    Attributes:
        document: index of the document, int64 [P].
        piece: number of the piece inside its document, from 0, int64 [P].
        start, stop: tokens of the document that it holds, int64 [P].
        has_eos: whether the EOS follows them, bool [P]; true for exactly one piece a document.
    """

    document: NDArray[np.int64]
    piece: NDArray[np.int64]
    start: NDArray[np.int64]
    stop: NDArray[np.int64]
    has_eos: NDArray[np.bool_]

    @property
    def length(self) -> NDArray[np.int64]:
        """Ids in each piece, EOS counted, int64 [P]: from 1 to L."""
        return self.stop - self.start + self.has_eos


def cut_documents(
    n_tokens: NDArray[np.integer],
    context: int,
    *,
    first: NDArray[np.int64] | None = None,
    tails: NDArray[np.int64] = _NO_TAILS,
) -> PieceTable:
    """Pieces of at most `context` ids from the token counts of documents, [N].

    Args:
        tails: ascending places at which no piece may begin.
        first: where each document begins in the numbering of `tails`, int64 [N].

    Ids are conserved: the lengths of a document's pieces add up to its n + 1. Cost: O(P).
    `reference.naive_cut` is the slow twin.
    """
    tokens = n_tokens.astype(np.int64)
    table = _cut_anywhere(tokens, context)
    if first is None or not len(tails):
        return table
    begins = first[table.document] + table.start
    astray = np.unique(table.document[(table.piece > 0) & _is_among(begins, tails)])
    if not len(astray):
        return table
    again = _cut_in_rounds(tokens[astray], first[astray], tails, context)
    kept = ~np.isin(table.document, astray)
    document = np.concatenate([table.document[kept], astray[again.document]])
    order = np.argsort(document, kind="stable")

    def merged(name: str) -> NDArray[np.int64]:
        parts = [getattr(table, name)[kept], getattr(again, name)]
        joined: NDArray[np.int64] = np.concatenate(parts)[order]
        return joined

    return PieceTable(
        document=document[order],
        piece=merged("piece"),
        start=merged("start"),
        stop=merged("stop"),
        has_eos=merged("has_eos").astype(np.bool_),
    )


def _cut_anywhere(tokens: NDArray[np.int64], context: int) -> PieceTable:
    pieces_of = np.maximum(-(-(tokens + 1) // context), 1)
    first = np.cumsum(pieces_of) - pieces_of
    document = np.repeat(np.arange(len(tokens)), pieces_of)
    piece = np.arange(len(document)) - first[document]
    has_eos = piece == pieces_of[document] - 1
    total = tokens[document]
    # A document of exactly k·L tokens gives its last piece one token, so that no EOS is alone.
    lent = ((total > 0) & (total % context == 0)).astype(np.int64)
    start = piece * context - (has_eos & (piece > 0)) * lent
    stop = np.where(has_eos, total, (piece + 1) * context)
    before_last = np.zeros(len(document), dtype=np.bool_)
    before_last[:-1] = has_eos[1:] & (piece[1:] > 0)
    stop -= before_last * lent
    return PieceTable(document=document, piece=piece, start=start, stop=stop, has_eos=has_eos)


def _cut_in_rounds(
    tokens: NDArray[np.int64],
    first: NDArray[np.int64],
    tails: NDArray[np.int64],
    context: int,
) -> PieceTable:
    """The next piece of every document in each round: a moved cut moves the ones after it."""
    document = np.arange(len(tokens))
    start = np.zeros(len(tokens), dtype=np.int64)
    rounds: list[NDArray[np.int64]] = []
    while len(document):
        total = tokens[document]
        last = total - start < context
        stop = np.where(start + context < total, start + context, total - 1)
        stop = np.where(last, total, stop - _is_among(first[document] + stop, tails))
        piece = np.full(len(document), len(rounds), dtype=np.int64)
        rounds.append(np.stack([document, piece, start, stop, last.astype(np.int64)]))
        document, start = document[~last], stop[~last]
    made = np.concatenate(rounds, axis=1)
    made = made[:, np.argsort(made[0], kind="stable")]
    return PieceTable(
        document=made[0],
        piece=made[1],
        start=made[2],
        stop=made[3],
        has_eos=made[4].astype(np.bool_),
    )


def _is_among(values: NDArray[np.int64], ascending: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which values are in an ascending, non-empty array, bool [N]."""
    at = np.minimum(np.searchsorted(ascending, values), len(ascending) - 1)
    found: NDArray[np.bool_] = ascending[at] == values
    return found
