"""The encode engine: HF's ids on ordinary text, never a control id, exact bytes back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from dsv3data.contracts import special_tokens
from dsv3data.encoding.control_text import ControlTextCounter
from dsv3data.encoding.huggingface import HuggingFaceEncoder
from dsv3data.encoding.vocabulary import Vocabulary, load_vocabulary

PIECES = st.sampled_from(
    [*special_tokens.IN_VOCABULARY, *special_tokens.ADDED[798:], "<｜", "｜>", "<|", "中", "\r\n"]
)
TEXTS = st.lists(PIECES | st.text(st.characters(exclude_categories=["Cs"])), max_size=6)


@pytest.fixture(scope="module")
def vocabulary(tiny_tokenizer: Path) -> Vocabulary:
    return load_vocabulary(tiny_tokenizer)


@pytest.fixture(scope="module")
def encoder(vocabulary: Vocabulary) -> HuggingFaceEncoder:
    return HuggingFaceEncoder(vocabulary)


def ordinary_texts(corpus: Path) -> list[str]:
    lines = [line for path in sorted(corpus.iterdir()) for line in path.read_bytes().splitlines()]
    texts = [json.loads(line)["text"] for line in lines]
    return [text for text in texts if "<｜" not in text and "<|" not in text]


def test_ids_of_ordinary_text_are_those_of_the_untouched_tokenizer(
    encoder: HuggingFaceEncoder, tiny_tokenizer: Path, tiny_corpus: Path
) -> None:
    texts = [*ordinary_texts(tiny_corpus), ""]
    reference = Tokenizer.from_file(str(tiny_tokenizer / "tokenizer.json"))
    expected = [encoding.ids for encoding in reference.encode_batch(texts)]
    values, offsets = encoder.encode(texts)
    assert (values.dtype, offsets.dtype) == (np.int32, np.int64)
    assert values.tolist() == [token for ids in expected for token in ids]
    assert np.diff(offsets).tolist() == [len(ids) for ids in expected]
    assert len(texts) > 100


def test_no_texts(encoder: HuggingFaceEncoder) -> None:
    values, offsets = encoder.encode([])
    assert values.tolist() == []
    assert offsets.tolist() == [0]


@settings(max_examples=150, deadline=None)
@given(parts=TEXTS)
def test_no_text_yields_a_control_id_and_every_byte_comes_back(
    encoder: HuggingFaceEncoder, vocabulary: Vocabulary, parts: list[str]
) -> None:
    text = "".join(parts)
    values, _ = encoder.encode([text])
    assert not vocabulary.is_control[values].any()
    assert vocabulary.decode(values) == text.encode()


def test_every_control_text_is_encoded_as_text(
    encoder: HuggingFaceEncoder, vocabulary: Vocabulary
) -> None:
    texts = [f"a {text} b" for text in vocabulary.control_texts]
    values, offsets = encoder.encode(texts)
    assert not vocabulary.is_control[values].any()
    for number, text in enumerate(texts):
        assert vocabulary.decode(values[offsets[number] : offsets[number + 1]]) == text.encode()


def test_control_texts_are_counted() -> None:
    texts = [*special_tokens.IN_VOCABULARY, *special_tokens.ADDED]
    count = ControlTextCounter(texts).count
    assert all(count([f"x{text}y"]) == 1 for text in texts)
    harmless = ["", "plain", "<｜", "<|", "<｜User|>", "<|User|>", "<|EOT>", "<｜fim▁middle｜>"]
    assert count([]) == count(harmless) == count([text[:-1] for text in texts]) == 0
    assert count([*harmless, *texts, texts[0] * 2]) == len(texts) + 1
    assert count([texts[0][:4], texts[0][4:]]) == 0  # no text stands across two documents


def test_transformers_loads_the_folder_and_round_trips(
    encoder: HuggingFaceEncoder, tiny_tokenizer: Path, tiny_corpus: Path, vocabulary: Vocabulary
) -> None:
    from transformers import AutoTokenizer

    auto = AutoTokenizer.from_pretrained(str(tiny_tokenizer))
    assert (auto.bos_token_id, auto.eos_token_id, auto.pad_token_id) == (0, 1, 2)
    assert len(auto) == vocabulary.vocab_size
    assert auto.model_max_length == 131_072
    texts = [*ordinary_texts(tiny_corpus)[:60], "a  b   c ", " ,. !", "\n\n\tx\r\n", "１２345678"]
    values, offsets = encoder.encode(texts)
    for number, text in enumerate(texts):
        ids = auto.encode(text, add_special_tokens=False)
        assert ids == values[offsets[number] : offsets[number + 1]].tolist()
        assert auto.decode(ids) == text
    assert auto.convert_tokens_to_ids(special_tokens.FIM_HOLE) == vocabulary.control.fim_hole
