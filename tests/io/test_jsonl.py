"""Lines that the kernel takes apart are what the slow reading of them is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from dsv3data.io.sources.documents import Document, DocumentMaker, ReadOptions, Rejected
from dsv3data.io.sources.jsonl import FastLine, FastReader, read_slow
from dsv3data.io.sources.lines import Block

TEXTS = (
    st.sampled_from(["text", 'a "text"', "\\u0074", "\ud800", "\U0001f600", "é\x7f\u2028", "\0\n"])
    | st.text(max_size=8)
    # Longer than what the kernel looks at together, with marks anywhere in it.
    | st.text(st.sampled_from('ab{}[],:"\\\nü中🙂'), max_size=80)
    | st.text(st.sampled_from("x"), min_size=28, max_size=70)
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=1 << 63, max_value=1 << 70)
    | st.floats()
    | TEXTS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["text", "domain", "id", "k"]), inner, max_size=3)
    ),
    max_leaves=8,
)
KEYS = st.sampled_from(["text", "text", "domain", "id", "k", "te\\u0078t", "i\\u0064"])
PAIRS = st.lists(st.tuples(KEYS, VALUES | TEXTS), max_size=5)


def spelled(pairs: list[tuple[str, Any]], escape: bool, comma: str = ", ") -> bytes:
    fields = (f'"{key}": {json.dumps(value, ensure_ascii=escape)}' for key, value in pairs)
    return ("{" + comma.join(fields) + "}").encode("utf-8", "surrogatepass")


def fast_lines(data: bytes, options: ReadOptions) -> list[FastLine]:
    reader = FastReader(options)
    return [*reader.read(Block(0, len(data), data + b'"' * reader.beyond))]


def made(line: FastLine, options: ReadOptions) -> Document | Rejected | None:
    """The document or rejection of a plain line."""
    if line.fields is None:
        return None
    return DocumentMaker("x", options).make(line.fields, line.start, line.n_bytes)


@settings(max_examples=1500, deadline=None)
@given(PAIRS, st.booleans(), st.just(b"") | st.binary(max_size=2), st.sampled_from(["", "id", "k"]))
def test_a_line(pairs: list[tuple[str, Any]], escape: bool, noise: bytes, id_key: str) -> None:
    options = ReadOptions(id_key=id_key)
    data = (spelled(pairs, escape) + noise).replace(b"\n", b"")
    (line,) = fast_lines(data, options)
    assert (line.start, line.stop) == (0, len(data))
    item = made(line, options)
    event("slow only" if item is None else "both")
    assert item in (None, read_slow(data, 0, "x", options))


@settings(max_examples=500, deadline=None)
@given(st.lists(st.tuples(PAIRS, st.integers(0, 200), st.binary(max_size=1)), max_size=6))
def test_damaged_lines_among_others(lines: list[tuple[list[tuple[str, Any]], int, bytes]]) -> None:
    """A byte of some is gone or another one; the others are found where they are."""
    options, data = ReadOptions(), []
    for pairs, place, noise in lines:
        line = spelled(pairs, escape=False)
        data.append(line[:place] + noise + line[place + 1 :])
    block = b"\n".join(data)
    whole = block.split(b"\n")
    if whole[-1] == b"":
        whole.pop()
    found = fast_lines(block, options)
    assert [block[line.start : line.stop] for line in found] == whole
    for line, piece in zip(found, whole, strict=True):
        item = made(line, options)
        event("slow only" if item is None else "both")
        assert item in (None, read_slow(piece, line.start, "x", options))


@pytest.mark.parametrize(
    ("spelling", "text"),
    [
        (r"\"\\\/\b\f\n\r\t", '"\\/\b\f\n\r\t'),
        (r"\u0041\u00e9\u4e2d\uABCD", "Aé中\uabcd"),
        (r"\ud83d\ude42\uDBFF\uDFFF", "🙂\U0010ffff"),
        (r"\u0000", "\0"),
        ("é中🙂\x7f\u2028", "é中🙂\x7f\u2028"),
        (
            "x" * 31 + r"\n" + "x" * 32 + r"\u4e2d" + "x" * 33,
            "x" * 31 + "\n" + "x" * 32 + "中" + "x" * 33,
        ),
        ("{[]},:" * 20, "{[]},:" * 20),
    ],
)
@pytest.mark.parametrize(
    "around", ['{"text":"%s"}', ' { "k" : [{"k": ["]"]}] ,\t"text" :\r "%s" , "n":1 } ']
)
def test_the_kernel_reads_all_valid_spellings(spelling: str, text: str, around: str) -> None:
    (line,) = fast_lines((around % spelling).encode(), ReadOptions())
    assert line.fields is not None
    assert line.fields["text"] == text
    assert line.n_bytes == len(text.encode())


@pytest.mark.parametrize(
    "text",
    [
        *(b"\\ud83d", b"\\ude42", b"\\ud83d\\u0041", b"\\ud83d\\ud83d", b"\\ud83dx\\ude42"),
        *(b"\\u12", b"\\u12g4", b"\\u-123", b"\\x41", b"\\", b"\x1f", b"\xff", b"\xed\xa0\x80"),
    ],
)
@pytest.mark.parametrize("behind", [b"", b"z" * 40])
def test_the_kernel_leaves_what_is_not_valid(text: bytes, behind: bytes) -> None:
    (line,) = fast_lines(b'{"text": "' + text + behind + b'"}', ReadOptions())
    assert line.fields is None


def test_more_lines_than_are_taken_apart_at_a_time() -> None:
    data = b"".join(b'{"text": "%d"}\n' % number for number in range(10_000))
    found = fast_lines(data, ReadOptions())
    assert [line.fields for line in found] == [{"text": str(number)} for number in range(10_000)]


def test_a_text_key_that_json_may_spell_in_many_ways_is_left_to_the_slow_reading() -> None:
    (line,) = fast_lines('{"tëxt": "a"}'.encode(), ReadOptions(text_key="tëxt"))
    assert line.fields is None


def test_the_name_of_a_field_may_be_the_value_of_another() -> None:
    (line,) = fast_lines(b'{"kind": "text", "domain": "text", "text" : "a"}', ReadOptions())
    assert line.fields == {"kind": "text", "domain": "text", "text": "a"}
