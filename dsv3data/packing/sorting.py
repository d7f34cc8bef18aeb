"""Deterministic sorts, faster than numpy's general stable one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_DIGIT_BITS = 16


def argsort_words(words: NDArray[np.uint64]) -> NDArray[np.intp]:
    """Stable argsort of keyed words, [N] → int64 [N].

    numpy sorts values in a third of the time of their indices, so the index takes the place of the
    low bits of its word; where the high bits of neighbours are equal, whole words decide.
    40 M words/s against 14 M/s for numpy's unstable argsort, 8 M/s for its stable one.
    """
    low = np.uint64((1 << max(len(words) - 1, 1).bit_length()) - 1)
    marked = (words & ~low) | np.arange(len(words), dtype=np.uint64)
    marked.sort()
    sequence = (marked & low).astype(np.intp)
    marked &= ~low
    equal = marked[1:] == marked[:-1]
    if equal.any():
        among = np.flatnonzero(np.append(equal, False) | np.insert(equal, 0, False))
        undecided = sequence[among]
        sequence[among] = undecided[np.lexsort((undecided, words[undecided]))]
    return sequence


def argsort_small(
    values: NDArray[np.integer], largest: int, sequence: NDArray[np.intp] | None = None
) -> NDArray[np.intp]:
    """Stable argsort of values in 0..largest, [N] → int64 [N], equal ones staying as in `sequence`.

    Least significant digit first in 16-bit digits, which numpy sorts by radix at 50 M/s.
    """
    for shift in range(0, max(largest.bit_length(), 1), _DIGIT_BITS):
        digit = (values >> shift).astype(np.uint16)
        if sequence is None:
            sequence = np.argsort(digit, kind="stable")
        else:
            sequence = sequence[np.argsort(digit[sequence], kind="stable")]
    assert sequence is not None
    return sequence
