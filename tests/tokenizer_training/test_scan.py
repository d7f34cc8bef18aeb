"""The scanner against Hugging Face's pre-tokenizer and against the patterns themselves."""

from __future__ import annotations

import random
import sysconfig
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, pre_tokenizers

from dsv3data_tokenizer import reference
from dsv3data_tokenizer.pretokenizer import PATTERNS
from dsv3data_tokenizer.scan import PADDING_BYTES, Scanner
from dsv3data_tokenizer.unicode_classes import (
    ASCII_LETTER,
    HAN_OTHER,
    LETTER,
    LINE_BREAK,
    NUMBER,
    OTHER,
    probe,
    properties,
    scanner_classes,
)

HUGGING_FACE = pre_tokenizers.Sequence(
    [pre_tokenizers.Split(Regex(pattern), behavior="isolated") for pattern in PATTERNS]
)
# Two or more of each class of the scanner, and what other definitions of the classes put elsewhere:
# separators U+001C and U+2028, NEL, zero width joiner, marks and unassigned code points in the kana
# block, an extension of Han, private use, the last plane.
TELLING = (
    " \t\v\f\r\n\x1c\x85\xa0\u2028\u2029\u3000\u200d\ufeff\x00\x7faZzéßЖ가ＡǅｶaAz09٣½Ⅷ²"
    "!\"'(_-.~^`$€→。、·😀\u0301\u0300\u0903中一龥龦㐀豈かァー・゛゜"
    "\u3040\u3097\u3099\u309a\u30a0\ue000\U000e0001\U0010ffff𠀀"
)


def cut(documents: Sequence[bytes], *, at_once: int = 1000) -> list[bytes]:
    """The scanner's pieces of a batch of documents, at most `at_once` in one call."""
    data = np.frombuffer(bytearray(b"".join(documents)) + bytes(PADDING_BYTES), dtype=np.uint8)
    stops = np.cumsum([len(document) for document in documents], dtype=np.int64)
    scanner = Scanner(data, stops, scanner_classes())
    ends = np.empty(at_once, dtype=np.int64)
    found, start = [], 0
    while count := scanner.next_ends(ends):
        for end in ends[:count].tolist():
            found.append(data[start:end].tobytes())
            start = end
        assert scanner.position == start
    return found


def by_hugging_face(text: str) -> list[bytes]:
    return [piece.encode() for piece, _ in HUGGING_FACE.pre_tokenize_str(text)]


def by_patterns(text: str) -> list[bytes]:
    return [piece.encode() for piece in reference.pieces(text)]


def random_texts(count: int, seed: int) -> list[str]:
    """Mixtures of telling characters, in runs, with any code point of any plane."""
    chance = random.Random(seed)
    texts = []
    for _ in range(count):
        characters = [
            chance.choice(TELLING)
            if chance.random() < 0.8
            else chr(chance.choice([chance.randrange(0xD800), chance.randrange(0xE000, 0x110000)]))
            for _ in range(chance.randrange(24))
        ]
        longest = chance.choice([1, 1, 2, 5])
        texts.append("".join(one * chance.randint(1, longest) for one in characters))
    return texts


def test_the_properties_of_every_code_point_are_those_of_the_installed_tokenizers() -> None:
    asked = probe()
    differing = np.flatnonzero(asked != properties())
    assert len(asked) - 2048 == 1_112_064
    assert not len(differing), (
        f"{len(differing)} code points, the first U+{differing[0]:04X}: `tokenizers` has another "
        "Unicode version; run python -m dsv3data.encoding.unicode_properties"
    )


def test_the_classes_of_the_scanner() -> None:
    classes = scanner_classes()
    wanted = {"a": ASCII_LETTER, "é": LETTER, "\r": LINE_BREAK, "Ⅷ": NUMBER, "\u200d": OTHER}
    for character, kind in {**wanted, "\u3040": HAN_OTHER, "\u0301": LETTER}.items():
        assert classes[ord(character)] == kind
    assert len(np.unique(classes)) == 12


def test_pieces_of_random_texts_of_all_planes() -> None:
    texts = random_texts(20_000, seed=1)
    found = cut([text.encode() for text in texts])
    assert found == [piece for text in texts for piece in by_hugging_face(text)]
    assert found == [piece for text in texts for piece in by_patterns(text)]
    planes = Counter(ord(character) >> 16 for text in texts for character in text)
    assert len(planes) == 17
    assert len(found) > 150_000


def test_a_document_ends_where_it_ends() -> None:
    texts = ["ab", "c", "", "  ", " x", "1", "23", "!\n", "\n"]
    assert cut([text.encode() for text in texts]) == [
        piece for text in texts for piece in by_hugging_face(text)
    ]


@pytest.mark.parametrize("at_once", [1, 2, 3, 7])
def test_the_scanner_can_stop_after_any_piece(at_once: int) -> None:
    data = [text.encode() for text in random_texts(200, seed=2)]
    assert cut(data, at_once=at_once) == cut(data)


@given(st.text(st.sampled_from(TELLING) | st.characters(exclude_categories=["Cs"]), max_size=40))
@settings(max_examples=300, deadline=None)
def test_pieces_of_any_text(text: str) -> None:
    assert cut([text.encode()]) == by_hugging_face(text) == by_patterns(text)


def test_pieces_of_real_files() -> None:
    library = Path(sysconfig.get_paths()["stdlib"])
    size = 0
    for path in sorted(library.glob("*.py"))[:60] + sorted(library.glob("test/**/*.txt"))[:20]:
        data = path.read_bytes()
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            continue
        assert cut([data]) == by_hugging_face(text)
        size += len(data)
    assert size > 1 << 20


@pytest.mark.parametrize(
    "run", ["a", " ", "é", "\n", "1", "中", "!", " \n", "\u200d", "・", "\u3040"]
)
def test_a_run_without_a_break_takes_linear_time(run: str) -> None:
    """Ten megabytes: a quadratic scan would take hours."""
    text = run * (10_000_000 // len(run.encode()))
    pieces = cut([text.encode()], at_once=1 << 16)
    assert b"".join(pieces) == text.encode()
    assert len(pieces) == (-(-len(text) // 3) if run == "1" else 1)


def test_a_buffer_without_padding_is_refused() -> None:
    with pytest.raises(ValueError, match="hold no 3 bytes of text and padding"):
        Scanner(np.zeros(3, dtype=np.uint8), np.array([3]), scanner_classes())
