"""Keys and keyed randomness: the scalar twin, uniformity, independence, digests."""

from __future__ import annotations

import hashlib

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dsv3data.contracts.keys import (
    add_digests,
    document_key,
    keyed_u64,
    keyed_u64_scalar,
    keys_digest,
    keys_to_words,
    stream_constant,
    uniform_unit,
    user_id_key,
)

KEY = st.binary(min_size=16, max_size=16)
N = 20_000


def words_of(keys: list[bytes]) -> np.ndarray:
    return keys_to_words(np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(-1, 16))


def many_words(prefix: str = "file") -> np.ndarray:
    return words_of([document_key(prefix, row) for row in range(N)])


@settings(max_examples=200)
@given(
    st.lists(KEY, min_size=1, max_size=8),
    st.integers(0, 2**63),
    st.text(max_size=12),
    st.integers(0, 2**64 - 1),
)
def test_arrays_equal_the_scalar_twin(
    keys: list[bytes], seed: int, purpose: str, counter: int
) -> None:
    scalar = [keyed_u64_scalar(key, seed=seed, purpose=purpose, counter=counter) for key in keys]
    counters = np.full(len(keys), counter, dtype=np.uint64)
    array = keyed_u64(words_of(keys), seed=seed, purpose=purpose, counter=counters)
    assert array.tolist() == scalar


def test_one_counter_for_all_is_the_same_as_one_for_each() -> None:
    words = many_words()[:50]
    each = keyed_u64(words, seed=1, purpose="p", counter=np.full(50, 9, dtype=np.uint64))
    assert np.array_equal(keyed_u64(words, seed=1, purpose="p", counter=9), each)


def test_known_words_never_change() -> None:
    """Every packed set depends on these numbers."""
    key = document_key("a/b.jsonl", 17)
    assert key == hashlib.blake2b(b"position\0a/b.jsonl\x0017", digest_size=16).digest()
    assert keyed_u64_scalar(key, seed=3, purpose="fim", counter=2) == 11424462561271700209
    assert stream_constant(0, "partition") == 17733558605347779367


def test_draws_are_uniform() -> None:
    draws = keyed_u64(many_words(), seed=0, purpose="uniformity")
    unit = uniform_unit(draws)
    assert 0.0 <= unit.min() < unit.max() < 1.0
    counts = np.histogram(unit, bins=50, range=(0, 1))[0]
    chi_square = ((counts - N / 50) ** 2 / (N / 50)).sum()
    assert 20 < chi_square < 95  # 49 degrees of freedom: far beyond one in ten thousand
    ones = np.unpackbits(draws.view(np.uint8)).reshape(N, 64).mean(axis=0)
    assert np.abs(ones - 0.5).max() < 0.02


def test_streams_do_not_correlate() -> None:
    words = many_words()
    streams = [
        uniform_unit(keyed_u64(words, seed=seed, purpose=purpose, counter=counter))
        for seed, purpose, counter in [(0, "a", 0), (1, "a", 0), (0, "b", 0), (0, "a", 1)]
    ]
    correlation = np.corrcoef(streams) - np.eye(4)
    assert np.abs(correlation).max() < 0.04


def test_unit_of_the_extreme_words() -> None:
    extremes = np.array([0, 2**64 - 1], dtype=np.uint64)
    assert uniform_unit(extremes).tolist() == [0.0, 1.0 - 2.0**-53]


def test_keys_differ_by_source_position_and_kind() -> None:
    keys = {
        document_key("a", 1),
        document_key("a", 11),
        document_key("a1", 1),
        document_key("b", 1),
        user_id_key("a"),
        user_id_key("a\x001"),
    }
    assert len(keys) == 6
    assert all(len(key) == 16 for key in keys)


def test_lone_surrogates_in_an_id_give_distinct_keys() -> None:
    assert len({user_id_key("\ud800"), user_id_key("\ud801"), user_id_key("\udc80")}) == 3


@given(st.lists(KEY, max_size=30), st.integers(1, 5))
def test_digests_add_up_in_any_order(keys: list[bytes], parts: int) -> None:
    words = words_of(keys) if keys else np.empty((0, 2), dtype=np.uint64)
    shuffled = np.random.default_rng(len(keys)).permutation(words, axis=0)
    whole = keys_digest(words)
    assert keys_digest(shuffled) == whole
    assert add_digests([keys_digest(part) for part in np.array_split(shuffled, parts)]) == whole
    assert int(whole, 16) == sum(int.from_bytes(key, "little") for key in keys) % 2**128


def test_a_lost_or_doubled_document_changes_the_digest() -> None:
    words = many_words()[:100]
    whole = keys_digest(words)
    assert keys_digest(words[1:]) != whole
    assert keys_digest(np.concatenate([words, words[:1]])) != whole
    assert keys_digest(words[:0]) == "0" * 32
