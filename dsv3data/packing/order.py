"""Keyed order of pieces, rows and partitions: functions of what a piece is, not of where it came.

Best-fit-decreasing visits long pieces first; without a keyed order every row would start with its
longest piece and every shard with its longest documents.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsv3data.contracts.keys import keyed_u64
from dsv3data.packing.sorting import argsort_small, argsort_words


@dataclass(frozen=True, kw_only=True)
class Arrangement:
    """Which pieces stand in which row, and in which order.

    Attributes:
        pieces: piece indices, row after row, int64 [N].
        offsets: int64 [R + 1]; row r holds pieces[offsets[r] : offsets[r + 1]].
    """

    pieces: NDArray[np.int64]
    offsets: NDArray[np.int64]

    @property
    def n_rows(self) -> int:
        return len(self.offsets) - 1


def partition_count(total_tokens: int, partition_tokens: int) -> int:
    """How many partitions of at most about `partition_tokens` tokens, fixed by the data alone.

    A power of two: a few tokens more or less seldom change it, and with it every partition.
    """
    needed = -(-total_tokens // partition_tokens)
    return 1 << max(0, needed - 1).bit_length()


def partition_of(
    words: NDArray[np.uint64], n_partitions: NDArray[np.integer] | int, *, seed: int
) -> NDArray[np.int64]:
    """Partition of each document from its key, words uint64 [N, 2] → int64 [N].

    Args:
        n_partitions: of all documents together, or of each document's domain, [N].
    """
    uniform = keyed_u64(words, seed=seed, purpose="partition")
    sizes = np.asarray(n_partitions).astype(np.uint64)
    return (uniform % sizes).astype(np.int64)


def packing_words(
    words: NDArray[np.uint64], piece: NDArray[np.integer], *, seed: int
) -> NDArray[np.uint64]:
    """Tie-break among pieces of equal length while packing, uint64 [N]: `best_fit.assign`'s order.

    Args:
        words: key of each piece's document, uint64 [N, 2].
        piece: number of the piece inside its document, [N].
    """
    counter = piece.astype(np.uint64)
    return keyed_u64(words, seed=seed, purpose="pack-tie", counter=counter)


def arrange(
    bins: NDArray[np.int64], words: NDArray[np.uint64], piece: NDArray[np.integer], *, seed: int
) -> Arrangement:
    """Keyed order of pieces inside their rows and of the rows, from the bin of each piece.

    A row's place is drawn from its first piece, so that a row of many pieces is no likelier to
    come early than a row of one. Bins need not be numbered without gaps.
    Cost: three sorts, about 0.25 µs a piece. `reference.naive_arrange` is the slow twin.
    """
    counter = piece.astype(np.uint64)
    slots = keyed_u64(words, seed=seed, purpose="row-slot", counter=counter)
    by_bin = argsort_small(bins, int(bins.max(initial=0)), argsort_words(slots))
    in_order = bins[by_bin]
    starts = np.flatnonzero(np.diff(in_order, prepend=-1))
    counts = np.diff(starts, append=len(bins))
    first = by_bin[starts]
    places = keyed_u64(words[first], seed=seed, purpose="row-place", counter=counter[first])
    rows = argsort_words(places)
    offsets = np.concatenate([[0], np.cumsum(counts[rows])]).astype(np.int64)
    shift = np.repeat(starts[rows] - offsets[:-1], counts[rows])
    return Arrangement(pieces=by_bin[np.arange(len(bins)) + shift], offsets=offsets)
