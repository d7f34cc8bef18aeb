"""Control tokens: DeepSeek-V3's published ids."""

from __future__ import annotations

import pytest

from dsv3data.contracts import special_tokens
from dsv3data.contracts.special_tokens import ADDED, IN_VOCABULARY, padded_vocab_size

V3_ENTRIES = 128_000


@pytest.mark.parametrize(
    ("text", "token"),
    [
        ("<｜place▁holder▁no▁0｜>", 128_000),
        ("<｜place▁holder▁no▁799｜>", 128_799),
        ("<｜fim▁hole｜>", 128_800),
        ("<｜fim▁begin｜>", 128_801),
        ("<｜fim▁end｜>", 128_802),
        ("<｜User｜>", 128_803),
        ("<｜Assistant｜>", 128_804),
        ("<|EOT|>", 128_805),
        ("<｜tool▁calls▁begin｜>", 128_806),
        ("<｜tool▁sep｜>", 128_814),
    ],
)
def test_added_tokens_have_the_published_ids(text: str, token: int) -> None:
    assert V3_ENTRIES + ADDED.index(text) == token


def test_ids_inside_the_vocabulary() -> None:
    expected = ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>")
    assert expected == IN_VOCABULARY


def test_there_are_128_815_ids_in_all() -> None:
    assert len(ADDED) == 815
    assert V3_ENTRIES + len(ADDED) == 128_815
    assert len({*ADDED, *IN_VOCABULARY}) == 818


def test_texts_use_the_fullwidth_bar_and_the_low_line() -> None:
    assert special_tokens.FIM_HOLE.encode() == b"<\xef\xbd\x9cfim\xe2\x96\x81hole\xef\xbd\x9c>"


@pytest.mark.parametrize(
    ("count", "rows"), [(1, 128), (127, 128), (128, 128), (129, 256), (128_815, 128_896)]
)
def test_embedding_rows(count: int, rows: int) -> None:
    assert padded_vocab_size(count) == rows
