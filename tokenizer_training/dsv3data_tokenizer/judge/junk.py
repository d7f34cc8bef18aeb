"""Tokens that may be junk: to be looked at, not proven bad."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsv3data.encoding.vocabulary import Vocabulary
from dsv3data_tokenizer.judge.measures import TokenMeasures
from dsv3data_tokenizer.judge.sample import SampledDocument
from dsv3data_tokenizer.without import string_fields

Ids = NDArray[np.int64]

# Kinds of junk.
OVER_LONG, SINGLE_SOURCE, UNUSED = "over_long", "single_source", "unused"
KINDS = (OVER_LONG, SINGLE_SOURCE, UNUSED)

# A token longer than this is a rule of dashes, a run of blanks, or text that stood somewhere often.
OVER_LONG_CHARACTERS = 32
# So often in one document and in no other: a token of that document, not of the language.
SINGLE_SOURCE_OCCURRENCES = 8


def merged_ids(vocabulary: Vocabulary) -> Ids:
    """The ids that merges made."""
    lengths = vocabulary.byte_lengths[: vocabulary.vocab_size]
    return np.flatnonzero(lengths > 1).astype(np.int64)


def junk_ids(vocabulary: Vocabulary, measures: TokenMeasures) -> dict[str, Ids]:
    """By kind, ids ascending: over-long tokens, tokens of a single document, and tokens that the
    sample never uses. The lowest unused ids say most, since they were learned first: strings that
    now occur only inside of longer tokens."""
    merged, counts = merged_ids(vocabulary), measures.uses
    lengths = vocabulary.byte_lengths[merged]
    used = merged[counts[merged] > 0]
    is_single = (measures.documents_with[used] == 1) & (counts[used] >= SINGLE_SOURCE_OCCURRENCES)
    over_long = [
        token
        for token in merged[lengths > OVER_LONG_CHARACTERS].tolist()
        if len(vocabulary.token_bytes[token].decode("utf-8", "replace")) > OVER_LONG_CHARACTERS
    ]
    return {
        OVER_LONG: np.array(over_long, dtype=np.int64),
        SINGLE_SOURCE: used[is_single],
        UNUSED: merged[counts[merged] == 0],
    }


def junk_rows(
    vocabulary: Vocabulary,
    measures: TokenMeasures,
    documents: Sequence[SampledDocument],
    kinds: Sequence[str],
) -> list[dict[str, Any]]:
    """The candidates of some kinds as rows that `tokenizer train --without` reads: the string, why
    it is listed, id, occurrences in the sample, and of a single document its place."""
    junk, counts = junk_ids(vocabulary, measures), measures.uses
    return [
        {
            **string_fields(vocabulary.token_bytes[token]),
            **{"why": kind, "id": token, "count": int(counts[token])},
            **(place_of(token, measures, documents) if kind == SINGLE_SOURCE else {}),
        }
        for kind in kinds
        for token in junk[kind].tolist()
    ]


def place_of(
    token: int, measures: TokenMeasures, documents: Sequence[SampledDocument]
) -> dict[str, Any]:
    """Source, position and domain of a document that holds the token."""
    document = documents[measures.a_document_with[token]]
    return {
        "source": document.source,
        "position": document.position,
        "domain": document.domain,
    }
