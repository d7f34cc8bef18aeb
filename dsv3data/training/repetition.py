"""How much a document repeats itself: what a loss does not show, because repetition is easy."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

N = 8  # ids of an n-gram


@dataclass(frozen=True, kw_only=True)
class Repetition:
    """Measures of a run of ids; all 0 for an empty one.

    Attributes:
        repeated: share of its 8-grams that stood in it before.
        commonest: share of its most frequent id.
        longest_run: length of the longest run of one id.
    """

    repeated: float
    commonest: float
    longest_run: int


def repetition(ids: NDArray[np.int32]) -> Repetition:
    """Measures of `ids`, int32 [n]; `repetition_reference` is its twin. Cost: sorting n 8-grams."""
    n = len(ids)
    if not n:
        return Repetition(repeated=0.0, commonest=0.0, longest_run=0)
    grams = max(0, n - N + 1)
    repeated = 0.0
    if grams:
        windows = np.lib.stride_tricks.sliding_window_view(ids, N)
        repeated = 1 - len(np.unique(windows, axis=0)) / grams
    _, counts = np.unique(ids, return_counts=True)
    borders = np.flatnonzero(np.diff(ids)) + 1
    runs = np.diff(np.concatenate([[0], borders, [n]]))
    return Repetition(
        repeated=repeated, commonest=int(counts.max()) / n, longest_run=int(runs.max())
    )


def repetition_reference(ids: NDArray[np.int32]) -> Repetition:
    """The slow twin: one n-gram, one id after the other."""
    values = ids.tolist()
    grams = [tuple(values[at : at + N]) for at in range(len(values) - N + 1)]
    seen: set[tuple[int, ...]] = set()
    again = longest = run = 0
    for gram in grams:
        again += gram in seen
        seen.add(gram)
    for at, value in enumerate(values):
        run = run + 1 if at and values[at - 1] == value else 1
        longest = max(longest, run)
    commonest = max(Counter(values).values(), default=0) / len(values) if values else 0.0
    return Repetition(
        repeated=again / len(grams) if grams else 0.0, commonest=commonest, longest_run=longest
    )
