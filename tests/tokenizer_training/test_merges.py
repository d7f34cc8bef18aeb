"""Merges equal to Hugging Face's trainer, tie-breaks included."""

from __future__ import annotations

import json
import random
import sysconfig
from collections.abc import Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsv3data_tokenizer import merges as merges_module
from dsv3data_tokenizer import reference
from dsv3data_tokenizer.bpe import tokenizer_json, train_bpe
from dsv3data_tokenizer.merges import (
    FIRST_MERGE_ID,
    Merges,
    bpe_tokenizer,
    byte_ids,
    train_merges,
)
from dsv3data_tokenizer.word_counts import count_words


def train(texts: Sequence[str], *, vocab_size: int, scale: int = 1, **rules: Any) -> Merges:
    table = count_words(text.encode() for text in texts)
    counts = table["count"].to_numpy() * scale
    return train_merges(table["word"], counts, vocab_size=vocab_size, **rules)


def by_slow_twin(
    texts: Sequence[str],
    *,
    vocab_size: int,
    min_frequency: int = 0,
    max_token_bytes: int = 0,
    without: Set[bytes] = frozenset(),
) -> list[tuple[int, int]]:
    """The slow twin's pairs; asserts that no merge makes a string that another one has made."""
    first_ids = {bytes([value]): token for value, token in enumerate(byte_ids().tolist())}
    found = reference.merges(
        reference.word_counts([text.encode() for text in texts]),
        first_ids=first_ids,
        vocab_size=vocab_size,
        least=min_frequency,
        longest=max_token_bytes,
        without=without,
    )
    assert [token for _, token in found] == list(range(FIRST_MERGE_ID, FIRST_MERGE_ID + len(found)))
    return [pair for pair, _ in found]


def assert_equal_to_hugging_face(texts: Sequence[str], *, vocab_size: int, **rules: int) -> Merges:
    ours = train(texts, vocab_size=vocab_size, **rules)
    theirs = train_bpe(texts, vocab_size=vocab_size, **rules)
    assert tokenizer_json(bpe_tokenizer(ours)) == tokenizer_json(theirs)
    return ours


def random_texts(chance: random.Random) -> list[str]:
    """Few letters and short texts: many ties, overlaps and words of one letter."""
    alphabet = chance.choice(["a", "ab", "ab", "abc", "aab ", " a\n", "é中a", "abcdefgh"])
    longest = chance.choice([3, 12, 60, 200])
    return [
        "".join(chance.choices(alphabet, k=chance.randrange(longest)))
        for _ in range(chance.randrange(10))
    ]


def test_random_corpora_give_the_files_of_hugging_face_and_the_merges_of_the_twin() -> None:
    chance = random.Random(11)
    complete, short, ties, limited = 0, 0, 0, 0
    for _ in range(300):
        texts = random_texts(chance)
        vocab_size = chance.choice([259, 260, 264, 280, 320, 600])
        rules = {
            "min_frequency": chance.choice([0, 0, 1, 2, 3]),
            "max_token_bytes": chance.choice([0, 0, 2, 3, 7]),
        }
        merges = assert_equal_to_hugging_face(texts, vocab_size=vocab_size, **rules)
        twin = by_slow_twin(texts, vocab_size=vocab_size, **rules)
        assert [tuple(pair) for pair in merges.pairs.tolist()] == twin
        longest = max(map(len, merges.token_bytes))
        limited += longest == rules["max_token_bytes"]
        assert longest <= (rules["max_token_bytes"] or longest)
        complete += merges.vocab_size == vocab_size
        short += merges.vocab_size < vocab_size
        ties += bool(np.any(np.diff(merges.counts) == 0))
    assert min(complete, short, ties, limited) > 50


@given(
    st.lists(st.text(st.sampled_from("ab "), max_size=40), max_size=6),
    st.integers(259, 300),
    st.integers(0, 3),
)
@settings(max_examples=200, deadline=None)
def test_any_corpus(texts: list[str], vocab_size: int, min_frequency: int) -> None:
    assert_equal_to_hugging_face(texts, vocab_size=vocab_size, min_frequency=min_frequency)


@pytest.mark.parametrize("length", [*range(1, 40), 1000, 1023, 1024])
def test_one_repeated_character(length: int) -> None:
    assert_equal_to_hugging_face(["a" * length, "b"], vocab_size=300)


def test_real_text_of_five_megabytes_at_eight_thousand() -> None:
    texts, size = [], 0
    library = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(library.rglob("*.py")):
        if size > 5_500_000:
            break
        try:
            texts.append(path.read_bytes().decode("utf-8"))
        except UnicodeDecodeError:
            continue
        size += path.stat().st_size
    assert size > 5_000_000
    merges = assert_equal_to_hugging_face(texts, vocab_size=8000)
    assert merges.vocab_size == 8000
    scaled = train(texts, vocab_size=8000, scale=1 << 33)
    assert np.array_equal(scaled.pairs, merges.pairs)
    assert np.array_equal(scaled.counts, merges.counts << 33)


def test_barred_strings_never_become_tokens_and_all_else_is_the_twins() -> None:
    chance = random.Random(12)
    changed = 0
    for _ in range(200):
        texts = random_texts(chance)
        free = train(texts, vocab_size=600)
        made = free.token_bytes[FIRST_MERGE_ID:]
        without = frozenset(chance.sample(made, chance.randrange(len(made) + 1)))
        rules = {"vocab_size": chance.choice([280, 600]), "without": without | {b"never there"}}
        merges = train(texts, **rules)
        assert [tuple(pair) for pair in merges.pairs.tolist()] == by_slow_twin(texts, **rules)
        assert without.isdisjoint(merges.token_bytes)
        changed += merges.token_bytes != free.token_bytes
    assert changed > 50


def test_a_string_with_the_hash_of_a_barred_one_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = train(["banana bandana"], vocab_size=270)
    # With this base all strings of the same last byte have one hash.
    monkeypatch.setattr(merges_module.kernels, "HASH_BASE", 0)
    again = train(["banana bandana"], vocab_size=270, without={b"xyza", b"xyzn", b"xyzb"})
    assert again.token_bytes == usual.token_bytes
    barred = train(["banana bandana"], vocab_size=270, without={b"an"})
    assert b"an" not in barred.token_bytes
    assert b"na" in barred.token_bytes


def test_little_room_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The arrays grow and are compacted all the time."""
    texts = [path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("*.py")]
    usual = train(texts, vocab_size=1500)
    compactions = 0
    make_room = merges_module._Trainer._make_room

    def counted(trainer: merges_module._Trainer) -> None:
        nonlocal compactions
        compactions += 1
        make_room(trainer)

    monkeypatch.setattr(merges_module._Trainer, "_make_room", counted)
    monkeypatch.setattr(merges_module, "_with_reserve", int)
    monkeypatch.setattr(merges_module, "_PAIRS_AT_FIRST", 1)
    assert np.array_equal(train(texts, vocab_size=1500).pairs, usual.pairs)
    barred = frozenset(usual.token_bytes[FIRST_MERGE_ID::7])
    assert barred.isdisjoint(train(texts, vocab_size=1500, without=barred).token_bytes)
    assert compactions > 100


def test_the_order_of_words_does_not_matter() -> None:
    words = [b"banana", b" bandana", b"ananas", b" an", b"ab", b"ba"]
    counts = np.array([3, 3, 2, 2, 1, 1])
    first = train_merges(pa.array(words), counts, vocab_size=280)
    second = train_merges(pa.array(words[::-1]), counts[::-1].copy(), vocab_size=280)
    assert np.array_equal(first.pairs, second.pairs)
    assert first.token_bytes == second.token_bytes


def test_ids_follow_the_byte_characters() -> None:
    merges = train_merges(pa.array([b"!!"]), np.array([1]), vocab_size=400)
    assert merges.token_bytes[:4] == (b"", b"", b"", b"!")
    assert merges.token_bytes[FIRST_MERGE_ID:] == (b"!!",)
    assert merges.pairs.tolist() == [[3, 3]]
    assert merges.counts.tolist() == [1]
    assert sorted(merges.token_bytes[3:FIRST_MERGE_ID]) == [bytes([byte]) for byte in range(256)]


@pytest.mark.parametrize("words", [[], [b"a", b"b"]])
def test_nothing_to_merge(words: list[bytes]) -> None:
    counts = np.ones(len(words), dtype=np.int64)
    merges = train_merges(pa.array(words, pa.binary()), counts, vocab_size=300)
    assert merges.vocab_size == FIRST_MERGE_ID
    assert json.loads(tokenizer_json(bpe_tokenizer(merges)))["model"]["merges"] == []


def test_counts_beyond_32_bits_decide() -> None:
    words = pa.array([b"ab", b"cd"])
    merges = train_merges(words, np.array([1 << 32, (1 << 32) + 1]), vocab_size=260)
    assert merges.token_bytes[-1] == b"cd"
    assert merges.counts.tolist() == [(1 << 32) + 1]


@pytest.mark.parametrize("alphabet", [b"a", b"ab", bytes(range(97, 123))])
def test_one_giant_word_takes_linear_time(alphabet: bytes) -> None:
    """Four megabytes without a break, 2000 merges: scanning the word for each would take hours."""
    chance = np.random.default_rng(12)
    word = np.frombuffer(alphabet, dtype=np.uint8)[chance.integers(len(alphabet), size=1 << 22)]
    merges = train_merges(pa.array([word.tobytes()]), np.array([1]), vocab_size=2259)
    n_merges = {1: 22, 2: 2000, 26: 2000}[len(alphabet)]
    assert len(merges.pairs) == n_merges
    assert merges.counts[0] >= merges.counts[-1]


def test_progress_reports_the_ids_so_far() -> None:
    reports: list[tuple[int, int]] = []
    table = count_words(random.Random(13).randbytes(20_000).hex().encode().split(b"0"))
    merges = train_merges(
        table["word"],
        table["count"].to_numpy(),
        vocab_size=3000,
        progress=lambda done, total: reports.append((done, total)),
    )
    assert reports[0] == (FIRST_MERGE_ID + 1000, 3000)
    assert reports[-1] == (merges.vocab_size, 3000)
