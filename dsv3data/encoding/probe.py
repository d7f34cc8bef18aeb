"""The text by which an engine proves, before it is used, that it gives the oracle's ids.

It has what engines differ in: characters of every block of Unicode (tables of another Unicode
version), text of control tokens, runs of white space and line ends, long runs without a break, and
entries of the vocabulary itself (tables of merges). About 450 KB, a third of a second of the
oracle. The test suite goes through all code points; this is the part that one can afford each time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dsv3data.encoding.vocabulary import Vocabulary

_PER_TEXT = 64
_LONG_RUN = 3000


class Difference(NamedTuple):
    """Where two engines part: token `place` of text `text`; -1 stands for "no more tokens"."""

    text: int
    place: int
    got: int
    expected: int

    def describe(self, vocabulary: Vocabulary) -> str:
        """`token 17 is 305 (b' the') instead of 262 (b' t')`."""
        named = [
            "missing" if token < 0 else f"{token} ({vocabulary.decode(np.array([token]))!r})"
            for token in (self.got, self.expected)
        ]
        return f"token {self.place:,} is {named[0]} instead of {named[1]}"


def compare(
    got: tuple[NDArray[np.int32], NDArray[np.int64]],
    expected: tuple[NDArray[np.int32], NDArray[np.int64]],
) -> Difference | None:
    """Where an engine's ids of some texts first differ from the oracle's."""
    if np.array_equal(got[0], expected[0]) and np.array_equal(got[1], expected[1]):
        return None
    for text in range(len(expected[1]) - 1):
        mine = got[0][got[1][text] : got[1][text + 1]]
        theirs = expected[0][expected[1][text] : expected[1][text + 1]]
        if not np.array_equal(mine, theirs):
            shorter = min(len(mine), len(theirs))
            unequal = np.flatnonzero(mine[:shorter] != theirs[:shorter])
            place = int(unequal[0]) if len(unequal) else shorter
            return Difference(text, place, _at(mine, place), _at(theirs, place))
    raise AssertionError("encodings that differ have a text that differs")


def _at(ids: NDArray[np.int32], place: int) -> int:
    return int(ids[place]) if place < len(ids) else -1


def probe_texts(vocabulary: Vocabulary) -> list[str]:
    """Texts that engines must agree on."""
    return [
        *_code_points(),
        *_control_texts(list(vocabulary.control_texts)),
        *_spaces(),
        *_long_runs(),
        *_entries(vocabulary),
    ]


def _code_points() -> Iterator[str]:
    """Every eighth character of the planes with letters, every 256th of the others; between
    letters and between spaces."""
    letters = [code for code in range(0, 0x20000, 8) if not 0xD800 <= code < 0xE000]
    chosen = [*range(0x100), *letters, *range(0x20000, 0x110000, 0x100)]
    for start in range(0, len(chosen), _PER_TEXT):
        characters = list(map(chr, chosen[start : start + _PER_TEXT]))
        yield "a".join(characters)
        yield " ".join(characters)


def _control_texts(texts: list[str]) -> Iterator[str]:
    yield from texts
    yield "".join(texts)
    yield " ".join(texts)
    for text in texts[-16:]:
        yield from (f"a{text}b", f"{text[:-1]} {text[1:]}", f"{text[:3]}{text}\n{text}")


def _spaces() -> Iterator[str]:
    ends = ("\n", "\r", "\r\n", "\n\r", "\t", "\u00a0", "\u3000", "\u2028", "\x85", "\0")
    for length in range(1, 24):
        yield " " * length + "a" + "\n" * length + " b" + "\t" * length
    for end in ends:
        yield "".join(f"x{end * number} y {end}.{end}!" for number in range(1, 9))
    yield "".join(f"{first}{second}{first} a" for first in ends for second in ends)
    yield " .\n\n ,\r\n;\r\n\r\n!?\n \n a'S 'll 'Re \"quoted\"\n) {\n}\n"


def _long_runs() -> Iterator[str]:
    for unit in ("a", " ", "\n", "=", "1", "中", "é", "ab", "aZ", "\u0301", "🙂", "\r\n", "-_"):
        yield unit * (_LONG_RUN // len(unit))
    yield "".join(chr(97 + number * number % 26) for number in range(_LONG_RUN))
    yield "".join(str(number) for number in range(_LONG_RUN // 3))


def _entries(vocabulary: Vocabulary) -> Iterator[str]:
    """Every 16th entry that is text, in groups, so that its merges are made."""
    entries = [data.decode("utf-8", "ignore") for data in vocabulary.token_bytes[::16]]
    for start in range(0, len(entries), _PER_TEXT):
        yield "".join(entries[start : start + _PER_TEXT])
        yield " ".join(entries[start : start + _PER_TEXT])
