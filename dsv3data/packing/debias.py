"""Splitting tokens of punctuation and line breaks, so that prompts may end between the two.

Which ids are splittable, and why, is in `dsv3data.encoding.debias` [arXiv 2412.19437 §4.1]. Here a
keyed share of their occurrences is replaced by (head, tail): the decoded bytes stay the same, each
split adds one id. Occurrences are numbered inside their document, so that a split depends on the
document alone, not on the context length or on where it is packed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from dsv3data.contracts.keys import counted_u64, keyed_state, uniform_unit
from dsv3data.packing.lookup import marked_places

Ids = NDArray[np.int32]


@dataclass(frozen=True, kw_only=True)
class SplitTable:
    """For each id its two halves, int32 [vocabulary]; -1 where it is not splittable."""

    head: Ids
    tail: Ids
    splittable: NDArray[np.bool_]


def split_table(ids: Ids, heads: Ids, tails: Ids, *, vocab_size: int) -> SplitTable:
    """Tables by id of the rows (id, head, tail)."""
    head = np.full(vocab_size, -1, dtype=np.int32)
    tail = head.copy()
    head[ids], tail[ids] = heads, tails
    return SplitTable(head=head, tail=tail, splittable=head >= 0)


@dataclass(frozen=True, kw_only=True)
class Debiased:
    """Documents after splitting, and how their places correspond to those before.

    Attributes:
        values: ids of all documents one after the other, int32.
        offsets: int64 [N + 1]; document i is values[offsets[i] : offsets[i + 1]].
        split: places in the ids before that were split, ascending, int64 [S].
        n_splittable: occurrences that could have been.
    """

    values: Ids
    offsets: NDArray[np.int64]
    split: NDArray[np.int64]
    n_splittable: int

    @cached_property
    def tails(self) -> NDArray[np.int64]:
        """Places of the tails in `values`, ascending, int64 [S]."""
        return self.split + np.arange(1, len(self.split) + 1)

    def tails_between(self, start: int, stop: int) -> NDArray[np.int64]:
        """The tails in values[start:stop]."""
        low, high = self.tails.searchsorted((start, stop))
        found: NDArray[np.int64] = self.tails[low:high]
        return found

    def after(self, borders: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where borders between ids before are now."""
        moved: NDArray[np.int64] = borders + np.searchsorted(self.split, borders)
        return moved

    def before(self, borders: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where borders between ids now were before; none may be between a head and its tail."""
        moved: NDArray[np.int64] = borders - np.searchsorted(self.tails, borders)
        return moved


def debias(
    values: Ids,
    offsets: NDArray[np.int64],
    words: NDArray[np.uint64],
    table: SplitTable,
    *,
    rate: float,
    seed: int,
    purpose: str = "debias",
    first: NDArray[np.uint64] | int = 0,
) -> Debiased:
    """Split each occurrence of a splittable id with probability `rate`.

    Args:
        values, offsets: ids of N documents.
        words: their keys, uint64 [N, 2].
        first: counter of each document's first occurrence, one number or uint64 [N].

    Cost: one table look-up an id, and one more copy of the ids where any is split.
    `reference.naive_debias` is the slow twin.
    """
    places = marked_places(values, table.splittable)
    split = places[:0]
    if rate:
        split = _drawn(places, offsets, words, rate, seed, purpose, first)
    if not len(split):
        return Debiased(values=values, offsets=offsets, split=split, n_splittable=len(places))
    whole = values[split]
    apart = np.insert(values, split + 1, table.tail[whole])
    apart[split + np.arange(len(split))] = table.head[whole]
    moved = offsets + np.searchsorted(split, offsets)
    return Debiased(values=apart, offsets=moved, split=split, n_splittable=len(places))


def _drawn(
    places: NDArray[np.int64],
    offsets: NDArray[np.int64],
    words: NDArray[np.uint64],
    rate: float,
    seed: int,
    purpose: str,
    first: NDArray[np.uint64] | int,
) -> NDArray[np.int64]:
    """The places that are split, int64 [S]."""
    firsts = np.searchsorted(places, offsets)
    each = np.diff(firsts)
    document = np.repeat(np.arange(len(each)), each)
    number = np.arange(len(places)) - firsts[document]
    starts = np.broadcast_to(np.asarray(first, dtype=np.uint64), len(words))
    counter = starts[document] + number.astype(np.uint64)
    state = keyed_state(words, seed=seed, purpose=purpose)
    drawn = counted_u64(state[document], counter)
    split: NDArray[np.int64] = places[uniform_unit(drawn) < rate]
    return split
