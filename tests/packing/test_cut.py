"""Cutting documents: exact accounting around the row length."""

from __future__ import annotations

import numpy as np
import pytest

from dsv3data.packing.cut import PieceTable, cut_documents
from dsv3data.packing.reference import naive_cut

L = 16


def pieces(table: PieceTable) -> list[tuple[int, int, bool]]:
    return list(zip(table.start.tolist(), table.stop.tolist(), table.has_eos.tolist(), strict=True))


@pytest.mark.parametrize(
    ("n_tokens", "expected"),
    [
        (0, [(0, 0, True)]),
        (L - 2, [(0, L - 2, True)]),
        (L - 1, [(0, L - 1, True)]),
        # The EOS does not fit: it never stands alone, one token keeps it company.
        (L, [(0, L - 1, False), (L - 1, L, True)]),
        (L + 1, [(0, L, False), (L, L + 1, True)]),
        (2 * L - 1, [(0, L, False), (L, 2 * L - 1, True)]),
        (2 * L, [(0, L, False), (L, 2 * L - 1, False), (2 * L - 1, 2 * L, True)]),
    ],
)
def test_around_the_row_length(n_tokens: int, expected: list[tuple[int, int, bool]]) -> None:
    assert pieces(cut_documents(np.array([n_tokens]), L)) == expected
    assert naive_cut(n_tokens, L) == expected


@pytest.mark.parametrize("context", [16, 17, 100])
def test_equals_the_naive_twin(context: int) -> None:
    n_tokens = np.random.default_rng(context).permutation(5 * context)
    table = cut_documents(n_tokens, context)
    expected = [naive_cut(int(n), context) for n in n_tokens]
    assert pieces(table) == [piece for document in expected for piece in document]
    assert table.document.tolist() == [i for i, ps in enumerate(expected) for _ in ps]
    assert table.piece.tolist() == [k for ps in expected for k in range(len(ps))]
    assert sum(len(ps) > 1 for ps in expected) > context


def test_ids_are_conserved_and_every_piece_fits() -> None:
    n_tokens = np.random.default_rng(0).integers(0, 300, 2000)
    table = cut_documents(n_tokens, L)
    ids = np.bincount(table.document, weights=table.length)
    assert np.array_equal(ids, n_tokens + 1)
    assert table.length.min() >= 1
    assert table.length.max() == L
    assert table.has_eos.sum() == len(n_tokens)
    cut = np.bincount(table.document) > 1
    assert np.array_equal(cut, n_tokens + 1 > L)
    bare = (table.stop == table.start) & (n_tokens[table.document] > 0)
    assert not bare.any()


def test_no_documents() -> None:
    assert pieces(cut_documents(np.array([], dtype=np.int64), L)) == []
