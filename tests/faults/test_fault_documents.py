"""Hostile and odd documents: control-token text, broken Unicode, strange JSON, nothing at all.

Every document is in the output exactly once, byte for byte, or in rejected.jsonl with its reason.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dsv3data.audit.verify import verify
from dsv3data.contracts import special_tokens
from dsv3data.contracts.progress import NullSink
from dsv3data.encoding.huggingface import HuggingFaceEncoder
from dsv3data.encoding.vocabulary import load_vocabulary
from dsv3data.packing.config import PackConfig
from read_sets import counts_of, documents_in, reassembled, rejections_in, texts_in
from tiny_data import pack_tiny, tokenize_tiny, train_tiny_tokenizer, write_texts
from warm_cli import WarmCli

CONTROL_TEXTS = (*special_tokens.IN_VOCABULARY, *special_tokens.ADDED)
ZERO_WIDTH = ("\u200b", "\u200c", "\u200d", "\u2060", "\ufeff", "\u00ad")

BAD_UTF8 = [
    *[text.encode()[:cut] for text in "é中🎈" for cut in range(1, len(text.encode()))],
    *[b"\x80", b"\xbf", b"\x80\x80\x80\x80", b"\xfe", b"\xff", b"\xff\xfe\xfd"],
    *[b"\xc0\x80", b"\xc1\xbf", b"\xe0\x80\x80", b"\xe0\x9f\xbf", b"\xf0\x80\x80\x80"],
    *[b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xed\xa0\xbd\xed\xb8\x80"],  # surrogates, CESU-8 pair
    *[b"\xf4\x90\x80\x80", b"\xf5\x80\x80\x80", b"\xf8\x88\x80\x80\x80"],
]

Tokenize = Callable[..., Path]


@pytest.fixture
def made(tiny_tokenizer: Path, fast_tmp: Path) -> Tokenize:
    """(input, options) → its token set, verified."""
    number = iter(range(1_000))

    def make(source: Path, **options: object) -> Path:
        out = tokenize_tiny(source, tiny_tokenizer, fast_tmp / f"tokens-{next(number)}", **options)
        verify(out, sink=NullSink())
        return out

    return make


# Control tokens in text


def test_no_text_of_a_control_token_becomes_one(
    made: Tokenize, tiny_tokenizer: Path, fast_tmp: Path
) -> None:
    assert len(set(CONTROL_TEXTS)) == 818
    whole = [*CONTROL_TEXTS, "".join(CONTROL_TEXTS)]
    whole += [f"a{text}b {text}\n{text}{text}" for text in CONTROL_TEXTS[::17]]
    whole += [outer[:4] + inner + outer[4:] for outer in CONTROL_TEXTS[:3] for inner in whole[:5]]
    parts = [text[:cut] for text in CONTROL_TEXTS[::31] for cut in range(1, len(text))]
    parts += [text[:3] + joint + text[3:] for text in CONTROL_TEXTS[::31] for joint in ZERO_WIDTH]
    tokens = made(write_texts(fast_tmp / "in.jsonl", [*whole, *parts]))
    assert texts_in(tokens) == [*whole, *parts]
    counts = counts_of(tokens)
    assert counts["rejected"] == counts["empty"] == 0
    expected = sum(any(text in document for text in CONTROL_TEXTS) for document in whole + parts)
    assert counts["control_text_documents"] == expected >= 860
    control = set(load_vocabulary(tiny_tokenizer).control_texts.values())
    assert len(control) == 818
    assert not control & {token for document in documents_in(tokens) for token in document.ids}

    packed = pack_tiny(tokens, fast_tmp / "packed", config=PackConfig(context=64, fim_rate=1.0))
    verify(packed, sink=NullSink())
    assert counts_of(packed)["fim"]["documents_fim"] > 500
    texts = reassembled(packed)
    documents = documents_in(tokens)
    assert [texts[one.source, one.position].decode() for one in documents] == [*whole, *parts]


fragments = st.one_of(
    st.sampled_from(CONTROL_TEXTS),
    st.sampled_from(CONTROL_TEXTS).flatmap(
        lambda text: st.tuples(st.integers(0, len(text)), st.integers(0, len(text))).map(
            lambda cut: text[min(cut) : max(cut)]
        )
    ),
    st.sampled_from(["<", "<|", "<｜", "｜>", "|>", "▁", "EOT", *ZERO_WIDTH]),
    st.text(max_size=6),
)


def test_no_text_at_all_becomes_a_control_token(tiny_tokenizer: Path) -> None:
    vocabulary = load_vocabulary(tiny_tokenizer)
    encoder = HuggingFaceEncoder(vocabulary)
    with_control = 0

    @settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(fragments, max_size=12).map("".join))
    def check(text: str) -> None:
        nonlocal with_control
        ids, _ = encoder.encode([text])
        assert not vocabulary.is_control[ids].any()
        assert vocabulary.decode(ids).decode() == text
        with_control += any(control in text for control in CONTROL_TEXTS)

    check()
    assert with_control > 50


def test_a_tokenizer_trained_on_control_text_learns_no_second_way_to_it(fast_tmp: Path) -> None:
    texts = [f"{text} {text}{text}\n" * 20 for text in CONTROL_TEXTS[-20:]]
    source = write_texts(fast_tmp / "in.jsonl", texts)
    vocabulary = load_vocabulary(
        train_tiny_tokenizer(source, fast_tmp / "tokenizer", vocab_size=320)
    )
    assert len(set(vocabulary.control_texts.values())) == 818
    ids, _ = HuggingFaceEncoder(vocabulary).encode(texts)
    assert not vocabulary.is_control[ids].any()
    assert vocabulary.decode(ids).decode() == "".join(texts)


# Broken Unicode


def test_invalid_utf8_is_rejected_with_its_offset_or_replaced_and_counted(
    made: Tokenize, fast_tmp: Path
) -> None:
    good = '{"text": "good 中"}\n'.encode()
    lines = [b'{"text": "ab' + bad + b'cd"}' for bad in BAD_UTF8]
    source = fast_tmp / "in.jsonl"
    source.write_bytes(good + b"\n".join(lines) + b"\n" + good)
    tokens = made(source)
    assert texts_in(tokens) == ["good 中", "good 中"]
    rejections = rejections_in(tokens)
    assert [one["line"] for one in rejections] == list(range(2, 2 + len(lines)))
    assert {one["reason"] for one in rejections} == {"bad-utf8"}
    assert all(one["detail"].startswith("byte 12 of the line: ") for one in rejections)
    assert counts_of(tokens)["rejected"] == len(lines)

    tokens = made(source, on_bad_utf8="replace")
    expected = [b"ab" + bad + b"cd" for bad in BAD_UTF8]
    assert texts_in(tokens)[1:-1] == [data.decode("utf-8", "replace") for data in expected]
    assert all("\ufffd" in text for text in texts_in(tokens)[1:-1])
    assert counts_of(tokens)["replaced_characters_documents"] == len(lines)
    assert counts_of(tokens)["documents"] == len(lines) + 2


def test_invalid_utf8_in_text_files(made: Tokenize, fast_tmp: Path) -> None:
    folder = fast_tmp / "in"
    folder.mkdir()
    for number, bad in enumerate(BAD_UTF8):
        (folder / f"{number:02d}.txt").write_bytes(b"\n" * number + bad + b"end")
    tokens = made(folder)
    assert not documents_in(tokens)
    offsets = [int(one["detail"].split()[1]) for one in rejections_in(tokens)]
    assert offsets == list(range(len(BAD_UTF8)))
    tokens = made(folder, on_bad_utf8="replace")
    assert counts_of(tokens)["replaced_characters_documents"] == len(BAD_UTF8)


@pytest.mark.parametrize(
    "escaped",
    ["\\ud83d", "\\ude00", "a\\ud83db", "\\ude00\\ud83d", "\\ud83d\\ud83d\\ude00", "\\udfff\\n"],
)
def test_a_lone_surrogate_is_no_text(escaped: str, made: Tokenize, fast_tmp: Path) -> None:
    source = fast_tmp / "in.jsonl"
    source.write_text(f'{{"text": "{escaped}"}}\n{{"text": "\\ud83d\\ude00"}}\n')
    tokens = made(source)
    assert texts_in(tokens) == ["😀"]  # a valid pair is one character
    (rejection,) = rejections_in(tokens)
    assert (rejection["reason"], rejection["line"]) == ("lone-surrogate", 1)
    assert rejection["detail"] == f"at character {1 if escaped[0] == 'a' else 0}"
    tokens = made(source, on_bad_utf8="replace")
    assert len(documents_in(tokens)) == 2
    text = texts_in(tokens)[0]
    assert "\ufffd" in text
    assert text.replace("\ufffd", "") in ("", "ab", "😀", "\n")
    assert counts_of(tokens)["replaced_characters_documents"] == 1


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ('"id": "1", "domain": "\\ud83d"', "domain-name"),
        ('"id": "1", "other": "\\ud83d"', ""),
        ('"id": "1", "\\ud83d": 1', ""),
        ('"id": "\\ud83d"', ""),
        ('"\\ud83d": "1"', "no-id"),
    ],
)
def test_a_lone_surrogate_in_another_field_is_no_crash(
    fields: str, reason: str, made: Tokenize, fast_tmp: Path
) -> None:
    source = fast_tmp / "in.jsonl"
    source.write_text(f'{{"text": "t", {fields}}}\n')
    tokens = made(source, id_key="id")
    assert texts_in(tokens) == ([] if reason else ["t"])
    assert [one["reason"] for one in rejections_in(tokens)] == ([reason] if reason else [])


# Exact text


ODD_TEXTS = [
    "a\0b",
    "\ufeffBOM first",
    "BOM \ufeff inside",
    "\r\n\r\n",
    "a\r\nb\rc\n",
    "line\u2028separator\u2029paragraph\u0085next",
    "\u202eright to left\u202c شكرا",
    "\ufffe\uffff\U0010ffff\ufdd0",
    "\x1b[31mred\x1b[0m\x07\x08",
    "é",
    "e\u0301",
    "👩\u200d👩\u200d👧🏽",
    " leading and trailing \t ",
    "\u3000\u00a0",
    "1" * 2_000,
    "A" * 5_000,
    "\n" * 1_000,
    "中" * 3_000,
    "a\u0300" * 500,
]


def test_odd_texts_come_back_exactly(made: Tokenize, fast_tmp: Path) -> None:
    folder = fast_tmp / "in"
    folder.mkdir()
    write_texts(folder / "in.jsonl", ODD_TEXTS)
    for number, text in enumerate(ODD_TEXTS):
        (folder / f"text-{number:02d}.txt").write_bytes(text.encode())
    tokens = made(folder)
    assert texts_in(tokens) == ODD_TEXTS * 2
    packed = pack_tiny(tokens, fast_tmp / "packed", config=PackConfig(context=32, fim_rate=0.7))
    verify(packed, sink=NullSink())
    texts = reassembled(packed)
    for number, text in enumerate(ODD_TEXTS):
        assert texts[f"text-{number:02d}.txt", 0].decode() == text
    assert len(texts) == 2 * len(ODD_TEXTS)


def test_a_byte_order_mark_before_json_is_no_part_of_it(made: Tokenize, fast_tmp: Path) -> None:
    source = fast_tmp / "in.jsonl"
    source.write_bytes(b'\xef\xbb\xbf{"text": "one"}\r\n{"text": "two"}\r\n')
    assert texts_in(made(source)) == ["one", "two"]


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(texts=st.lists(st.text(min_size=1, max_size=40), min_size=1, max_size=20))
def test_any_text_comes_back_exactly(texts: list[str], tiny_tokenizer: Path) -> None:
    encoder = HuggingFaceEncoder(vocabulary := load_vocabulary(tiny_tokenizer))
    ids, offsets = encoder.encode(texts)
    parts = [ids[a:b] for a, b in itertools.pairwise(offsets)]
    assert [vocabulary.decode(part).decode() for part in parts] == texts
    assert np.concatenate(parts).dtype == np.int32


# Nothing


def test_empty_inputs(made: Tokenize, fast_tmp: Path) -> None:
    folder = fast_tmp / "in"
    folder.mkdir()
    for name, data in {
        "empty.jsonl": b"",
        "blank.jsonl": b"\n  \n\r\n\t\n",
        "empty-text.jsonl": b'{"text": ""}\n{"text": ""}',
        "no-newline.jsonl": b'{"text": "last line"}',
        "white.jsonl": b'{"text": " "}\n{"text": "\\n\\t"}\n',
        "one-byte.txt": b"x",
        "empty.txt": b"",
        "white.txt": b" \n",
        "bom.txt": b"\xef\xbb\xbf",
    }.items():
        (folder / name).write_bytes(data)
    tokens = made(folder)
    found = {(one.source, one.data) for one in documents_in(tokens)}
    assert found == {
        ("no-newline.jsonl", b"last line"),
        ("white.jsonl", b" "),
        ("white.jsonl", b"\n\t"),
        ("one-byte.txt", b"x"),
        ("white.txt", b" \n"),
        ("bom.txt", b"\xef\xbb\xbf"),
    }
    counts = counts_of(tokens)
    assert (counts["documents"], counts["empty"], counts["rejected"]) == (6, 3, 0)
    assert {one["reason"] for one in rejections_in(tokens)} == {"empty"}
    assert min(len(one.ids) for one in documents_in(tokens)) >= 1
    packed = pack_tiny(tokens, fast_tmp / "packed", config=PackConfig(context=16, fim_rate=1.0))
    verify(packed, sink=NullSink())
    assert len(reassembled(packed)) == 6


def test_no_document_at_all(made: Tokenize, fast_tmp: Path, warm: WarmCli) -> None:
    source = fast_tmp / "in.jsonl"
    source.write_bytes(b'{"text": ""}\n')
    tokens = made(source)
    assert counts_of(tokens)["documents"] == 0
    run = warm.run("pack", tokens, "--out", fast_tmp / "out")
    assert run.code == 3
    assert "the token set has no document" in run.err


# Strange JSON

STRANGE = [
    (b'{"text": NaN}', "bad-json"),
    (b'{"text": "a", "score": Infinity}', "bad-json"),
    (b'{"text": "a", "text": "b"}', "bad-json"),
    (b'{"text": "a", "meta": {"text": 1, "text": 2}}', "bad-json"),
    (b"[" * 100_000, "bad-json"),
    (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, "bad-json"),
    (b'{"text": "a", "n": ' + b"9" * 10_000 + b"}", "bad-json"),
    (b'{"text": "a"', "bad-json"),
    (b'{"text": "a"} {"text": "b"}', "bad-json"),
    (b"{'text': 'a'}", "bad-json"),
    (b'{"text": "a\tb"}', "bad-json"),
    (b'{"text": "\\x41"}', "bad-json"),
    (b'"a string"', "bad-json"),
    (b"[]", "bad-json"),
    (b"null", "bad-json"),
    (b"17", "bad-json"),
    (b'{"content": "a"}', "no-text-field"),
    (b"{}", "no-text-field"),
    (b'{"text": null}', "text-not-string"),
    (b'{"text": 17}', "text-not-string"),
    (b'{"text": ["a"]}', "text-not-string"),
    (b'{"text": {"a": "b"}}', "text-not-string"),
    (b'{"text": true}', "text-not-string"),
    (b'{"text": "a", "domain": "../../etc"}', "domain-name"),
    (b'{"text": "a", "domain": "a b"}', "domain-name"),
]


def test_strange_json_is_rejected_by_line_and_reason(
    made: Tokenize, fast_tmp: Path, rng: random.Random
) -> None:
    lines: list[tuple[bytes, str]] = [*STRANGE, *[(b'{"text": "fine"}', "")] * 200]
    rng.shuffle(lines)
    source = fast_tmp / "in.jsonl"
    source.write_bytes(b"\n".join(line for line, _ in lines) + b"\n")
    expected = [(n, reason) for n, (_, reason) in enumerate(lines, start=1) if reason]
    for unit_bytes in (64 << 20, 1_024):  # line numbers are of the file, however it is cut
        tokens = made(source, unit_bytes=unit_bytes)
        found = [(one["line"], one["reason"]) for one in rejections_in(tokens)]
        assert found == expected
        assert texts_in(tokens) == ["fine"] * 200
        offsets = [one["position"] for one in rejections_in(tokens)]
        data = source.read_bytes()
        assert all(offset == 0 or data[offset - 1 : offset] == b"\n" for offset in offsets)


def test_numbers_that_json_allows_are_no_reason_to_reject(made: Tokenize, fast_tmp: Path) -> None:
    source = fast_tmp / "in.jsonl"
    source.write_text(json.dumps({"text": "a", "n": 10**400, "m": 1e300}) + "\n")
    assert texts_in(made(source)) == ["a"]
