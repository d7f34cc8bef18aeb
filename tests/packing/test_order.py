"""Keyed order: the same for any order of arrival, and without the packer's long-first bias."""

from __future__ import annotations

import numpy as np
import pytest

from dsv3data.contracts.keys import keyed_u64
from dsv3data.packing.best_fit import assign
from dsv3data.packing.order import (
    Arrangement,
    arrange,
    packing_words,
    partition_count,
    partition_of,
)
from dsv3data.packing.reference import naive_arrange


def random_words(rng: np.random.Generator, count: int) -> np.ndarray:
    return rng.integers(0, 2**64, (count, 2), dtype=np.uint64)


def rows_of(arrangement: Arrangement) -> list[list[int]]:
    return [part.tolist() for part in np.split(arrangement.pieces, arrangement.offsets[1:-1])]


def test_arrange_equals_the_naive_twin() -> None:
    rng = np.random.default_rng(0)
    for count in (1, 2, 50, 500):
        for _ in range(20):
            words, piece = random_words(rng, count), rng.integers(0, 3, count)
            bins = rng.integers(0, 2 * count, count)  # with gaps
            made = arrange(bins, words, piece, seed=7)
            counter = piece.astype(np.uint64)
            slots, places = (
                keyed_u64(words, seed=7, purpose=purpose, counter=counter).tolist()
                for purpose in ("row-slot", "row-place")
            )
            assert rows_of(made) == naive_arrange(bins.tolist(), slots, places)
            assert made.n_rows == len(np.unique(bins))


def test_no_pieces_make_no_rows() -> None:
    none = np.array([], dtype=np.int64)
    made = arrange(none, np.empty((0, 2), dtype=np.uint64), none, seed=0)
    assert made.n_rows == 0
    assert made.offsets.tolist() == [0]


def test_the_order_is_a_function_of_identity_not_of_position() -> None:
    rng = np.random.default_rng(1)
    words, piece, lengths = (
        random_words(rng, 3000),
        rng.integers(0, 4, 3000),
        rng.integers(1, 65, 3000),
    )

    def packed(of: np.ndarray) -> list[list[tuple[int, int]]]:
        """The rows as identities, when the pieces arrive in the order `of`."""
        ties = packing_words(words[of], piece[of], seed=3)
        bins = assign(lengths[of], 64, ties)
        rows = rows_of(arrange(bins, words[of], piece[of], seed=3))
        return [[(int(words[of[p], 0]), int(piece[of[p]])) for p in row] for row in rows]

    assert packed(np.arange(3000)) == packed(rng.permutation(3000))


def test_long_pieces_do_not_come_first() -> None:
    rng = np.random.default_rng(2)
    lengths = np.clip(rng.lognormal(4, 1.2, 60_000), 1, 1024).astype(np.int64)
    words, piece = random_words(rng, len(lengths)), np.zeros(len(lengths), dtype=np.int64)
    bins = assign(lengths, 1024, packing_words(words, piece, seed=0))
    made = arrange(bins, words, piece, seed=0)
    several = np.diff(made.offsets) > 1
    first = lengths[made.pieces[made.offsets[:-1][several]]]
    last = lengths[made.pieces[made.offsets[1:][several] - 1]]
    assert several.sum() > 1000
    # Means within four standard errors, where unkeyed rows would differ by hundreds of ids.
    error = np.sqrt(first.var() + last.var()) / np.sqrt(several.sum())
    assert abs(first.mean() - last.mean()) < 4 * error
    # Nor do rows of many pieces come before rows of few.
    sizes = np.diff(made.offsets).astype(np.float64)
    half = len(sizes) // 2
    error = sizes.std() * 2 / np.sqrt(len(sizes))
    assert abs(sizes[:half].mean() - sizes[half:].mean()) < 4 * error


def test_partitions_are_even_keyed_and_seeded() -> None:
    words = random_words(np.random.default_rng(3), 70_000)
    parts = partition_of(words, 7, seed=1)
    counts = np.bincount(parts, minlength=7)
    assert counts.shape == (7,)
    assert abs(counts - 10_000).max() < 500
    assert np.array_equal(parts[::-1], partition_of(words[::-1], 7, seed=1))
    assert not np.array_equal(parts, partition_of(words, 7, seed=2))


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [(0, 1), (1, 1), (100, 1), (101, 2), (200, 2), (201, 4), (10**15, 1 << 44)],
)
def test_partition_count(tokens: int, expected: int) -> None:
    assert partition_count(tokens, 100) == expected
