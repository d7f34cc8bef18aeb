"""A tokenizer.json as tables: bytes of every id, control ids, and files that are refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from dsv3data.contracts import special_tokens
from dsv3data.contracts.errors import BadInput
from dsv3data.encoding import vocabulary as vocabulary_module
from dsv3data.encoding.vocabulary import (
    Vocabulary,
    byte_to_character,
    load_vocabulary,
    parse_vocabulary,
)
from tiny_data import VOCAB_SIZE


@pytest.fixture(scope="module")
def vocabulary(tiny_tokenizer: Path) -> Vocabulary:
    return load_vocabulary(tiny_tokenizer)


@pytest.fixture(scope="module")
def reference(tiny_tokenizer: Path) -> Tokenizer:
    return Tokenizer.from_file(str(tiny_tokenizer / "tokenizer.json"))


def test_sizes(vocabulary: Vocabulary) -> None:
    assert vocabulary.vocab_size == VOCAB_SIZE + 815
    assert vocabulary.embedding_rows == 2432
    assert vocabulary.record().vocab_size == vocabulary.vocab_size
    assert vocabulary.sha256 == hashlib.sha256(vocabulary.tokenizer_json).hexdigest()


def test_bytes_of_every_id_are_what_the_reference_decodes(
    vocabulary: Vocabulary, reference: Tokenizer
) -> None:
    whole = 0
    for token, data in enumerate(vocabulary.token_bytes):
        if token in vocabulary.control_texts.values():
            assert data == b""
            continue
        text = reference.decode([token], skip_special_tokens=False)
        assert data.decode("utf-8", "replace") == text
        whole += "\ufffd" not in text
    assert whole > 1000


def test_the_256_bytes_are_all_there_once(vocabulary: Vocabulary) -> None:
    single = [data for data in vocabulary.token_bytes if len(data) == 1]
    assert sorted(single) == [bytes([byte]) for byte in range(256)]
    assert sorted(byte_to_character()) == list(range(256))
    assert len(set(byte_to_character().values())) == 256


@pytest.mark.parametrize("character", [" ", "\x7f", "\xad", "\u0144", "中"])
def test_an_entry_out_of_the_alphabet_is_refused(character: str, tiny_tokenizer: Path) -> None:
    tree = json.loads((tiny_tokenizer / "tokenizer.json").read_bytes())
    tree["model"]["vocab"][f"a{character}"] = 400
    with pytest.raises(BadInput, match="is not in the byte-level alphabet"):
        parse_vocabulary(json.dumps(tree).encode(), where="x")


def test_control_ids_follow_the_vocabulary(vocabulary: Vocabulary) -> None:
    assert (vocabulary.control.bos, vocabulary.control.eos, vocabulary.control.pad) == (0, 1, 2)
    assert vocabulary.control.fim_hole == VOCAB_SIZE + 800
    assert vocabulary.control.fim_begin == VOCAB_SIZE + 801
    assert vocabulary.control.fim_end == VOCAB_SIZE + 802
    assert vocabulary.control_texts[special_tokens.USER] == VOCAB_SIZE + 803
    assert len(vocabulary.control_texts) == 818


def test_tables_over_embedding_rows(vocabulary: Vocabulary) -> None:
    control = [0, 1, 2, *range(VOCAB_SIZE, vocabulary.embedding_rows)]  # unused rows as well
    assert np.flatnonzero(vocabulary.is_control).tolist() == control
    assert not vocabulary.byte_lengths[control].any()
    rest = np.setdiff1d(np.arange(VOCAB_SIZE), control)
    assert vocabulary.byte_lengths[rest].tolist() == [
        len(vocabulary.token_bytes[token]) for token in rest
    ]
    assert (vocabulary.byte_lengths[rest] > 0).all()


def test_ids_that_begin_inside_a_code_point(vocabulary: Vocabulary) -> None:
    inside = vocabulary.starts_inside_codepoint
    for token, data in enumerate(vocabulary.token_bytes):
        assert inside[token] == (data != b"" and data[0] & 0xC0 == 0x80)
    assert inside.sum() >= 64


@pytest.mark.parametrize("at_once", [1, 7, 1 << 17])
def test_decoding_equals_joining_entry_by_entry(
    vocabulary: Vocabulary, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vocabulary_module, "_AT_ONCE", at_once)
    chance = np.random.default_rng(2)
    for size in (0, 1, 2, 7, 8, 500):
        ids = chance.integers(0, vocabulary.vocab_size, size).astype(np.int32)
        expected = b"".join(vocabulary.token_bytes[token] for token in ids.tolist())
        assert vocabulary.decode(ids) == expected


def test_decode_joins_bytes(vocabulary: Vocabulary, reference: Tokenizer) -> None:
    text = "Straße 中文 \U0001f600\n\n"
    ids = np.array([0, *reference.encode(text).ids, 1, VOCAB_SIZE + 801], dtype=np.int32)
    assert vocabulary.decode(ids) == text.encode()


def test_a_file_and_its_folder_are_the_same(vocabulary: Vocabulary, tiny_tokenizer: Path) -> None:
    assert load_vocabulary(tiny_tokenizer / "tokenizer.json") == vocabulary


@pytest.mark.parametrize("name", ["absent", "."])
def test_a_missing_tokenizer_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInput, match="the tokenizer cannot be read") as caught:
        load_vocabulary(tmp_path / name)
    assert str(tmp_path) in caught.value.where
    assert "dsv3data tokenizer train" in caught.value.fix


def change(tree: dict[str, Any], **values: Any) -> dict[str, Any]:
    return {**tree, **values}


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda tree: [tree], "it is not a tokenizer.json"),
        (lambda tree: {"model": {}}, "it is not a tokenizer.json: KeyError"),
        (lambda tree: change(tree, added_tokens=[{"content": "a"}]), "it is not a tokenizer.json"),
        (lambda tree: change(tree, added_tokens=5), "it is not a tokenizer.json"),
        (lambda tree: change(tree, pre_tokenizer="x"), "it is not a tokenizer.json"),
        (lambda tree: change(tree, pre_tokenizer=None), "it is not a byte-level BPE"),
        (
            lambda tree: change(tree, model={**tree["model"], "type": "WordPiece"}),
            "it is not a byte-level BPE",
        ),
        (lambda tree: change(tree, normalizer={"type": "NFC"}), "byte-level BPE without a normal"),
        (
            lambda tree: change(tree, model={**tree["model"], "vocab": {}}, added_tokens=[]),
            "it lacks the control token",
        ),
        (lambda tree: change(tree, added_tokens=[]), "it lacks the control token"),
        (
            lambda tree: change(tree, model={**tree["model"], "vocab": ["a", "b"]}),
            "it is not a tokenizer.json",
        ),
        (
            lambda tree: change(tree, model={**tree["model"], "vocab": {"a": "b"}}),
            "it is not a tokenizer.json",
        ),
        (
            lambda tree: change(tree, model={**tree["model"], "vocab": {"a": -1}}),
            "its ids are not from 0 to 16,777,215",
        ),
        (
            lambda tree: change(tree, model={**tree["model"], "vocab": {"a": 10**15}}),
            "its ids are not from 0 to 16,777,215",
        ),
        (
            lambda tree: change(tree, model={**tree["model"], "vocab": {"中": 3}}),
            "entry '中' is not in the byte-level alphabet",
        ),
    ],
)
def test_other_files_are_refused(
    vocabulary: Vocabulary, edit: Callable[[dict[str, Any]], Any], message: str
) -> None:
    data = json.dumps(edit(json.loads(vocabulary.tokenizer_json))).encode()
    with pytest.raises(BadInput) as caught:
        parse_vocabulary(data, where="here")
    assert "this tokenizer cannot be used: " in caught.value.what
    assert message in caught.value.what
    assert caught.value.where == "here"


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[" * 200_000])
def test_bytes_that_are_no_json_are_refused(data: bytes) -> None:
    with pytest.raises(BadInput, match=r"it is not a tokenizer\.json"):
        parse_vocabulary(data, where="here")


def test_an_empty_sequence_of_normalizers_is_none(vocabulary: Vocabulary) -> None:
    """As DeepSeek-V3's own file has it; one that does something is refused."""
    tree = json.loads(vocabulary.tokenizer_json)
    empty = change(tree, normalizer={"type": "Sequence", "normalizers": []})
    assert parse_vocabulary(json.dumps(empty).encode(), where="").token_bytes == (
        vocabulary.token_bytes
    )
    full = change(tree, normalizer={"type": "Sequence", "normalizers": [{"type": "NFC"}]})
    with pytest.raises(BadInput, match="byte-level BPE without a normal"):
        parse_vocabulary(json.dumps(full).encode(), where="")
