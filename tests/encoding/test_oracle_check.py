"""The sample that the reference encodes again: keyed, never none, and it finds what is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from dsv3data.contracts.keys import document_key, keyed_u64_scalar, keys_to_words
from dsv3data.encoding.huggingface import HuggingFaceEncoder
from dsv3data.encoding.oracle_check import OracleCheck
from dsv3data.encoding.vocabulary import load_vocabulary

N = 400
KEYS = [document_key("x", number) for number in range(N)]
WORDS = keys_to_words(np.frombuffer(b"".join(KEYS), dtype=np.uint8).reshape(-1, 16))
TEXTS = [f"text number {number}" for number in range(N)]


class Recorder:
    """An oracle that remembers what it was asked."""

    def __init__(self, tokenizer: Path) -> None:
        self.encoder = HuggingFaceEncoder(load_vocabulary(tokenizer))
        self.asked: list[str] = []

    def encode(self, texts: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        self.asked += texts
        return self.encoder.encode(texts)


@pytest.fixture
def oracle(tiny_tokenizer: Path) -> Recorder:
    return Recorder(tiny_tokenizer)


def run(check: OracleCheck, oracle: Recorder, size: int) -> None:
    """All texts in groups of `size`."""
    for start in range(0, N, size):
        texts = TEXTS[start : start + size]
        encoded = oracle.encoder.encode(texts)
        assert check.mismatch(WORDS[start : start + size], texts, encoded) is None


@pytest.mark.parametrize("rate", [0.01, 0.2, 1.0])
def test_the_sample_is_a_function_of_the_keys(oracle: Recorder, rate: float) -> None:
    drawn = [keyed_u64_scalar(key, seed=0, purpose="oracle-check") / 2**64 for key in KEYS]
    expected = {text for text, draw in zip(TEXTS, drawn, strict=True) if draw <= rate}
    assert 0 < len(expected) <= N
    for size in (7, N):
        oracle.asked.clear()
        check = OracleCheck(oracle.encoder, oracle, rate)
        run(check, oracle, size)
        assert expected <= set(oracle.asked)
        assert len(oracle.asked) <= len(expected) + 1
        assert check.checked == len(oracle.asked)


def test_at_least_one_document_unless_nobody_wants_any(oracle: Recorder) -> None:
    run(OracleCheck(oracle.encoder, oracle, 1e-9), oracle, 50)
    assert len(oracle.asked) == 1
    run(OracleCheck(oracle.encoder, oracle, 0.0), oracle, 50)
    assert len(oracle.asked) == 1


def test_of_a_long_document_only_the_beginning_is_encoded(oracle: Recorder) -> None:
    text = "word " * 40_000
    encoded = oracle.encoder.encode([text])
    assert OracleCheck(oracle.encoder, oracle, 1.0).mismatch(WORDS[:1], [text], encoded) is None
    assert oracle.asked == [text[: 1 << 14]]


def test_a_wrong_id_is_found_with_its_place(oracle: Recorder) -> None:
    values, offsets = oracle.encoder.encode(TEXTS)
    values = values.copy()
    values[offsets[123] + 2] += 1
    found = OracleCheck(oracle.encoder, oracle, 1.0).mismatch(WORDS, TEXTS, (values, offsets))
    assert found is not None
    assert (found.document, found.difference.place) == (123, 2)
    assert found.difference.got == found.difference.expected + 1
