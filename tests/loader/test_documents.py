"""Masks and positions from piece lengths, against loops."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dsv3data.loader.documents import cumulative_lengths, document_numbers, positions

CONTEXT = 12
ROWS = st.lists(
    st.lists(st.integers(1, 4), min_size=1, max_size=3).map(lambda part: np.array(part, np.int32)),
    min_size=1,
    max_size=4,
)


@given(ROWS)
def test_numbers_positions_and_borders(lengths: list[np.ndarray]) -> None:
    numbers, places = document_numbers(lengths, CONTEXT), positions(lengths, CONTEXT)
    borders = [0]
    for row, parts in enumerate(lengths):
        rest = CONTEXT - int(parts.sum())
        whole = [*parts.tolist(), *([rest] if rest else [])]
        assert numbers[row].tolist() == [n for n, size in enumerate(whole) for _ in range(size)]
        assert places[row].tolist() == [place for size in whole for place in range(size)]
        borders += [borders[-1] + end for end in np.cumsum(whole).tolist()]
    assert cumulative_lengths(lengths, CONTEXT).tolist() == borders
    assert numbers.dtype == places.dtype == np.int32
