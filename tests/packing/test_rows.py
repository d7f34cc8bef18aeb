"""Pieces written into rows: equal to the id-by-id twin, whole and in parts."""

from __future__ import annotations

import numpy as np
import pytest

from dsv3data.packing.order import Arrangement
from dsv3data.packing.reference import naive_rows
from dsv3data.packing.rows import PieceIds, build_rows

PAD = -7
EOS = -9


def piece_ids(pieces: list[np.ndarray], rng: np.random.Generator) -> PieceIds:
    """The pieces in two arrays with something between them; the end-of-sentence of some is not
    written out."""
    eos = rng.random(len(pieces)) < 0.5
    source = rng.integers(0, 2, len(pieces))
    values: tuple[list[int], list[int]] = ([], [])
    start = []
    for piece, ends, where in zip(pieces, eos, source.tolist(), strict=True):
        if ends:
            piece[-1] = EOS
        values[where].extend([-1] * int(rng.integers(0, 3)))
        start.append(len(values[where]))
        values[where].extend(piece[:-1] if ends else piece)
    return PieceIds(
        values=tuple(np.array(ids, dtype=np.int32) for ids in values),
        source=source,
        start=np.array(start, dtype=np.int64),
        length=np.array([len(piece) for piece in pieces], dtype=np.int64),
        eos=eos,
    )


def random_case(rng: np.random.Generator) -> tuple[list[np.ndarray], Arrangement, int]:
    lengths = rng.choice([1, 3, 7, 8, 8, 8], int(rng.integers(1, 80)))  # 4 × 8 fill a row
    pieces = [rng.integers(0, 1000, n, dtype=np.int32) for n in lengths]
    counts = []
    while sum(counts) < len(pieces):
        counts.append(min(int(rng.integers(1, 5)), len(pieces) - sum(counts)))
    offsets = np.concatenate([[0], np.cumsum(counts)])
    return pieces, Arrangement(pieces=rng.permutation(len(pieces)), offsets=offsets), 32


def test_equals_the_naive_twin_whole_and_in_parts() -> None:
    rng = np.random.default_rng(0)
    full_rows = 0
    for _ in range(200):
        pieces, arrangement, context = random_case(rng)
        ids = piece_ids(pieces, rng)
        rows = [p.tolist() for p in np.split(arrangement.pieces, arrangement.offsets[1:-1])]
        expected = naive_rows(pieces, rows, context, PAD)
        made = build_rows(ids, arrangement, context=context, pad_id=PAD, eos_id=EOS)
        assert made.input_ids.dtype == np.int32
        assert np.array_equal(made.input_ids, expected)
        assert np.array_equal(made.n_tokens, (expected != PAD).sum(axis=1))
        assert made.piece_lengths.tolist() == [len(pieces[p]) for row in rows for p in row]
        assert np.array_equal(made.piece_offsets, arrangement.offsets)
        full_rows += int((made.n_tokens == context).sum())
        middle = arrangement.n_rows // 2
        parts = [
            build_rows(
                ids, arrangement, context=context, pad_id=PAD, eos_id=EOS, start=start, stop=stop
            )
            for start, stop in ((0, middle), (middle, None))
        ]
        assert np.array_equal(np.concatenate([p.input_ids for p in parts]), expected)
        assert all(p.piece_offsets[0] == 0 for p in parts)
        assert all(p.piece_offsets[-1] == len(p.piece_lengths) for p in parts)
    assert full_rows > 0


def test_no_rows() -> None:
    none = Arrangement(pieces=np.array([], dtype=np.int64), offsets=np.array([0]))
    ids = piece_ids([], np.random.default_rng(0))
    made = build_rows(ids, none, context=16, pad_id=PAD, eos_id=EOS)
    assert made.input_ids.shape == (0, 16)


def test_a_row_that_is_too_full_is_refused() -> None:
    crowded = Arrangement(pieces=np.array([0, 1]), offsets=np.array([0, 2]))
    ids = piece_ids([np.zeros(10, dtype=np.int32)] * 2, np.random.default_rng(0))
    with pytest.raises(ValueError, match="a row of 16 ids was given pieces of 20 ids"):
        build_rows(ids, crowded, context=16, pad_id=PAD, eos_id=EOS)
