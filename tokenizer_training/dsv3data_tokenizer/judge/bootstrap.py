"""Ratios of sums over documents, with intervals from resampled documents.

Documents are what a corpus was drawn by, so they are what is drawn again (the percentile bootstrap
of Efron 1979). Every ratio of a group sees the same draws, so that two tokenizers are compared on
the same documents.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsv3data.contracts.keys import stream_constant

CONFIDENCE = 0.95
RESAMPLES = 1000
_SEED = 0
_DRAWS_AT_ONCE = 1 << 22


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A ratio and its interval; None where it is not defined (no denominator, one document)."""

    value: float | None
    low: float | None
    high: float | None


class Resampler:
    """The same draws of a group's documents for any measure.

    Args:
        group: names the stream of draws.
        n_documents: of the group.
    """

    def __init__(self, group: str, n_documents: int) -> None:
        self._seed = stream_constant(_SEED, f"tokenizer-judge-bootstrap\0{group}")
        self._n_documents = n_documents

    def sums(self, *measures: NDArray[np.int64]) -> NDArray[np.int64]:
        """Sums of each measure [documents] over each draw, int64 [measures, RESAMPLES]."""
        table = np.stack(measures)
        generator = np.random.default_rng(self._seed)
        at_once = max(1, _DRAWS_AT_ONCE // max(1, self._n_documents))
        parts = []
        for start in range(0, RESAMPLES, at_once):
            shape = (min(at_once, RESAMPLES - start), self._n_documents)
            drawn = generator.integers(0, self._n_documents, size=shape)
            parts.append(np.stack([row[drawn].sum(axis=1) for row in table]))
        return np.concatenate(parts, axis=1)


def estimate(
    above: NDArray[np.int64], below: NDArray[np.int64], sums: NDArray[np.int64]
) -> Estimate:
    """Sum of `above` over sum of `below`, both [documents]; `sums` are theirs, [2, RESAMPLES]."""
    whole = int(below.sum())
    value = int(above.sum()) / whole if whole else None
    usable = sums[1] > 0
    if value is None or len(above) < 2 or not usable.all():
        return Estimate(value=value, low=None, high=None)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(sums[0] / sums[1], [tail, 1 - tail])
    return Estimate(value=value, low=float(low), high=float(high))
