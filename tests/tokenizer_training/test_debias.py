"""Splittable tokens: which they are, that bytes stay the same, and files that are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, pre_tokenizers

from dsv3data.contracts import special_tokens
from dsv3data.contracts.errors import BadInput
from dsv3data.encoding.vocabulary import (
    Vocabulary,
    byte_to_character,
    load_vocabulary,
    parse_vocabulary,
)
from dsv3data_tokenizer.debias import (
    DebiasTable,
    debias_json,
    debias_table,
    parse_debias,
    punctuation_break_ids,
)

CHARACTERS = byte_to_character()


def vocabulary_of(*tokens: bytes) -> Vocabulary:
    """Three control ids, then these tokens from id 3 on, then the added ones."""
    texts = ["".join(CHARACTERS[byte] for byte in token) for token in tokens]
    words = [*special_tokens.IN_VOCABULARY, *texts]
    added = [*special_tokens.IN_VOCABULARY, *special_tokens.ADDED]
    ids = {text: number for number, text in enumerate([*words, *special_tokens.ADDED])}
    tree = {
        "added_tokens": [{"id": ids[text], "content": text} for text in added],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel"},
        "model": {"type": "BPE", "vocab": {text: ids[text] for text in words}, "merges": []},
    }
    return parse_vocabulary(json.dumps(tree).encode(), where="a test")


def rows(table: DebiasTable) -> list[tuple[int, int, int]]:
    columns = (table.id, table.head, table.tail)
    assert {column.dtype for column in (*columns, table.left_out)} == {np.dtype(np.int32)}
    return list(zip(*(column.tolist() for column in columns), strict=True))


def test_each_token_is_split_where_the_line_breaks_begin() -> None:
    tokens = (
        b".",
        b"\n",
        b"\n\n",
        b".\n",
        b".\n\n",
        b" ;",
        b" ;\n",
        "。".encode(),
        "。\n".encode(),
    )
    table = debias_table(vocabulary_of(*tokens))
    assert rows(table) == [(6, 3, 4), (7, 3, 5), (9, 8, 4), (11, 10, 4)]
    assert len(table) == 4
    assert table.left_out.tolist() == []


def test_tokens_without_a_whole_head_or_tail_are_left_out() -> None:
    table = debias_table(vocabulary_of(b"\n", b")", b"))\n", b")\n\n", b")\r\n", b")\n"))
    assert rows(table) == [(8, 4, 3)]
    assert table.left_out.tolist() == [5, 6, 7]


@pytest.mark.parametrize(
    "token",
    [
        b"\n",
        b" \n",
        b"a\n",
        b".a\n",
        b"a.\n",
        b"  .\n",
        b".",
        b".\n.",
        b"\x80\x94\n",
        "—".encode()[1:] + b"\n",
        b"1.\n",
        ".\u3000\n".encode(),
        "\u0301\n".encode(),
    ],
)
def test_tokens_of_other_kinds(token: bytes) -> None:
    assert punctuation_break_ids(vocabulary_of(b"\n", token)) == []


@pytest.mark.parametrize("mark", ["_", "$", "→", "…", "😀", "`", "·", "¶"])
def test_symbols_count_as_punctuation(mark: str) -> None:
    assert punctuation_break_ids(vocabulary_of(b"\n", f"{mark}\n".encode())) == [4]


def fully_matched(text: str) -> bool:
    """The slow twin: the branch of the pre-tokenizer itself, on a whole token."""
    pattern = Regex(r"\A ?[\p{P}\p{S}]+[\r\n]+\z")
    split = pre_tokenizers.Split(pattern, behavior="removed")
    return bool(text) and split.pre_tokenize_str(text) == []


TEXTS = st.text(st.sampled_from(" ..;_—。$aé1中\n\n\r\u3000\u0301"), min_size=1, max_size=4)


@settings(max_examples=300, deadline=None)
@given(st.lists(TEXTS, min_size=4, max_size=24, unique=True))
def test_random_vocabularies(texts: list[str]) -> None:
    vocabulary = vocabulary_of(*(text.encode() for text in texts))
    table = debias_table(vocabulary)
    found = [number + 3 for number, text in enumerate(texts) if fully_matched(text)]
    assert punctuation_break_ids(vocabulary) == found
    assert sorted([*table.id.tolist(), *table.left_out.tolist()]) == found
    for token, head, tail in rows(table):
        whole = vocabulary.decode(np.array([token], dtype=np.int32))
        assert vocabulary.decode(np.array([head, tail], dtype=np.int32)) == whole
        assert set(vocabulary.token_bytes[tail]) <= set(b"\r\n")
        assert not vocabulary.token_bytes[head].endswith((b"\r", b"\n"))
    assert rows(parse_debias(debias_json(table, vocabulary), vocabulary, where="x")) == rows(table)


def test_a_trained_tokenizer(tiny_tokenizer: Path) -> None:
    vocabulary = load_vocabulary(tiny_tokenizer)
    table = debias_table(vocabulary)
    assert len(table) > 10
    assert len(table) + len(table.left_out) == len(punctuation_break_ids(vocabulary))
    assert all(first < second for first, second in pairwise(table.id.tolist()))
    assert vocabulary.token_bytes.index(b".\n") in table.id
    data = debias_json(table, vocabulary)
    assert json.loads(data)["tokenizer_sha256"] == vocabulary.sha256
    again = parse_debias(data, vocabulary, where="debias.json")
    assert rows(again) == rows(table)
    assert again.left_out.tolist() == table.left_out.tolist()


def test_an_empty_table() -> None:
    vocabulary = vocabulary_of(b"a")
    data = debias_json(debias_table(vocabulary), vocabulary)
    assert len(parse_debias(data, vocabulary, where="x")) == 0


TOKENS = (b".", b"\n", b".\n", b"\n\n", b".\n\n")
Change = Callable[[dict[str, Any]], Any]


def with_tokens(*tokens: Any) -> Change:
    return lambda tree: {**tree, "tokens": list(tokens)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tree: {**tree, "format": "x"}, "it is not a dsv3data.debias file of version 1"),
        (lambda tree: {**tree, "format_version": 2}, "it is not a dsv3data.debias file of"),
        (lambda tree: {**tree, "tokenizer_sha256": "0" * 64}, "it belongs to another tokenizer"),
        (with_tokens([7, 3, 6], [5, 3, 4]), "its ids are not in ascending order"),
        (with_tokens([5, 3, 4], [5, 3, 4]), "its ids are not in ascending order"),
        (with_tokens([5, 3, 6]), r"the bytes of the ids in \(5, 3, 6\) do not add up"),
        (with_tokens([5, 5, 0]), "do not add up"),
        (with_tokens([0, 1, 2]), "do not add up"),
        (with_tokens([5, 3, 1 << 40]), "do not add up"),
        (with_tokens([5, 3]), "its tokens are not rows of three ids"),
        (with_tokens([-1, 3, 4]), "its tokens are not rows of three ids"),
        (with_tokens([5, 3, True]), "its tokens are not rows of three ids"),
        (with_tokens([5, 3, "4"]), "its tokens are not rows of three ids"),
        (with_tokens(5), "it cannot be read: TypeError"),
        (lambda tree: {**tree, "left_out": [1.5]}, "its tokens are not rows of three ids"),
        (lambda tree: [tree], "it cannot be read: TypeError"),
        (lambda tree: {"format": tree["format"]}, "it cannot be read: KeyError"),
    ],
)
def test_files_that_are_refused(change: Change, message: str) -> None:
    vocabulary = vocabulary_of(*TOKENS)
    tree = json.loads(debias_json(debias_table(vocabulary), vocabulary))
    assert tree["tokens"] == [[5, 3, 4], [7, 3, 6]]
    data = json.dumps(change(tree)).encode()
    with pytest.raises(BadInput, match=message) as caught:
        parse_debias(data, vocabulary, where="tok/debias.json")
    assert "the table of splittable tokens cannot be used" in caught.value.what
    assert caught.value.where == "tok/debias.json"


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[" * 100_000])
def test_bytes_that_are_no_json(data: bytes) -> None:
    with pytest.raises(BadInput, match="it cannot be read"):
        parse_debias(data, vocabulary_of(*TOKENS), where="x")
