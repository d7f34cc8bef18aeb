"""Counting pre-tokens: the same counts for any order, batch, number of tables and memory limit."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsv3data_tokenizer import reference, word_counts, word_table
from dsv3data_tokenizer.word_counts import (
    SCHEMA,
    SpillingWordCounts,
    WordCounts,
    count_words,
    merge_counts,
    read_counts,
    write_counts,
)

DOCUMENTS = st.lists(st.text(st.sampled_from("ab 1\n.é中・"), max_size=30), max_size=12)


def as_dict(table: pa.Table) -> dict[bytes, int]:
    """The table's content, after a look at its form."""
    assert table.schema == SCHEMA
    words = table["word"].to_pylist()
    assert words == sorted(set(words))
    return dict(zip(words, table["count"].to_pylist(), strict=True))


def some_documents(count: int, seed: int) -> list[bytes]:
    chance = random.Random(seed)
    letters = "abcdefghijklmnop"
    return [
        " ".join(
            "".join(chance.choices(letters, k=chance.choice([1, 3, 6, 7, 8, 9, 15, 16, 17, 40])))
            for _ in range(chance.randrange(60))
        ).encode()
        for _ in range(count)
    ]


def write_run(path: Path, documents: Sequence[bytes]) -> Path:
    write_counts(path, count_words(documents).to_batches())
    return path


@given(DOCUMENTS)
@settings(deadline=None)
def test_counts_are_those_of_the_slow_twin(texts: list[str]) -> None:
    documents = [text.encode() for text in texts]
    assert as_dict(count_words(documents)) == reference.word_counts(documents)


def test_words_around_the_size_of_a_machine_word_and_many_rehashes() -> None:
    documents = some_documents(1000, seed=3)
    counts = as_dict(count_words(documents))
    assert counts == reference.word_counts(documents)
    assert len(counts) > 3 * word_table._SLOTS_AT_FIRST // 4
    assert {len(word) for word in counts} >= {1, 2, 7, 8, 9, 10, 16, 17, 18}


def test_words_that_differ_in_one_byte_or_in_length_are_told_apart() -> None:
    base = b"abcdefghijklmnopqrstuvwxyz"
    words = {base[:length] for length in range(1, 27)}
    words |= {base[:place] + b"X" + base[place + 1 :] for place in range(26)}
    words |= {bytes(length) for length in range(1, 20)}
    counts = WordCounts()
    counts.add_words(pa.array(sorted(words), pa.binary()), np.arange(1, len(words) + 1))
    counts.add_words(pa.array(sorted(words), pa.binary()), np.arange(1, len(words) + 1))
    assert as_dict(counts.to_table()) == {
        word: 2 * number for number, word in enumerate(sorted(words), start=1)
    }


def test_a_batch_border_is_a_document_border(monkeypatch: pytest.MonkeyPatch) -> None:
    documents = some_documents(50, seed=4)
    whole = count_words(documents)
    monkeypatch.setattr(word_counts, "_BATCH_BYTES", 100)
    monkeypatch.setattr(word_counts, "_PIECES_AT_ONCE", 3)
    assert count_words(documents).equals(whole)


def test_no_documents_empty_documents_and_nuls() -> None:
    assert as_dict(count_words([])) == {}
    assert as_dict(count_words([b"", b""])) == {}
    assert as_dict(count_words([b"\0\0a\0"])) == {b"\0": 2, b"\0a": 1}


def test_one_word_of_twenty_megabytes() -> None:
    word = b"xyz" * 7_000_000
    assert as_dict(count_words([word, word + b" " + word])) == {word: 2, b" " + word: 1}


def test_counts_beyond_32_bits_add_up() -> None:
    counts = WordCounts()
    for _ in range(3):
        counts.add_words(pa.array([b"a", b"long enough"]), np.array([1 << 40, (1 << 33) + 1]))
    assert as_dict(counts.to_table()) == {b"a": 3 << 40, b"long enough": 3 * ((1 << 33) + 1)}


def test_words_of_a_slice_of_an_array_are_added() -> None:
    counts = WordCounts()
    counts.add_words(pa.array([b"no", b"yes", b"ja", b"no"], pa.binary())[1:3], np.array([5, 6]))
    assert as_dict(counts.to_table()) == {b"ja": 6, b"yes": 5}


def test_the_table_does_not_depend_on_the_order_of_documents() -> None:
    documents = some_documents(200, seed=5)
    assert count_words(documents[::-1]).equals(count_words(documents))


@pytest.mark.parametrize("limit_bytes", [1, 900_000, 1 << 30])
def test_any_memory_limit_gives_the_same_file(
    tmp_path: Path, limit_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(word_counts, "_BATCH_BYTES", 20_000)
    documents = some_documents(1000, seed=6)
    runs = tmp_path / "runs"
    runs.mkdir()
    counts = SpillingWordCounts(runs, limit_bytes=limit_bytes)
    counts.add_documents(documents)
    assert {1: len(counts.runs) > 10, 900_000: len(counts.runs) > 1}.get(limit_bytes, True)
    n_words = counts.finish(tmp_path / "counts.arrow")
    assert not list(runs.iterdir())
    whole = write_run(tmp_path / "whole.arrow", documents)
    assert (tmp_path / "counts.arrow").read_bytes() == whole.read_bytes()
    assert n_words == len(read_counts(whole))


def test_merging_files_in_any_order_and_grouping_gives_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(word_counts, "_BATCH_ROWS", 100)
    parts = [some_documents(30, seed) for seed in (7, 8, 9)]
    runs = [write_run(tmp_path / f"{number}.arrow", part) for number, part in enumerate(parts)]
    empty = write_run(tmp_path / "empty.arrow", [])
    merge_counts(runs, tmp_path / "once.arrow")
    merge_counts([runs[2], empty, runs[0]], tmp_path / "two.arrow")
    merge_counts([tmp_path / "two.arrow", runs[1]], tmp_path / "twice.arrow")
    assert (tmp_path / "once.arrow").read_bytes() == (tmp_path / "twice.arrow").read_bytes()
    counts = as_dict(read_counts(tmp_path / "once.arrow"))
    assert counts == reference.word_counts([one for part in parts for one in part])
    assert as_dict(read_counts(empty)) == {}


def test_batches_are_bounded_in_rows_and_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word_counts, "_BATCH_ROWS", 50)
    monkeypatch.setattr(word_counts, "_BATCH_WORD_BYTES", 600)
    table = count_words([*some_documents(100, seed=10), b"q" * 1000])
    sizes = [
        (batch.num_rows, sum(map(len, batch["word"].to_pylist()))) for batch in table.to_batches()
    ]
    assert all(rows == 1 or (rows <= 50 and size <= 600) for rows, size in sizes)
    assert (1, 1000) in sizes
    assert max(rows for rows, _ in sizes) == 50
