"""The computed permutation: a bijection, equal to its twin, and without visible structure."""

from __future__ import annotations

import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsv3data.loader.permutation import MAX_SIZE, permute, permute_scalar


def whole(size: int, seed: int = 0, purpose: str = "test") -> np.ndarray:
    return permute(np.arange(size), size, seed=seed, purpose=purpose)


def chi_square_z(counts: np.ndarray) -> float:
    """Standard score of the chi-square statistic of counts that should be even."""
    expected = counts.sum() / counts.size
    freedom = counts.size - 1
    return float((((counts - expected) ** 2 / expected).sum() - freedom) / np.sqrt(2 * freedom))


def test_a_bijection_for_every_small_size() -> None:
    for size in (*range(1, 300), *range(1000, 1050), *range(4090, 4100)):
        assert np.array_equal(np.sort(whole(size)), np.arange(size)), size


@pytest.mark.parametrize("size", [65_536, 65_537, 300_000])
def test_a_bijection_for_larger_sizes(size: int) -> None:
    assert np.array_equal(np.sort(whole(size, seed=9)), np.arange(size))


@given(st.integers(1, MAX_SIZE), st.integers(0, 2**64), st.data())
def test_equals_the_scalar_twin(size: int, seed: int, data: st.DataObject) -> None:
    places = data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=5))
    expected = [permute_scalar(place, size, seed=seed, purpose="p") for place in places]
    got = permute(np.array(places), size, seed=seed, purpose="p")
    assert got.dtype == np.int64
    assert got.tolist() == expected
    assert 0 <= min(expected) <= max(expected) < size


def test_the_shape_is_kept_and_places_may_come_in_any_order() -> None:
    places = np.array([[5, 0], [5, 99]])
    made = permute(places, 100, seed=0, purpose="test")
    assert np.array_equal(made, whole(100)[places])
    assert permute(np.array([], dtype=np.int64), 100, seed=0, purpose="test").shape == (0,)


@pytest.mark.parametrize(("size", "seeds"), [(2, 300), (3, 600), (10, 1000), (17, 1200)])
def test_first_places_are_even_over_consecutive_seeds(size: int, seeds: int) -> None:
    firsts = np.array(
        [permute(np.arange(2), size, seed=seed, purpose="test") for seed in range(seeds)]
    )
    for column in firsts.T:
        assert abs(chi_square_z(np.bincount(column, minlength=size))) < 4
    pairs = np.bincount(firsts @ [size, 1], minlength=size * size).reshape(size, size)
    assert np.trace(pairs) == 0
    assert size == 2 or abs(chi_square_z(pairs[~np.eye(size, dtype=bool)])) < 5


def test_consecutive_seeds_and_purposes_share_no_structure() -> None:
    size, made = 1000, []
    for seed in range(60):
        made.append(whole(size, seed=seed))
    made.append(whole(size, seed=0, purpose="another"))
    equal = [int((a == b).sum()) for a, b in itertools.pairwise(made)]
    fixed = [int((a == np.arange(size)).sum()) for a in made]
    followers = [int((np.diff(a) == 1).sum()) for a in made]
    # Each is a Poisson count of mean 1 for independent uniform permutations.
    for counts in (equal, fixed, followers):
        assert abs(np.mean(counts) - 1) < 5 / np.sqrt(len(counts))
        assert max(counts) < 9
    correlations = [np.corrcoef(a, b)[0, 1] for a, b in itertools.pairwise(made)]
    assert max(map(abs, correlations)) < 5 / np.sqrt(size)
    # Displacement is spread over the whole range from any region of places.
    tenths = np.histogram2d(np.arange(size), made[0], bins=10)[0]
    assert abs(chi_square_z(tenths)) < 5


def test_memory_does_not_grow_with_the_size() -> None:
    places = np.random.default_rng(0).integers(0, 4**8, 10_000)
    peaks = []
    for size in (4**8, 4**12, 4**20):  # no place is walked twice
        tracemalloc.start()
        permute(places, size, seed=0, purpose="test")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert max(peaks) - min(peaks) < places.nbytes  # other threads may allocate something
    assert max(peaks) < 100 * len(places)


@pytest.mark.parametrize("place", [-1, 10])
def test_a_place_outside_is_refused(place: int) -> None:
    with pytest.raises(IndexError, match=rf"places must be in 0..9, not .*{place}"):
        permute(np.array([3, place]), 10, seed=0, purpose="test")


@pytest.mark.parametrize("size", [0, -5, MAX_SIZE + 1])
def test_a_size_that_cannot_be_permuted_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=rf"only sizes from 1 to 2\^62 .*, not {size}"):
        permute(np.array([0]), size, seed=0, purpose="test")
