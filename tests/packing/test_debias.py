"""Split tokens: equal to the twin, the rate kept, bytes unchanged, cuts beside the halves."""

from __future__ import annotations

import numpy as np
import pytest

from dsv3data.contracts.keys import keys_to_words
from dsv3data.packing.cut import cut_documents
from dsv3data.packing.debias import debias, split_table
from dsv3data.packing.reference import naive_cut, naive_debias

# Id 10 is 1 and 2 in one, 11 is 1 and 3.
HALVES = {10: (1, 2), 11: (1, 3)}
TABLE = split_table(np.array([10, 11]), np.array([1, 1]), np.array([2, 3]), vocab_size=12)


def documents(
    rng: np.random.Generator, n: int, longest: int
) -> tuple[list[np.ndarray], np.ndarray, np.ndarray, list[bytes]]:
    """Ids of each document, all of them in one, offsets, keys."""
    parts = [rng.integers(0, 12, rng.integers(0, longest), dtype=np.int32) for _ in range(n)]
    offsets = np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int64)
    return parts, np.concatenate(parts), offsets, [rng.bytes(16) for _ in parts]


def words_of(keys: list[bytes]) -> np.ndarray:
    return keys_to_words(np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(-1, 16))


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.7, 1.0])
def test_equals_the_naive_twin(rate: float) -> None:
    rng = np.random.default_rng(int(rate * 10))
    split = 0
    for seed in range(60):
        parts, values, offsets, keys = documents(rng, 9, 40)
        made = debias(values, offsets, words_of(keys), TABLE, rate=rate, seed=seed)
        expected = [
            naive_debias(part.tolist(), key, HALVES, rate=rate, seed=seed)
            for part, key in zip(parts, keys, strict=True)
        ]
        assert made.values.dtype == np.int32
        found = np.split(made.values, made.offsets[1:-1])
        assert [part.tolist() for part in found] == expected
        assert made.n_splittable == int((values >= 10).sum())
        assert np.array_equal(made.after(offsets), made.offsets)
        assert np.array_equal(made.before(made.offsets), offsets)
        assert set(made.values[made.tails].tolist()) <= {2, 3}
        assert (made.values[made.tails - 1] == 1).all()
        split += len(made.split)
    assert (split > 0) == (rate > 0)


def test_the_rate_is_kept_within_binomial_bounds_and_each_occurrence_has_its_own_draw() -> None:
    rng = np.random.default_rng(1)
    keys = [rng.bytes(16), rng.bytes(16)]
    values = np.full(200_000, 10, dtype=np.int32)
    offsets = np.array([0, 100_000, 200_000])
    made = debias(values, offsets, words_of(keys), TABLE, rate=0.1, seed=0)
    assert abs(len(made.split) - 20_000) < 5 * np.sqrt(18_000)
    first, second = (
        set((made.split[made.split // 100_000 == n] % 100_000).tolist()) for n in (0, 1)
    )
    assert abs(len(first & second) - 1000) < 200
    # A document's splits do not depend on what stands before it.
    alone = debias(values[:100_000], offsets[:2], words_of(keys[1:]), TABLE, rate=0.1, seed=0)
    assert set(alone.split.tolist()) == second


@pytest.mark.parametrize("context", [16, 17, 31])
def test_no_cut_separates_two_halves(context: int) -> None:
    rng = np.random.default_rng(context)
    moved = 0
    for seed in range(40):
        _, values, offsets, keys = documents(rng, 30, 6 * context)
        made = debias(values, offsets, words_of(keys), TABLE, rate=0.8, seed=seed)
        sizes = np.diff(made.offsets)
        table = cut_documents(sizes, context, first=made.offsets[:-1], tails=made.tails)
        found = list(
            zip(
                table.document.tolist(),
                table.piece.tolist(),
                table.start.tolist(),
                table.stop.tolist(),
                table.has_eos.tolist(),
                strict=True,
            )
        )
        expected = []
        for document, (size, first) in enumerate(
            zip(sizes.tolist(), made.offsets.tolist(), strict=False)
        ):
            tails = set((made.tails - first).tolist())
            pieces = naive_cut(size, context, tails)
            expected += [(document, number, *piece) for number, piece in enumerate(pieces)]
        assert found == expected
        begins = made.offsets[table.document] + table.start
        assert not np.isin(begins[table.piece > 0], made.tails).any()
        assert table.length.max() <= context
        assert (table.stop > table.start)[sizes[table.document] > 0].all()
        moved += int((table.length < context)[~table.has_eos].sum())
    assert moved > 0
