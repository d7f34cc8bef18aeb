"""Classes of code points that the scanner of the pre-tokenizer tells apart."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from dsv3data.encoding.unicode_properties import N_CODE_POINTS, probe, properties

__all__ = ["N_CODE_POINTS", "probe", "properties", "scanner_classes"]

# Classes of the scanner, one bit each, so that one test looks for several. Letters include marks
# and punctuation includes symbols, because the patterns never tell them apart.
(
    OTHER,
    SPACE,
    BLANK,
    LINE_BREAK,
    LETTER,
    ASCII_LETTER,
    PUNCTUATION,
    ASCII_PUNCTUATION,
    NUMBER,
    HAN_OTHER,
    HAN_LETTER,
    HAN_PUNCTUATION,
) = (1 << bit for bit in range(12))

_BLOCKS_OF_THE_HAN_SPLIT = ((0x4E00, 0x9FA5), (0x3040, 0x309F), (0x30A0, 0x30FF))


@cache
def scanner_classes() -> NDArray[np.uint16]:
    """The scanner's class of every code point, uint16 [0x110000]."""
    letter_of = properties()
    table = np.full(N_CODE_POINTS, OTHER, dtype=np.uint16)
    table[letter_of == ord("Z")] = BLANK
    table[ord(" ")] = SPACE
    table[[ord("\r"), ord("\n")]] = LINE_BREAK
    table[(letter_of == ord("L")) | (letter_of == ord("M"))] = LETTER
    table[(letter_of == ord("P")) | (letter_of == ord("S"))] = PUNCTUATION
    table[letter_of == ord("N")] = NUMBER
    ascii_part = table[:128]
    ascii_part[ascii_part == LETTER] = ASCII_LETTER
    ascii_part[ascii_part == PUNCTUATION] = ASCII_PUNCTUATION
    for first, last in _BLOCKS_OF_THE_HAN_SPLIT:
        block = table[first : last + 1]
        block[:] = np.select(
            [block == LETTER, block == PUNCTUATION], [HAN_LETTER, HAN_PUNCTUATION], HAN_OTHER
        )
    return table  # writable, so that kernels are compiled for one type of array only
