"""The shape of a vocabulary, and how a text uses it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsv3data.encoding.debias import punctuation_break_ids
from dsv3data.encoding.vocabulary import Vocabulary
from dsv3data_tokenizer.judge.measures import TokenMeasures
from dsv3data_tokenizer.judge.sample import SampledDocument

# A token longer than this is a rule of dashes, a run of blanks, or text that stood somewhere often.
OVER_LONG_CHARACTERS = 32
# So often in one document and in no other: a token of that document, not of the language.
SINGLE_SOURCE_OCCURRENCES = 8
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
    """Longest, rarest and unused tokens, and junk candidates, among the ids that merges made.

    Junk candidates are to be looked at, not proven bad: over-long tokens, tokens of a single
    document, and tokens that the sample never uses. The lowest unused ids say most, since they were
    learned first: strings that now occur only inside of longer tokens.
    """
    counts: NDArray[np.int64] = np.sum(list(measures.use.values()), axis=0)
    lengths = vocabulary.byte_lengths[: vocabulary.vocab_size].astype(np.int64)
    merged = np.flatnonzero(lengths > 1)
    show = _Show(vocabulary, counts)
    used = merged[counts[merged] > 0]
    unused = merged[counts[merged] == 0]
    single = used[
        (measures.documents_with[used] == 1) & (counts[used] >= SINGLE_SOURCE_OCCURRENCES)
    ]
    over_long = [
        int(token)
        for token in merged[lengths[merged] > OVER_LONG_CHARACTERS]
        if len(vocabulary.token_bytes[token].decode("utf-8", "replace")) > OVER_LONG_CHARACTERS
    ]
    return {
        "merged_ids": len(merged),
        "longest": show.rows(_first(merged, -lengths[merged])),
        "rarest": show.rows(_first(used, counts[used])),
        "unused": {"count": len(unused), "tokens": show.rows(unused[:_SHOWN])},
        "over_long": {"count": len(over_long), "tokens": show.rows(over_long[:_SHOWN])},
        "single_source": {
            "count": len(single),
            "tokens": [
                row | _place(documents[measures.a_document_with[row["id"]]])
                for row in show.rows(_first(single, -counts[single]))
            ],
        },
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


def _place(document: SampledDocument) -> dict[str, Any]:
    return {
        "source": document.source,
        "position": document.position,
        "domain": document.domain,
    }
