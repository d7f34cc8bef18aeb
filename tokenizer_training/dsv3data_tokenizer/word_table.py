"""A hash table of words with 64-bit counts, for one thread.

Nearly all words have fewer than 16 bytes. Their slot holds them whole, so that a look-up is one
comparison of two machine words and touches one cache line; the bytes of longer ones lie in an
arena. Most time would go into waiting for that line: so the keys of some words are made first and
their slots asked for, and only then looked at.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dsv3data.compiled import compiled, inlined, load_u64, prefetch, signed

# Kernels load two machine words at a word's start and one at its end: a buffer of words reaches
# this far beyond them.
PADDING_BYTES = 16

# Columns of a slot, all uint64. LOW and HIGH are the key: the word's bytes with zeros behind them
# and its length in the last byte; a longer word has its hash, its length and _LONG there, and the
# place of its bytes in START. HIGH is 0 where the slot is empty.
_LOW, _HIGH, _COUNT, _START = range(4)
_COLUMNS = 4
_INLINE = 16
_SLOTS_AT_FIRST = 1 << 14
_BYTES_AT_FIRST = 1 << 18
# Words whose slots are asked for before the first of them is looked at.
_AHEAD = 64

_ZERO, _ONE = np.uint64(0), np.uint64(1)
_LENGTH_SHIFT = np.uint64(56)
_LONG = np.uint64(0xFF << 56)
_LENGTH_OF_LONG = np.uint64((1 << 56) - 1)
# SplitMix64's increment, odd, with well-spread bits; and a prime of xxHash.
_MULTIPLIER, _OTHER_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F)
_FOLD_INNER, _FOLD_LAST = np.uint64(29), np.uint64(32)
# The low n bytes of a machine word, for n from 0; all of it from 8 on.
_LOW_BYTES = np.array([(1 << 8 * min(n, 8)) - 1 for n in range(_INLINE)], dtype=np.uint64)


class WordTable:
    """Unique words and how often they were added.

    Memory: 43 to 85 bytes a word, and once or twice the bytes of words of 16 bytes and more.
    """

    def __init__(self) -> None:
        self._slots = np.zeros((_SLOTS_AT_FIRST, _COLUMNS), dtype=np.uint64)
        self._arena = np.empty(_BYTES_AT_FIRST, dtype=np.uint8)
        self._used = np.zeros(2, dtype=np.int64)  # words, bytes of the arena
        self._ahead = np.empty((3, _AHEAD), dtype=np.uint64)

    def __len__(self) -> int:
        return int(self._used[0])

    @property
    def size_bytes(self) -> int:
        """Memory held. `sorted_words` takes up to twice as much for a moment."""
        return self._slots.nbytes + self._arena.nbytes

    def size_bytes_soon(self, arena_bytes: int) -> int:
        """Memory held after some more words of `arena_bytes` in all, as it is likely to be."""
        words, used_bytes = self._used.tolist()
        grown_slots = 4 * words > 3 * 0.95 * len(self._slots)
        grown_arena = used_bytes + arena_bytes > len(self._arena)
        return self._slots.nbytes * (1 + grown_slots) + self._arena.nbytes * (1 + grown_arena)

    def add(
        self,
        data: NDArray[np.uint8],
        start: int,
        ends: NDArray[np.int64],
        counts: NDArray[np.int64] | None = None,
    ) -> None:
        """Add words that lie one behind the other in `data`.

        Args:
            data: uint8 [N + PADDING_BYTES].
            start: where the first word begins.
            ends: int64 [W], where each word ends; no word is empty.
            counts: int64 [W], how often each is added; once if None.
        """
        weights = np.ones(1, dtype=np.int64) if counts is None else counts
        step = 0 if counts is None else 1
        done = 0
        while True:
            done = int(
                _add(
                    data,
                    start,
                    ends,
                    done,
                    weights,
                    step,
                    self._slots,
                    self._arena,
                    self._used,
                    self._ahead,
                    _LOW_BYTES,
                )
            )
            if done == len(ends):
                return
            begin = int(ends[done - 1]) if done else start
            self._make_room(int(ends[done]) - begin)

    def sorted_words(self) -> tuple[NDArray[np.int64], NDArray[np.uint8], NDArray[np.int64]]:
        """All words in the order of their bytes.

        Returns:
            Offsets, int64 [len + 1], the words' bytes, uint8 [N], and the counts, int64 [len].
        """
        rows = self._slots[self._slots[:, _HIGH] > _ZERO]
        order = self._order(rows)
        offsets = np.zeros(len(rows) + 1, dtype=np.int64)
        np.cumsum(_lengths(rows)[order], out=offsets[1:])
        data = np.empty(offsets[-1], dtype=np.uint8)
        _gather(rows, order, self._arena, offsets, data)
        return offsets, data, rows[order, _COUNT].astype(np.int64)

    def _order(self, rows: NDArray[np.uint64]) -> NDArray[np.int64]:
        """By the first 15 bytes and the length; long words that agree in these, one by one."""
        first, second = np.empty((2, len(rows)), dtype=np.uint64)
        _sort_keys(rows, self._arena, first, second)
        order = np.lexsort((second.byteswap(inplace=True), first.byteswap(inplace=True)))
        first, second = first[order], second[order]
        equal = np.concatenate(
            ([False], (first[1:] == first[:-1]) & (second[1:] == second[:-1]), [False])
        )
        edges = np.flatnonzero(equal[1:] != equal[:-1])
        for begin, last in edges.reshape(-1, 2).tolist():
            same = sorted(order[begin : last + 1].tolist(), key=lambda row: self._long(rows[row]))
            order[begin : last + 1] = same
        return order

    def _long(self, row: NDArray[np.uint64]) -> bytes:
        start, length = int(row[_START]), int(row[_HIGH] & _LENGTH_OF_LONG)
        return self._arena[start : start + length].tobytes()

    def _make_room(self, word_bytes: int) -> None:
        """Room for one more word of this size, and for as many again as there are."""
        if not _has_slot(int(self._used[0]), len(self._slots)):
            larger = np.zeros((2 * len(self._slots), _COLUMNS), dtype=np.uint64)
            _rehash(self._slots, larger)
            self._slots = larger
        needed = int(self._used[1]) + word_bytes + PADDING_BYTES
        if word_bytes >= _INLINE and needed > len(self._arena):
            arena = np.empty(max(needed, 2 * len(self._arena)), dtype=np.uint8)
            arena[: self._used[1]] = self._arena[: self._used[1]]
            self._arena = arena


def _lengths(rows: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Bytes of the words in some slots."""
    high = rows[:, _HIGH]
    return np.where(high < _LONG, high >> _LENGTH_SHIFT, high & _LENGTH_OF_LONG).astype(np.int64)


@compiled
def _add(
    data: NDArray[np.uint8],
    start: int,
    ends: NDArray[np.int64],
    done: int,
    weights: NDArray[np.int64],
    step: int,
    slots: NDArray[np.uint64],
    arena: NDArray[np.uint8],
    used: NDArray[np.int64],
    ahead: NDArray[np.uint64],
    low_bytes: NDArray[np.uint64],
) -> int:
    """Add `weights[word * step]` to the words from number `done` on.

    Returns the number of the first word for which there is no room, or `len(ends)`.
    """
    while done < len(ends):
        stop = min(done + len(ahead[0]), len(ends))
        _ask(data, start, ends, done, stop, slots, ahead, low_bytes)
        reached = _look_up(data, start, ends, done, stop, weights, step, slots, arena, used, ahead)
        if reached < stop:
            return reached
        done = stop
    return done


@inlined
def _ask(
    data: NDArray[np.uint8],
    start: int,
    ends: NDArray[np.int64],
    first: int,
    stop: int,
    slots: NDArray[np.uint64],
    ahead: NDArray[np.uint64],
    low_bytes: NDArray[np.uint64],
) -> None:
    """Keys of words `first` to `stop` and their first slots into `ahead`; the slots on their way
    into the cache."""
    mask = len(slots) - 1
    begin = ends[first - 1] if first else start
    for number in range(first, stop):
        end = ends[number]
        length = end - begin
        if length < _INLINE:
            low = load_u64(data, begin) & low_bytes[length]
            high = load_u64(data, begin + 8) & low_bytes[max(length - 8, 0)]
            high |= np.uint64(length) << _LENGTH_SHIFT
        else:
            low = _hash(data, begin, end)
            high = np.uint64(length) | _LONG
        slot = _first_slot(low, high) & mask
        prefetch(slots, slot * _COLUMNS)
        ahead[0, number - first] = low
        ahead[1, number - first] = high
        ahead[2, number - first] = np.uint64(slot)
        begin = end


@inlined
def _look_up(
    data: NDArray[np.uint8],
    start: int,
    ends: NDArray[np.int64],
    first: int,
    stop: int,
    weights: NDArray[np.int64],
    step: int,
    slots: NDArray[np.uint64],
    arena: NDArray[np.uint8],
    used: NDArray[np.int64],
    ahead: NDArray[np.uint64],
) -> int:
    """Count words `first` to `stop`; the number of the first without room, or `stop`."""
    mask = len(slots) - 1
    begin = ends[first - 1] if first else start
    for number in range(first, stop):
        end = ends[number]
        low, high = ahead[0, number - first], ahead[1, number - first]
        slot = signed(ahead[2, number - first])
        while slots[slot, _HIGH] != _ZERO and not (
            slots[slot, _LOW] == low
            and slots[slot, _HIGH] == high
            and (high < _LONG or _equal(arena, signed(slots[slot, _START]), data, begin, end))
        ):
            slot = (slot + 1) & mask
        if slots[slot, _HIGH] == _ZERO:
            if not _has_slot(used[0], len(slots)):
                return number
            if high >= _LONG:
                if used[1] + end - begin + PADDING_BYTES > len(arena):
                    return number
                slots[slot, _START] = np.uint64(used[1])
                for place in range(end - begin):
                    arena[used[1] + place] = data[begin + place]
                used[1] += end - begin
            slots[slot, _LOW] = low
            slots[slot, _HIGH] = high
            used[0] += 1
        slots[slot, _COUNT] += np.uint64(weights[number * step])
        begin = end
    return stop


@inlined
def _has_slot(words: int, slots: int) -> bool:
    """At most three slots of four are taken."""
    return 4 * (words + 1) <= 3 * slots


@inlined
def _hash(data: NDArray[np.uint8], begin: int, end: int) -> np.uint64:
    """Of at least 8 bytes, in blocks of 8, of which the last two may overlap."""
    value = np.uint64(end - begin)
    while begin + 8 <= end:
        value = (value ^ load_u64(data, begin)) * _MULTIPLIER
        value ^= value >> _FOLD_INNER
        begin += 8
    value = (value ^ load_u64(data, end - 8)) * _MULTIPLIER
    return value ^ (value >> _FOLD_LAST)


@inlined
def _first_slot(low: np.uint64, high: np.uint64) -> int:
    value = (low ^ (high * _OTHER_MULTIPLIER)) * _MULTIPLIER
    return signed(value >> _FOLD_LAST)


@inlined
def _equal(
    arena: NDArray[np.uint8], place: int, data: NDArray[np.uint8], begin: int, end: int
) -> bool:
    """Whether the word in the arena is this one of as many bytes, at least 8."""
    last = end - 8
    shift = place - begin
    while begin < last:
        if load_u64(arena, begin + shift) != load_u64(data, begin):
            return False
        begin += 8
    return bool(load_u64(arena, last + shift) == load_u64(data, last))


@compiled
def _rehash(slots: NDArray[np.uint64], larger: NDArray[np.uint64]) -> None:
    mask = len(larger) - 1
    for row in range(len(slots)):
        if slots[row, _HIGH] != _ZERO:
            slot = _first_slot(slots[row, _LOW], slots[row, _HIGH]) & mask
            while larger[slot, _HIGH] != _ZERO:
                slot = (slot + 1) & mask
            larger[slot] = slots[row]


@compiled
def _sort_keys(
    rows: NDArray[np.uint64],
    arena: NDArray[np.uint8],
    first: NDArray[np.uint64],
    second: NDArray[np.uint64],
) -> None:
    """The first 8 bytes; the next 7, and the length or, for a long word, 255."""
    for row in range(len(rows)):
        if rows[row, _HIGH] < _LONG:
            first[row] = rows[row, _LOW]
            second[row] = rows[row, _HIGH]
        else:
            start = signed(rows[row, _START])
            first[row] = load_u64(arena, start)
            second[row] = load_u64(arena, start + 8) | _LONG


@compiled
def _gather(
    rows: NDArray[np.uint64],
    order: NDArray[np.int64],
    arena: NDArray[np.uint8],
    offsets: NDArray[np.int64],
    out: NDArray[np.uint8],
) -> None:
    """The bytes of the words in `rows[order]` to their offsets."""
    for number in range(len(order)):
        row = order[number]
        begin = offsets[number]
        if rows[row, _HIGH] < _LONG:
            bits = rows[row, _LOW]
            for place in range(offsets[number + 1] - begin):
                if place == 8:
                    bits = rows[row, _HIGH]
                out[begin + place] = np.uint8(bits & np.uint64(255))
                bits >>= np.uint64(8)
        else:
            start = signed(rows[row, _START])
            for place in range(offsets[number + 1] - begin):
                out[begin + place] = arena[start + place]
