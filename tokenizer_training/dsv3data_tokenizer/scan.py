"""DeepSeek-V3's pre-tokenizer as a scanner over UTF-8 bytes.

The three splits of `pretokenizer` are applied one after the other, so the borders made by an
earlier split are the ends of the text for a later one. Digits, runs of Han and kana, and the rest
are therefore three kinds of segment; a piece lies within one segment, and all that a piece's end
depends on lies at or behind its start. So the scanner can stop after any piece and go on later.
A piece takes one look at its first characters and one run: the cost is linear, with at most two
looks at a run of white space, however long.

`reference.pieces` is the slow twin: the patterns themselves.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dsv3data.compiled import compiled, inlined, load_u64, trailing_zeros
from dsv3data_tokenizer.unicode_classes import (
    ASCII_LETTER,
    ASCII_PUNCTUATION,
    BLANK,
    HAN_LETTER,
    HAN_OTHER,
    HAN_PUNCTUATION,
    LETTER,
    LINE_BREAK,
    NUMBER,
    OTHER,
    PUNCTUATION,
    SPACE,
)

# Kernels load whole words, so a buffer reaches this far beyond its text.
PADDING_BYTES = 8

# Eight bytes at once: is each one an ASCII letter? With bit 5 set and bit 7 cleared a letter lies
# in 0x61..0x7A; adding 0x1F carries into bit 7 from 0x61 on, adding 0x05 from 0x7B on.
_BIT_7 = np.uint64(0x8080808080808080)
_BITS_0_TO_6 = np.uint64(0x7F7F7F7F7F7F7F7F)
_BIT_5 = np.uint64(0x2020202020202020)
_FROM_A = np.uint64(0x1F1F1F1F1F1F1F1F)
_BEYOND_Z = np.uint64(0x0505050505050505)
_NO_BITS = np.uint64(0)

_LETTERS = LETTER | ASCII_LETTER
_PUNCTUATIONS = PUNCTUATION | ASCII_PUNCTUATION
_BLANKS = SPACE | BLANK | LINE_BREAK
# What may lead letters, besides an ASCII mark of punctuation before ASCII letters.
_LEADING = SPACE | BLANK | OTHER
# Other kinds of segment than the one with words: the first two splits cut in front of these.
_OTHER_SEGMENTS = NUMBER | HAN_OTHER | HAN_LETTER | HAN_PUNCTUATION
_LINE_FEED, _RETURN = 10, 13


class Scanner:
    """Cuts a batch of documents into pieces, some at a time.

    Args:
        data: uint8 [N + PADDING_BYTES], the documents one behind the other, each valid UTF-8.
        stops: int64 [D], where each document ends in `data`; the last is N.
        classes: `unicode_classes.scanner_classes()`.
    """

    def __init__(
        self, data: NDArray[np.uint8], stops: NDArray[np.int64], classes: NDArray[np.uint16]
    ) -> None:
        text_bytes = int(stops[-1]) if len(stops) else 0
        if len(data) < text_bytes + PADDING_BYTES:
            raise ValueError(f"{len(data)} bytes hold no {text_bytes} bytes of text and padding")
        self._data = data
        self._stops = stops
        self._classes = classes
        self._cursor = np.zeros(2, dtype=np.int64)

    @property
    def position(self) -> int:
        """Where the next piece begins in `data`."""
        return int(self._cursor[1])

    def next_ends(self, out: NDArray[np.int64]) -> int:
        """Write where the next pieces end in `data` to `out`; their number, 0 at the end."""
        return int(_scan(self._data, self._stops, self._classes, self._cursor, out))


@compiled
def _scan(
    data: NDArray[np.uint8],
    stops: NDArray[np.int64],
    classes: NDArray[np.uint16],
    cursor: NDArray[np.int64],
    ends: NDArray[np.int64],
) -> int:
    """Pieces from (document, position) = `cursor` on, until `ends` is full."""
    document, position = cursor
    count = 0
    while document < len(stops) and count < len(ends):
        stop = stops[document]
        while position < stop and count < len(ends):
            position = _piece_end(data, position, stop, classes)
            ends[count] = position
            count += 1
        if position == stop:
            document += 1
    cursor[0] = document
    cursor[1] = position
    return count


@inlined
def _piece_end(data: NDArray[np.uint8], start: int, stop: int, classes: NDArray[np.uint16]) -> int:
    """End of the piece that begins at `start`. Runs and the one character that may lead them."""
    kind, position = _character(data, start, classes)
    if not kind & _LETTERS and position < stop:
        following, third = _character(data, position, classes)
        if kind == ASCII_PUNCTUATION and following == ASCII_LETTER:
            return _ascii_letters_end(data, third, stop)
        if (
            (kind & _LEADING and following & _LETTERS)
            or (kind == SPACE and following & _PUNCTUATIONS)
            or (kind == HAN_OTHER and following == HAN_LETTER)
        ):
            kind, position = following, third
    if kind & _LETTERS:
        return _letters_end(data, position, stop, classes)
    if kind & _PUNCTUATIONS:
        return _punctuation_end(data, position, stop, classes)
    if kind & _BLANKS:
        return _blanks_end(data, start, stop, classes)
    if kind == NUMBER:
        return _digits_end(data, position, stop, classes)
    if kind == OTHER:
        return _others_end(data, position, stop, classes, OTHER, _LETTERS)
    if kind == HAN_OTHER:
        return _others_end(data, position, stop, classes, HAN_OTHER, HAN_LETTER)
    return _run_end(data, position, stop, classes, kind)


@inlined
def _character(
    data: NDArray[np.uint8], position: int, classes: NDArray[np.uint16]
) -> tuple[int, int]:
    """Class of the character at `position` and where the next one begins."""
    first = data[position]
    if first < 0x80:
        return classes[first], position + 1
    if first < 0xE0:
        code = (first & 0x1F) << 6 | (data[position + 1] & 0x3F)
        return classes[code], position + 2
    if first < 0xF0:
        code = (first & 0x0F) << 12 | (data[position + 1] & 0x3F) << 6 | (data[position + 2] & 0x3F)
        return classes[code], position + 3
    code = (
        (first & 0x07) << 18
        | (data[position + 1] & 0x3F) << 12
        | (data[position + 2] & 0x3F) << 6
        | (data[position + 3] & 0x3F)
    )
    return classes[code], position + 4


@inlined
def _run_end(
    data: NDArray[np.uint8], position: int, stop: int, classes: NDArray[np.uint16], wanted: int
) -> int:
    """Behind the characters of the wanted classes."""
    while position < stop:
        kind, following = _character(data, position, classes)
        if not kind & wanted:
            break
        position = following
    return position


@inlined
def _ascii_letters_end(data: NDArray[np.uint8], position: int, stop: int) -> int:
    """`[A-Za-z]*`."""
    while position < stop:
        word = load_u64(data, position)
        folded = (word | _BIT_5) & _BITS_0_TO_6
        others = ~((folded + _FROM_A) & ~(folded + _BEYOND_Z) & ~word) & _BIT_7
        if others != _NO_BITS:
            return min(position + (trailing_zeros(others) >> 3), stop)
        position += 8
    return stop


@inlined
def _letters_end(
    data: NDArray[np.uint8], position: int, stop: int, classes: NDArray[np.uint16]
) -> int:
    r"""`[\p{L}\p{M}]*`."""
    while True:
        position = _ascii_letters_end(data, position, stop)
        if position >= stop or data[position] < 0x80:
            return position
        end = _run_end(data, position, stop, classes, LETTER)
        if end == position:
            return position
        position = end


@inlined
def _punctuation_end(
    data: NDArray[np.uint8], position: int, stop: int, classes: NDArray[np.uint16]
) -> int:
    r"""`[\p{P}\p{S}]*[\r\n]*`."""
    position = _run_end(data, position, stop, classes, _PUNCTUATIONS)
    while position < stop and (data[position] == _LINE_FEED or data[position] == _RETURN):
        position += 1
    return position


@inlined
def _digits_end(
    data: NDArray[np.uint8], position: int, stop: int, classes: NDArray[np.uint16]
) -> int:
    r"""`\p{N}{0,2}`."""
    for _ in range(2):
        if position == stop:
            break
        kind, following = _character(data, position, classes)
        if kind != NUMBER:
            break
        position = following
    return position


@inlined
def _blanks_end(data: NDArray[np.uint8], start: int, stop: int, classes: NDArray[np.uint16]) -> int:
    r"""`\s*[\r\n]+|\s+(?!\S)|\s+`: up to the last line break; else all but the last blank, which
    leads the next word, unless the segment ends here."""
    behind_break, last, position = start, start, start
    at_segment_end = True
    while position < stop:
        kind, following = _character(data, position, classes)
        if not kind & _BLANKS:
            at_segment_end = bool(kind & _OTHER_SEGMENTS)
            break
        if kind == LINE_BREAK:
            behind_break = following
        last, position = position, following
    if behind_break > start:
        return behind_break
    return position if at_segment_end or last == start else last


@compiled
def _others_end(
    data: NDArray[np.uint8],
    position: int,
    stop: int,
    classes: NDArray[np.uint16],
    other: int,
    letters: int,
) -> int:
    """Behind what no pattern matches: the split leaves it whole, up to a character that leads
    letters."""
    while position < stop:
        kind, following = _character(data, position, classes)
        if kind != other:
            break
        if following < stop:
            next_kind, _ = _character(data, following, classes)
            if next_kind & letters:
                break
        position = following
    return position
