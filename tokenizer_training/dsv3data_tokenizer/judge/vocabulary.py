"""The shape of a vocabulary, and how a text uses it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsv3data.encoding.debias import punctuation_break_ids
from dsv3data.encoding.vocabulary import Vocabulary
from dsv3data_tokenizer.judge.junk import (
    OVER_LONG,
    SINGLE_SOURCE,
    UNUSED,
    junk_ids,
    merged_ids,
    place_of,
)
from dsv3data_tokenizer.judge.measures import TokenMeasures
from dsv3data_tokenizer.judge.sample import SampledDocument

_SHOWN = 20


def vocabulary_shape(vocabulary: Vocabulary) -> dict[str, Any]:
    """Counts that characterise the vocabulary, and its longest tokens."""
    longest = sorted(vocabulary.token_bytes, key=lambda data: (-len(data), data))[:10]
    return {
        "ids": vocabulary.vocab_size,
        "embedding_rows": vocabulary.embedding_rows,
        "punctuation_break_tokens": len(punctuation_break_ids(vocabulary)),
        "longest_tokens": [data.decode("utf-8", "replace") for data in longest],
    }


def vocabulary_use(
    vocabulary: Vocabulary, measures: TokenMeasures, documents: Sequence[SampledDocument]
) -> dict[str, Any]:
    """Longest and rarest tokens, and junk candidates, among the ids that merges made."""
    counts = measures.uses
    merged = merged_ids(vocabulary)
    used = merged[counts[merged] > 0]
    show = _Show(vocabulary, counts)
    junk = junk_ids(vocabulary, measures)
    single = show.rows(_first(junk[SINGLE_SOURCE], -counts[junk[SINGLE_SOURCE]]))
    shown = {
        UNUSED: show.rows(junk[UNUSED][:_SHOWN]),
        OVER_LONG: show.rows(junk[OVER_LONG][:_SHOWN]),
        SINGLE_SOURCE: [row | place_of(row["id"], measures, documents) for row in single],
    }
    return {
        "merged_ids": len(merged),
        "longest": show.rows(_first(merged, -vocabulary.byte_lengths[merged].astype(np.int64))),
        "rarest": show.rows(_first(used, counts[used])),
        **{kind: {"count": len(junk[kind]), "tokens": rows} for kind, rows in shown.items()},
    }


class _Show:
    """Tokens as plain values. Bytes that are no UTF-8 are written as `\\xNN`."""

    def __init__(self, vocabulary: Vocabulary, counts: NDArray[np.int64]) -> None:
        self._token_bytes, self._counts = vocabulary.token_bytes, counts

    def rows(self, tokens: Sequence[int] | NDArray[np.int64]) -> list[dict[str, Any]]:
        return [self._row(int(token)) for token in tokens]

    def _row(self, token: int) -> dict[str, Any]:
        data = self._token_bytes[token]
        return {
            "id": token,
            "text": data.decode("utf-8", "backslashreplace"),
            "bytes": len(data),
            "count": int(self._counts[token]),
        }


def _first(tokens: NDArray[np.int64], order: NDArray[np.int64]) -> NDArray[np.int64]:
    """The tokens with the smallest values of `order`, then the smallest ids."""
    first: NDArray[np.int64] = tokens[np.lexsort((tokens, order))[:_SHOWN]]
    return first
