"""Slow twins of the fast paths: one piece at a time, written to be obviously right."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from dsv3data.contracts.keys import keyed_u64_scalar


def naive_assign(
    lengths: Sequence[int], capacity: int, order: Sequence[int] | None = None
) -> list[int]:
    """Best-fit-decreasing, piece by piece: bin of each piece. Twin of `best_fit.assign`, O(N²)."""
    words = order if order is not None else [0] * len(lengths)
    sequence = sorted(range(len(lengths)), key=lambda i: (-lengths[i], words[i], i))
    room: list[int] = []
    since: list[int] = []  # when the bin came to have this room
    bin_of = [-1] * len(lengths)
    for time, piece in enumerate(sequence):
        fitting = [b for b in range(len(room)) if room[b] >= lengths[piece]]
        if fitting:
            best = min(fitting, key=lambda b: (room[b], since[b]))
        else:
            best = len(room)
            room.append(capacity)
            since.append(time)
        room[best] -= lengths[piece]
        since[best] = time
        bin_of[piece] = best
    return bin_of


def naive_cut(
    n_tokens: int, context: int, tails: Collection[int] = ()
) -> list[tuple[int, int, bool]]:
    """(start, stop, has_eos) of each piece of one document. Twin of `cut.cut_documents`."""
    pieces = []
    start = 0
    while n_tokens - start + 1 > context:
        # A row full of tokens, unless that would leave the EOS alone in the last piece.
        stop = start + context if start + context < n_tokens else n_tokens - 1
        stop -= stop in tails
        pieces.append((start, stop, False))
        start = stop
    return [*pieces, (start, n_tokens, True)]


def naive_debias(
    ids: Sequence[int],
    key: bytes,
    halves: Mapping[int, tuple[int, int]],
    *,
    rate: float,
    seed: int,
    purpose: str = "debias",
    first: int = 0,
) -> list[int]:
    """One document, id by id. Twin of `debias.debias`; `halves`: id → (head, tail)."""
    made: list[int] = []
    counter = first
    for token in ids:
        if token not in halves:
            made.append(token)
            continue
        word = keyed_u64_scalar(key, seed=seed, purpose=purpose, counter=counter)
        counter += 1
        made.extend(halves[token] if (word >> 11) * 2.0**-53 < rate else (token,))
    return made


def naive_arrange(
    bins: Sequence[int], slots: Sequence[int], rows: Sequence[int]
) -> list[list[int]]:
    """Pieces of each row, in final order. Twin of `order.arrange`, given its keyed words."""
    members: dict[int, list[int]] = {}
    for piece in sorted(range(len(bins)), key=lambda i: slots[i]):
        members.setdefault(bins[piece], []).append(piece)
    return sorted(members.values(), key=lambda pieces: rows[pieces[0]])


def naive_rows(
    pieces: Sequence[NDArray[np.int32]], rows: Sequence[Sequence[int]], context: int, pad_id: int
) -> NDArray[np.int32]:
    """Rows of ids, int32 [R, L]; a piece here holds its EOS. Twin of `rows.build_rows`."""
    table = np.full((len(rows), context), pad_id, dtype=np.int32)
    for row, members in enumerate(rows):
        position = 0
        for piece in members:
            for token in pieces[piece]:
                table[row, position] = token
                position += 1
    return table
