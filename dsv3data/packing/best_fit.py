"""Exact best-fit-decreasing packing, planned on the histogram of lengths (arXiv 2404.10830).

Best-fit-decreasing takes pieces from the longest to the shortest and puts each into the open bin
with the smallest sufficient room. A bin that takes a piece has less room than before, so it is
still the best fit for the next piece of the same length, until it has taken q = room // size of
them. All bins with equal room behave alike: a whole class of them moves at once. The plan therefore
costs a number of transitions that depends on the distinct lengths, never on the document count.

Among bins with equal room, the one that has had this room longest is served first.
`reference.naive_assign` is the slow twin: one piece at a time, the same bin for every piece.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsv3data.packing.sorting import argsort_small, argsort_words

TRANSITION = np.dtype([("size", "<i8"), ("remaining", "<i8"), ("take", "<i8"), ("bins", "<i8")])


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How many bins of which room take how many pieces of which size.

    Attributes:
        capacity: ids in a bin, L.
        transitions: structured array [M] of TRANSITION in order of execution: `bins` bins, each
            with `remaining` ids of room (`capacity` means newly opened), take `take` pieces of
            `size` ids each.
        n_bins: bins opened.
        remaining: int64 [L + 1], bins left with each room at the end.
    """

    capacity: int
    transitions: NDArray[np.void]
    n_bins: int
    remaining: NDArray[np.int64]

    @property
    def padding_ids(self) -> int:
        """Ids of room left over all bins."""
        return int(self.remaining @ np.arange(self.capacity + 1))


def length_histogram(lengths: NDArray[np.integer], capacity: int) -> NDArray[np.int64]:
    """Pieces of each length, int64 [capacity + 1]; histograms of workers add up.

    Raises:
        ValueError: a length outside 1..capacity.
    """
    if len(lengths) and not (lengths.min() >= 1 and lengths.max() <= capacity):
        raise ValueError(
            f"piece lengths must be in 1..{capacity}, not {lengths.min()}..{lengths.max()}"
        )
    return np.bincount(lengths, minlength=capacity + 1).astype(np.int64, copy=False)


def plan(histogram: NDArray[np.int64], capacity: int) -> Plan:
    """Best-fit-decreasing over a histogram of lengths, int64 [capacity + 1].

    Cost: O(L) to read the histogram and O(1) for each transition, of which there are at most
    O(D·L) for D distinct lengths and 1-3 · D in practice (20 ms for 1e9 documents at L = 4096).
    """
    transitions: list[tuple[int, int, int, int]] = []
    count: defaultdict[int, int] = defaultdict(int)  # room → open bins
    rooms = _RoomSet(capacity)  # the rooms with a count above zero
    n_bins = 0

    def move(size: int, room: int, take: int, bins: int) -> None:
        transitions.append((size, room, take, bins))
        left = room - take * size
        count[left] += bins
        rooms.add(left)

    for size in np.flatnonzero(histogram)[::-1].tolist():
        pieces = int(histogram[size])
        while pieces:
            room = rooms.next_from(size)
            if room < 0:
                room, available = capacity, pieces  # as many new bins as wanted
            else:
                available = count[room]
            each = room // size
            full = min(available, pieces // each)
            rest = pieces % each if full < available else 0
            if room < capacity:
                count[room] -= full + (rest > 0)
                if not count[room]:
                    rooms.remove(room)
            else:
                n_bins += full + (rest > 0)
            if full:
                move(size, room, each, full)
            if rest:
                move(size, room, rest, 1)
            pieces -= full * each + rest
    remaining = np.zeros(capacity + 1, dtype=np.int64)
    for room, bins in count.items():
        remaining[room] = bins
    return Plan(
        capacity=capacity,
        transitions=np.array(transitions, dtype=TRANSITION),
        n_bins=n_bins,
        remaining=remaining,
    )


def assign(
    lengths: NDArray[np.integer], capacity: int, order: NDArray[np.uint64] | None = None
) -> NDArray[np.int64]:
    """Bin of each piece, int64 [N]: bins are numbered in the order in which they are opened.

    Args:
        lengths: ids in each piece, 1..capacity, [N].
        order: keyed word of each piece, uint64 [N]: among pieces of equal length the smaller word
            is placed first. Without it, and between equal words, the earlier position is first.

    Cost: two sorts and a slice copied twice for each transition, 6-10 M pieces/s.
    """
    replay = plan(length_histogram(lengths, capacity), capacity)
    sequence = decreasing(lengths, capacity, order)
    bin_of = np.empty(len(lengths), dtype=np.int64)
    bin_of[sequence] = _bins_in_sequence(replay, len(lengths))
    return bin_of


def _bins_in_sequence(replay: Plan, n_pieces: int) -> NDArray[np.int64]:
    """Bin of each piece from the longest to the shortest, int64 [N].

    Bins wait in a queue for each room. How many enter which is known, so that all queues lie in one
    array, and the bins of a transition one after the other in each.
    """
    moves = replay.transitions
    left = moves["remaining"] - moves["take"] * moves["size"]
    entering = np.zeros(replay.capacity + 1, dtype=np.int64)
    np.add.at(entering, left, moves["bins"])
    entering[replay.capacity] = replay.n_bins
    ends = np.cumsum(entering)
    first = (ends - entering).tolist()
    last = first.copy()
    queues = np.empty(int(ends[-1]), dtype=np.int64)
    queues[first[replay.capacity] :] = np.arange(replay.n_bins)
    bin_of = np.empty(n_pieces, dtype=np.int64)
    placed = 0
    for (_, room, take, bins), to in zip(moves.tolist(), left.tolist(), strict=True):
        served = queues[first[room] : first[room] + bins]
        first[room] += bins
        queues[last[to] : last[to] + bins] = served
        last[to] += bins
        bin_of[placed : placed + take * bins] = np.repeat(served, take) if take > 1 else served
        placed += take * bins
    return bin_of


def decreasing(
    lengths: NDArray[np.integer], capacity: int, order: NDArray[np.uint64] | None = None
) -> NDArray[np.intp]:
    """Positions of the pieces from the longest to the shortest, ties by `order`, int64 [N]."""
    sequence = None if order is None else argsort_words(order)
    return argsort_small(capacity - lengths, capacity, sequence)


class _RoomSet:
    """Set of integers 0..capacity with `next_from` in O(1): a bitset of 1024-bit words under a
    bitset of the words that are not empty (at most 1025 bits for capacity 1,048,576)."""

    def __init__(self, capacity: int) -> None:
        self._words = [0] * ((capacity >> 10) + 1)
        self._occupied = 0

    def add(self, value: int) -> None:
        self._words[value >> 10] |= 1 << (value & 1023)
        self._occupied |= 1 << (value >> 10)

    def remove(self, value: int) -> None:
        self._words[value >> 10] &= ~(1 << (value & 1023))
        if not self._words[value >> 10]:
            self._occupied &= ~(1 << (value >> 10))

    def next_from(self, value: int) -> int:
        """Smallest member ≥ value, or -1."""
        index = value >> 10
        word = self._words[index] >> (value & 1023)
        if word:
            return value + _lowest_bit(word)
        later = self._occupied >> (index + 1)
        if not later:
            return -1
        index += 1 + _lowest_bit(later)
        return (index << 10) + _lowest_bit(self._words[index])


def _lowest_bit(word: int) -> int:
    return (word & -word).bit_length() - 1
