"""The state of a training run as arrays, and the compiled steps that change it; see `merges`.

Words lie in one array of symbols, heaviest first, a SEPARATOR around each. A token writes its id on
its first and its last byte and HOLE between, so with the length of each id both neighbours are
found without links. Every pair has a list of the places where it stands, ascending, in one arena; a
place is stale once the pair is gone from there, and stays so, because tokens only grow. A merge
knows all its new neighbours before it lists one place, so lists are cut to size.

All places of a pair appear in the merge that makes the younger of its two ids, and afterwards its
count only falls. So a pair that is too rare at its birth is never looked at again, and pairs below
a threshold wait outside the heap, which stays small enough for the cache.

One file, because numba's cache looks at the file of the function that is called and at no other:
with a kernel elsewhere, an old compilation would outlive its change.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dsv3data.compiled import compiled, prefetch, signed

SEPARATOR, HOLE = -1, -2

# The scalars of a training run, int64, by their place in one array that kernels change. The NEW_
# ones say how much room the next step may need beyond what is taken.
TOKENS, PAIRS, HEAP, PLACES, THRESHOLD, LEAST, LONGEST, NEW_PAIRS, NEW_NODES, NEW_PLACES = range(10)
# The pair that may be merged although its string has the hash of a barred one; none has key 0.
ALLOWED = 10
N_SCALARS = 11
# Why `run` returned.
PAUSED, FINISHED, NEEDS_ROOM, MAY_BE_BARRED = range(4)

# The weight of a place is looked for from the class of its block of 64 places on.
BLOCK_SHIFT = 6
# The threshold falls to this part of the heaviest waiting pair's count.
_THRESHOLD_SHIFT = 2

# Places whose symbols are asked for before the first of them is looked at.
_AHEAD = 16

_RIGHT_HALF = (1 << 32) - 1
# SplitMix64's increment: odd, with well-spread bits.
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
HASH_BASE = 0xD1B54A32D192ED03
_SLOT_SHIFT = np.uint64(24)


class Corpus(NamedTuple):
    """Words of at least two bytes as symbols.

    `weights[k]` is the count of each word from place `class_starts[k]` to `class_starts[k + 1]`;
    `block_class` is the class at the first place of each block.
    """

    symbols: NDArray[np.int32]
    class_starts: NDArray[np.int64]
    weights: NDArray[np.int64]
    block_class: NDArray[np.int32]


class Pairs(NamedTuple):
    """Pairs by number: key (left id in the upper half), count, where the list of places starts and
    its length, and whether the pair waits outside the heap. Numbers follow the order of `starts`.
    `slots` is a hash table of the numbers, -1 where empty. A pair without places is merged."""

    keys: NDArray[np.int64]
    counts: NDArray[np.int64]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    waits: NDArray[np.bool_]
    slots: NDArray[np.int32]


class Heap(NamedTuple):
    """Binary heap of pairs: the highest count first, then the smallest key. The count is the one
    that a pair had when it was placed; it is renewed at the top."""

    counts: NDArray[np.int64]
    keys: NDArray[np.int64]
    pairs: NDArray[np.int32]


class Neighbours(NamedTuple):
    """Scratch of one merge by neighbouring id, [vocabulary]: the sum of weights and the number of
    places (later: where the next place goes); and the ids seen. 0 between merges."""

    left_weights: NDArray[np.int64]
    left_places: NDArray[np.int64]
    left_ids: NDArray[np.int64]
    right_weights: NDArray[np.int64]
    right_places: NDArray[np.int64]
    right_ids: NDArray[np.int64]


class Barred(NamedTuple):
    """Strings that may not become tokens. A string's hash is the polynomial of its bytes over
    `HASH_BASE`, so that of a merge follows from those of its halves: `hashes` and the base to the
    power of the length, `powers`, are uint64 [vocabulary] by id. `wanted`: hashes of the barred
    strings, ascending. A hash only asks; the caller compares the bytes."""

    hashes: NDArray[np.uint64]
    powers: NDArray[np.uint64]
    wanted: NDArray[np.uint64]


class State(NamedTuple):
    """Everything. `lengths` are the bytes of each id, `places` is the arena of the lists."""

    corpus: Corpus
    lengths: NDArray[np.int64]
    barred: Barred
    pairs: Pairs
    heap: Heap
    neighbours: Neighbours
    places: NDArray[np.uint32]
    scalars: NDArray[np.int64]


@compiled
def run(state: State, out: NDArray[np.int64], made: int, vocab_size: int) -> tuple[int, int]:
    """Merge until `out` [K, 3] is full of rows (left, right, count) or there is a reason to return.

    Returns:
        rows in `out`, of which `made` were there before, and the reason.
    """
    scalars, pairs, heap = state.scalars, state.pairs, state.heap
    while made < len(out):
        if scalars[TOKENS] >= vocab_size:
            return made, FINISHED
        if scalars[HEAP] == 0:
            reason = _lower_threshold(pairs, heap, scalars)
            if reason != PAUSED:
                return made, reason
        pair = heap.pairs[0]
        count = pairs.counts[pair]
        if heap.counts[0] != count:
            _renew_top(pairs, heap, scalars)
            continue
        key = pairs.keys[pair]
        if key != scalars[ALLOWED] and _may_be_barred(state.barred, key):
            return made, MAY_BE_BARRED
        if not _has_room(state, pairs.lengths[pair]):
            return made, NEEDS_ROOM
        _remove_top(heap, scalars)
        out[made, 0], out[made, 1], out[made, 2] = key >> 32, key & _RIGHT_HALF, count
        made += 1
        _merge(state, pair)
    return made, PAUSED


@compiled
def bar_first(state: State) -> None:
    """The pair at the top is never merged."""
    _remove_top(state.heap, state.scalars)


@compiled
def _may_be_barred(barred: Barred, key: int) -> bool:
    if len(barred.wanted) == 0:
        return False
    merged = _merged_hash(barred, key >> 32, key & _RIGHT_HALF)
    place = np.searchsorted(barred.wanted, merged)
    return bool(place < len(barred.wanted) and barred.wanted[place] == merged)


@compiled
def _merged_hash(barred: Barred, left: int, right: int) -> np.uint64:
    return np.uint64(barred.hashes[left] * barred.powers[right] + barred.hashes[right])


# The queue.


@compiled
def _renew_top(pairs: Pairs, heap: Heap, scalars: NDArray[np.int64]) -> None:
    """The first pair's count has fallen: sink it, or let it wait below the threshold."""
    pair = heap.pairs[0]
    count = pairs.counts[pair]
    if count >= scalars[THRESHOLD]:
        _sink(heap, scalars[HEAP], count, heap.keys[0], pair)
    else:
        _remove_top(heap, scalars)
        pairs.waits[pair] = True


@compiled
def _lower_threshold(pairs: Pairs, heap: Heap, scalars: NDArray[np.int64]) -> int:
    """The heap is empty: move the heaviest waiting pairs into it."""
    heaviest = 0
    for pair in range(scalars[PAIRS]):
        if pairs.waits[pair]:
            heaviest = max(heaviest, pairs.counts[pair])
    if heaviest < scalars[LEAST]:
        return FINISHED
    threshold = max(scalars[LEAST], heaviest >> _THRESHOLD_SHIFT)
    moving = 0
    for pair in range(scalars[PAIRS]):
        if pairs.waits[pair] and pairs.counts[pair] >= threshold:
            moving += 1
    if moving > len(heap.counts):
        scalars[NEW_PAIRS], scalars[NEW_NODES], scalars[NEW_PLACES] = 0, moving, 0
        return NEEDS_ROOM
    scalars[THRESHOLD] = threshold
    for pair in range(scalars[PAIRS]):
        if pairs.waits[pair] and pairs.counts[pair] >= threshold:
            pairs.waits[pair] = False
            _push(heap, scalars, pairs.counts[pair], pairs.keys[pair], pair)
    return PAUSED


@compiled
def _push(heap: Heap, scalars: NDArray[np.int64], count: int, key: int, pair: int) -> None:
    child = scalars[HEAP]
    scalars[HEAP] += 1
    while child > 0:
        parent = (child - 1) >> 1
        if not _before(count, key, heap.counts[parent], heap.keys[parent]):
            break
        _copy_node(heap, parent, child)
        child = parent
    heap.counts[child], heap.keys[child], heap.pairs[child] = count, key, pair


@compiled
def _remove_top(heap: Heap, scalars: NDArray[np.int64]) -> None:
    scalars[HEAP] -= 1
    last = scalars[HEAP]
    _sink(heap, last, heap.counts[last], heap.keys[last], heap.pairs[last])


@compiled
def _sink(heap: Heap, size: int, count: int, key: int, pair: int) -> None:
    """Put a node into the place at the top, below all that come before it."""
    parent = 0
    while True:
        child = 2 * parent + 1
        if child >= size:
            break
        other = child + 1
        if other < size and _before(
            heap.counts[other], heap.keys[other], heap.counts[child], heap.keys[child]
        ):
            child = other
        if not _before(heap.counts[child], heap.keys[child], count, key):
            break
        _copy_node(heap, child, parent)
        parent = child
    heap.counts[parent], heap.keys[parent], heap.pairs[parent] = count, key, pair


@compiled
def _before(count: int, key: int, other_count: int, other_key: int) -> bool:
    return count > other_count or (count == other_count and key < other_key)


@compiled
def _copy_node(heap: Heap, source: int, target: int) -> None:
    heap.counts[target] = heap.counts[source]
    heap.keys[target] = heap.keys[source]
    heap.pairs[target] = heap.pairs[source]


# One merge.


@compiled
def _merge(state: State, pair: int) -> None:
    """Replace the pair by the next id wherever it stands, and bring counts and queue up to date.

    Every (x, left) in front of a place becomes (x, new), every (right, y) behind it (new, y); where
    two places stand side by side, (right, left) becomes (new, new).
    """
    near, pairs, scalars = state.neighbours, state.pairs, state.scalars
    left, right = pairs.keys[pair] >> 32, pairs.keys[pair] & _RIGHT_HALF
    new = scalars[TOKENS]
    scalars[TOKENS] += 1
    state.lengths[new] = state.lengths[left] + state.lengths[right]
    state.barred.hashes[new] = _merged_hash(state.barred, left, right)
    state.barred.powers[new] = state.barred.powers[left] * state.barred.powers[right]
    start = pairs.starts[pair]
    n_merged, n_left, n_right, twin_weight, twins = _replace(
        state.corpus,
        state.lengths,
        near,
        state.places[start : start + pairs.lengths[pair]],
        left,
        right,
        new,
    )
    for number in range(n_left):
        other = near.left_ids[number]
        _lighten(pairs, other << 32 | left, near.left_weights[other])
    for number in range(n_right):
        other = near.right_ids[number]
        _lighten(pairs, right << 32 | other, near.right_weights[other])
    if twins > 0:
        near.right_weights[left] -= twin_weight
        near.right_places[left] -= twins
        near.right_weights[new], near.right_places[new] = twin_weight, twins
        near.right_ids[n_right] = new
        n_right += 1
    for number in range(n_left):
        other = near.left_ids[number]
        near.left_places[other] = _enter(
            state, other << 32 | new, near.left_weights[other], near.left_places[other]
        )
    for number in range(n_right):
        other = near.right_ids[number]
        near.right_places[other] = _enter(
            state, new << 32 | other, near.right_weights[other], near.right_places[other]
        )
    _list_places(
        state.corpus.symbols, state.lengths, near, state.places, start, start + n_merged, new
    )
    pairs.counts[pair], pairs.lengths[pair] = 0, 0
    _clear(near.left_weights, near.left_places, near.left_ids, n_left)
    _clear(near.right_weights, near.right_places, near.right_ids, n_right)


@compiled
def _replace(
    corpus: Corpus,
    lengths: NDArray[np.int64],
    near: Neighbours,
    places: NDArray[np.uint32],
    left: int,
    right: int,
    new: int,
) -> tuple[int, int, int, int, int]:
    """Write `new` where the pair still stands, from the left, and sum up the neighbours found.

    Returns:
        places kept at the front of the list, left and right neighbouring ids, and the weight and
        number of the places that stand directly behind another one.
    """
    symbols = corpus.symbols
    left_length, right_length = lengths[left], lengths[right]
    n_merged, n_left, n_right, twin_weight, twins = 0, 0, 0, 0, 0
    previous_end = -1
    for number in range(len(places)):
        prefetch(symbols, signed(places[min(number + _AHEAD, len(places) - 1)]))
        place = signed(places[number])
        middle = place + left_length
        if symbols[place] != left or symbols[middle] != right:
            continue
        end = middle + right_length
        weight = _weight(corpus, place)
        before, behind = symbols[place - 1], symbols[end]
        if place == previous_end:
            twin_weight += weight
            twins += 1
        elif before != SEPARATOR:
            if near.left_places[before] == 0:
                near.left_ids[n_left] = before
                n_left += 1
            near.left_places[before] += 1
            near.left_weights[before] += weight
        if behind != SEPARATOR:
            if near.right_places[behind] == 0:
                near.right_ids[n_right] = behind
                n_right += 1
            near.right_places[behind] += 1
            near.right_weights[behind] += weight
        symbols[middle - 1] = HOLE
        symbols[middle] = HOLE
        symbols[place] = new
        symbols[end - 1] = new
        places[n_merged] = place
        n_merged += 1
        previous_end = end
    return n_merged, n_left, n_right, twin_weight, twins


@compiled
def _list_places(
    symbols: NDArray[np.int32],
    lengths: NDArray[np.int64],
    near: Neighbours,
    places: NDArray[np.uint32],
    start: int,
    stop: int,
    new: int,
) -> None:
    """Write the places of the new pairs to their lists, which so are ascending."""
    new_length = lengths[new]
    for number in range(start, stop):
        prefetch(symbols, signed(places[min(number + _AHEAD, stop - 1)]))
        place = signed(places[number])
        before, behind = symbols[place - 1], symbols[place + new_length]
        if before != SEPARATOR and before != new:  # (new, new) is listed from its left
            _append(places, near.left_places, before, place - lengths[before])
        if behind != SEPARATOR:
            _append(places, near.right_places, behind, place)


@compiled
def _append(places: NDArray[np.uint32], cursors: NDArray[np.int64], other: int, place: int) -> None:
    """Add to the list of the pair with `other`, unless there is none."""
    cursor = cursors[other]
    if cursor >= 0:
        places[cursor] = place
        cursors[other] = cursor + 1


@compiled
def _clear(
    weights: NDArray[np.int64], numbers: NDArray[np.int64], ids: NDArray[np.int64], count: int
) -> None:
    for number in range(count):
        weights[ids[number]] = 0
        numbers[ids[number]] = 0


@compiled
def _weight(corpus: Corpus, place: int) -> int:
    """Count of the word that holds a place."""
    number = corpus.block_class[place >> BLOCK_SHIFT]
    while corpus.class_starts[number + 1] <= place:
        number += 1
    return signed(corpus.weights[number])


# Pairs.


@compiled
def _slot_of(keys: NDArray[np.int64], slots: NDArray[np.int32], key: int) -> int:
    """The slot that holds the pair's number, or the empty one where it belongs."""
    mask = len(slots) - 1
    slot = signed((np.uint64(key) * _MULTIPLIER) >> _SLOT_SHIFT) & mask
    while slots[slot] >= 0 and keys[slots[slot]] != key:
        slot = (slot + 1) & mask
    return slot


@compiled
def _lighten(pairs: Pairs, key: int, weight: int) -> None:
    """Take from the count of a pair, unless it was too rare or too long to be queued."""
    pair = pairs.slots[_slot_of(pairs.keys, pairs.slots, key)]
    if pair >= 0:
        pairs.counts[pair] -= weight


@compiled
def _enter(state: State, key: int, count: int, n_places: int) -> int:
    """Queue a new pair with an empty list for its places; where that starts, or -1 for a pair that
    is too rare or too long."""
    pairs, scalars = state.pairs, state.scalars
    merged_length = state.lengths[key >> 32] + state.lengths[key & _RIGHT_HALF]
    if count < scalars[LEAST] or merged_length > scalars[LONGEST]:
        return -1
    pair = scalars[PAIRS]
    scalars[PAIRS] += 1
    start = scalars[PLACES]
    scalars[PLACES] += n_places
    pairs.slots[_slot_of(pairs.keys, pairs.slots, key)] = pair
    pairs.keys[pair] = key
    pairs.counts[pair] = count
    pairs.starts[pair] = start
    pairs.lengths[pair] = n_places
    pairs.waits[pair] = count < scalars[THRESHOLD]
    if count >= scalars[THRESHOLD]:
        _push(state.heap, scalars, count, key, pair)
    return signed(start)


# Room.


@compiled
def _has_room(state: State, n_places: int) -> bool:
    """Can a pair with so many places be merged? Leaves what that may take in the scalars."""
    scalars = state.scalars
    new_pairs = min(2 * n_places, 2 * scalars[TOKENS] + 2)
    scalars[NEW_PAIRS], scalars[NEW_NODES], scalars[NEW_PLACES] = new_pairs, new_pairs, 2 * n_places
    return bool(
        scalars[PAIRS] + new_pairs <= len(state.pairs.keys)
        and scalars[HEAP] + new_pairs <= len(state.heap.counts)
        and scalars[PLACES] + 2 * n_places <= len(state.places)
    )


@compiled
def compact(state: State, numbers: NDArray[np.int32]) -> None:
    """Drop pairs that are merged or have become too rare, and stale places.

    Args:
        numbers: scratch as long as there are pairs.
    """
    _keep_waiting_or_in_heap(state, numbers)
    _close_gaps(state, numbers)
    for node in range(state.scalars[HEAP]):
        state.heap.pairs[node] = numbers[state.heap.pairs[node]]
    fill_slots(state.pairs, state.scalars)


@compiled
def _keep_waiting_or_in_heap(state: State, numbers: NDArray[np.int32]) -> None:
    """Mark what to drop with -1, what to keep with 0."""
    pairs, scalars = state.pairs, state.scalars
    for pair in range(scalars[PAIRS]):
        keep = pairs.waits[pair] and pairs.counts[pair] >= scalars[LEAST]
        numbers[pair] = 0 if keep else -1
    for node in range(scalars[HEAP]):
        numbers[state.heap.pairs[node]] = 0


@compiled
def _close_gaps(state: State, numbers: NDArray[np.int32]) -> None:
    """Move kept pairs and their lists to the front; write their new numbers."""
    pairs, places, scalars = state.pairs, state.places, state.scalars
    symbols, lengths = state.corpus.symbols, state.lengths
    kept = 0
    used = 0
    for pair in range(scalars[PAIRS]):
        if numbers[pair] < 0:
            continue
        left, right = pairs.keys[pair] >> 32, pairs.keys[pair] & _RIGHT_HALF
        left_length = lengths[left]
        start = used
        for number in range(pairs.starts[pair], pairs.starts[pair] + pairs.lengths[pair]):
            # Lists follow one another, so the place ahead may be of a later one.
            prefetch(symbols, signed(places[min(number + _AHEAD, scalars[PLACES] - 1)]))
            place = signed(places[number])
            if symbols[place] == left and symbols[place + left_length] == right:
                places[used] = place
                used += 1
        pairs.keys[kept] = pairs.keys[pair]
        pairs.counts[kept] = pairs.counts[pair]
        pairs.starts[kept] = start
        pairs.lengths[kept] = used - start
        pairs.waits[kept] = pairs.waits[pair]
        numbers[pair] = kept
        kept += 1
    scalars[PAIRS] = kept
    scalars[PLACES] = used


@compiled
def fill_slots(pairs: Pairs, scalars: NDArray[np.int64]) -> None:
    """Build the hash table of pairs anew."""
    pairs.slots[:] = -1
    for pair in range(scalars[PAIRS]):
        pairs.slots[_slot_of(pairs.keys, pairs.slots, pairs.keys[pair])] = pair


# The beginning.


@compiled
def lay_out_words(
    data: NDArray[np.uint8],
    offsets: NDArray[np.int64],
    order: NDArray[np.int64],
    byte_ids: NDArray[np.int64],
    symbols: NDArray[np.int32],
    word_starts: NDArray[np.int64],
) -> None:
    """Write the words, in the given order, as ids with a separator around each."""
    symbols[0] = SEPARATOR
    position = 1
    for rank in range(len(order)):
        word_starts[rank] = position
        for number in range(offsets[order[rank]], offsets[order[rank] + 1]):
            symbols[position] = byte_ids[data[number]]
            position += 1
        symbols[position] = SEPARATOR
        position += 1


@compiled
def count_byte_pairs(
    corpus: Corpus, first_id: int, weights: NDArray[np.int64], numbers: NDArray[np.int64]
) -> None:
    """Sum of weights and number of places of each pair of bytes, int64 [256, 256] by id."""
    symbols = corpus.symbols
    number = 0
    for place in range(1, len(symbols) - 1):
        while corpus.class_starts[number + 1] <= place:
            number += 1
        left, right = symbols[place], symbols[place + 1]
        if left != SEPARATOR and right != SEPARATOR:
            weights[left - first_id, right - first_id] += corpus.weights[number]
            numbers[left - first_id, right - first_id] += 1


@compiled
def enter_byte_pairs(
    state: State, first_id: int, weights: NDArray[np.int64], numbers: NDArray[np.int64]
) -> None:
    """Queue every pair of bytes that occurs, with its places. Changes `numbers`."""
    symbols = state.corpus.symbols
    for left in range(256):
        for right in range(256):
            if numbers[left, right] > 0:
                key = (left + first_id) << 32 | (right + first_id)
                numbers[left, right] = _enter(
                    state, key, weights[left, right], numbers[left, right]
                )
    for place in range(1, len(symbols) - 1):
        left, right = symbols[place], symbols[place + 1]
        if left != SEPARATOR and right != SEPARATOR:
            _append(state.places, numbers[left - first_id], right - first_id, place)
