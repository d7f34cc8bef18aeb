"""The histogram plan against best-fit-decreasing done one piece at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsv3data.packing.best_fit import Plan, assign, decreasing, length_histogram, plan
from dsv3data.packing.reference import naive_assign
from dsv3data.packing.sorting import argsort_small, argsort_words


def random_lengths(rng: np.random.Generator, capacity: int) -> np.ndarray:
    """Few or many distinct lengths, short or long ones: each shape meets other transitions."""
    count = int(rng.integers(1, 60))
    shape = rng.integers(4)
    if shape == 0:
        return rng.integers(1, capacity + 1, count)
    if shape == 1:
        return rng.choice(rng.integers(1, capacity + 1, 3), count)
    if shape == 2:
        return rng.integers(1, capacity // 4 + 1, count)
    return np.clip(rng.lognormal(2, 1.5, count), 1, capacity).astype(np.int64)


def remaining_histogram(lengths: np.ndarray, bins: np.ndarray, capacity: int) -> np.ndarray:
    used = np.bincount(bins, weights=lengths).astype(np.int64)
    return np.bincount(capacity - used, minlength=capacity + 1)


def test_equals_the_naive_twin_piece_by_piece() -> None:
    rng = np.random.default_rng(0)
    several_at_once = half_filled = reused = 0
    for _ in range(3000):
        capacity = int(rng.choice([16, 17, 31, 64, 100, 257]))
        lengths = random_lengths(rng, capacity)
        order = rng.integers(0, 5, len(lengths), dtype=np.uint64)  # many equal words
        bins = assign(lengths, capacity, order)
        assert bins.tolist() == naive_assign(lengths.tolist(), capacity, order.tolist())
        made = plan(length_histogram(lengths, capacity), capacity)
        assert made.n_bins == bins.max() + 1
        assert np.array_equal(made.remaining, remaining_histogram(lengths, bins, capacity))
        moves = made.transitions
        old = moves[moves["remaining"] < capacity]
        several_at_once += int((old["bins"] > 1).any())
        half_filled += int((old["take"] < old["remaining"] // old["size"]).any())
        reused += int((old["take"] > 1).any())
    assert min(several_at_once, half_filled, reused) > 100


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_plan_conserves_pieces_and_ids(data: st.DataObject) -> None:
    capacity = data.draw(st.integers(16, 3000))
    sizes = data.draw(st.lists(st.integers(1, capacity), min_size=1, max_size=30))
    counts = data.draw(st.lists(st.integers(1, 10**9), min_size=len(sizes), max_size=len(sizes)))
    histogram = np.zeros(capacity + 1, dtype=np.int64)
    np.add.at(histogram, sizes, counts)
    made = plan(histogram, capacity)
    placed = np.zeros(capacity + 1, dtype=np.int64)
    np.add.at(placed, made.transitions["size"], made.transitions["take"] * made.transitions["bins"])
    assert np.array_equal(placed, histogram)
    assert made.remaining.sum() == made.n_bins
    ids = int(histogram @ np.arange(capacity + 1))
    assert made.n_bins * capacity == ids + made.padding_ids


def test_histograms_of_workers_add_up() -> None:
    rng = np.random.default_rng(1)
    parts = [rng.integers(1, 129, 500) for _ in range(4)]
    summed = sum((length_histogram(part, 128) for part in parts), np.zeros(129, dtype=np.int64))
    assert np.array_equal(summed, length_histogram(np.concatenate(parts), 128))


def test_order_not_position_decides_among_equal_lengths() -> None:
    rng = np.random.default_rng(2)
    lengths = rng.integers(1, 65, 4000)
    order = rng.integers(0, 2**64, 4000, dtype=np.uint64)
    shuffle = rng.permutation(4000)
    straight = assign(lengths, 64, order)
    assert np.array_equal(straight[shuffle], assign(lengths[shuffle], 64, order[shuffle]))
    assert not np.array_equal(straight, assign(lengths, 64))


def test_no_pieces_need_no_bins() -> None:
    none = np.array([], dtype=np.int64)
    assert assign(none, 16).tolist() == []
    made: Plan = plan(length_histogram(none, 16), 16)
    assert (made.n_bins, made.padding_ids, len(made.transitions)) == (0, 0, 0)


@pytest.mark.parametrize("length", [0, 17])
def test_a_length_that_fits_no_bin_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match=rf"must be in 1..16, not .*{length}"):
        assign(np.array([5, length]), 16)


def test_a_billion_documents_plan_at_once() -> None:
    rng = np.random.default_rng(3)
    sample = np.clip(rng.lognormal(6, 1.2, 200_000), 1, 4096).astype(np.int64)
    histogram = length_histogram(sample, 4096) * 5000 + 1
    histogram[0] = 0
    made = plan(histogram, 4096)
    assert int(histogram.sum()) > 1_000_000_000
    assert made.padding_ids < made.n_bins * 4096 * 1e-5
    assert len(made.transitions) < 3 * 4096  # what it costs: 3 µs each


@pytest.mark.parametrize("capacity", [65_535, 65_536, 1_048_576])
def test_large_contexts(capacity: int) -> None:
    rng = np.random.default_rng(4)
    lengths = rng.choice([1, 3, capacity // 3, capacity // 2 + 1, capacity - 1, capacity], 200)
    assert assign(lengths, capacity).tolist() == naive_assign(lengths.tolist(), capacity)
    few = np.zeros(capacity + 1, dtype=np.int64)
    few[[5, 1000, capacity - 7, capacity]] = 10**9
    made = plan(few, capacity)
    assert made.n_bins > 2 * 10**9
    assert len(made.transitions) < 20


def test_sorts_equal_numpys_stable_sort() -> None:
    rng = np.random.default_rng(5)
    for largest in (0, 1, 65_535, 65_536, 2**33):
        values = rng.integers(0, largest + 1, 3000)
        assert np.array_equal(argsort_small(values, largest), np.argsort(values, kind="stable"))
    # Up to 4,096 twelve low bits of a word make room for its index: all, many, few or no ties.
    for bound in (1, 10, 2**12, 2**20, 2**64):
        for size in (0, 1, 2, 3, 1025, 4096):
            words = rng.integers(0, bound, size, dtype=np.uint64)
            assert np.array_equal(argsort_words(words), np.argsort(words, kind="stable"))
    lengths, order = rng.integers(1, 50, 3000), rng.integers(0, 9, 3000, dtype=np.uint64)
    assert np.array_equal(decreasing(lengths, 50, order), np.lexsort((order, -lengths)))
