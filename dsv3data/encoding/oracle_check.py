"""A sample of the documents of a run is encoded once more, by the reference engine.

A fast engine is proven on a probe before it is used; this goes on proving it on the real thing.
Which documents are sampled is keyed: the same ones for any number of workers.

The reference takes some 2 microseconds and 400 bytes of memory per byte: of a long document only
the beginning is encoded again, by both engines, since the ids of a beginning need not be the first
ids of the whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dsv3data.contracts.keys import keyed_u64
from dsv3data.encoding.engine import DocumentEncoder
from dsv3data.encoding.probe import Difference, compare

_PURPOSE = "oracle-check"
_MOST_CHARACTERS = 1 << 14


class Mismatch(NamedTuple):
    """Document `document` of the group, and where its ids part."""

    document: int
    difference: Difference


class OracleCheck:
    """The check of one unit: a share `rate` of its documents, and at least one of them.

    Args:
        rate: from 0 (no check at all) to 1.
    """

    def __init__(self, engine: DocumentEncoder, oracle: DocumentEncoder, rate: float) -> None:
        self._engine = engine
        self._oracle = oracle
        self._rate = rate
        self.checked = 0

    def mismatch(
        self,
        words: NDArray[np.uint64],
        texts: Sequence[str],
        encoded: tuple[NDArray[np.int32], NDArray[np.int64]],
    ) -> Mismatch | None:
        """The first sampled document whose ids are not the oracle's.

        Args:
            words: document keys, uint64 [N, 2].
            encoded: ids and offsets of the N texts, as the engine gave them.
        """
        values, offsets = encoded
        for document in self._sampled(words):
            self.checked += 1
            text = texts[document]
            if len(text) > _MOST_CHARACTERS:
                text = text[:_MOST_CHARACTERS]
                got = self._engine.encode([text])
            else:
                ids = values[offsets[document] : offsets[document + 1]]
                got = ids, np.array([0, len(ids)], dtype=np.int64)
            difference = compare(got, self._oracle.encode([text]))
            if difference is not None:
                return Mismatch(document, difference)
        return None

    def _sampled(self, words: NDArray[np.uint64]) -> list[int]:
        if not self._rate or not len(words):
            return []
        drawn = keyed_u64(words, seed=0, purpose=_PURPOSE)
        sampled: list[int] = np.flatnonzero(drawn <= self._rate * (2.0**64 - 1)).tolist()
        if not sampled and not self.checked:
            return [int(drawn.argmin())]
        return sampled
