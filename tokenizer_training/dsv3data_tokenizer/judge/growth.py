"""Bytes per token for every smaller vocabulary, from one encoding with the largest.

A byte-level BPE applies merges in the order in which they were learned, and the parts of a token
were all learned before it. So the ids that a vocabulary cut at N gives are those of the whole one,
with each id from N on opened into the two it was merged from, again and again until all are below
N. Counting the pieces of each id once for each N replaces encoding the text anew; the slow twin in
the tests encodes with `ladder.cut_vocabulary`. Where the training merged two different pairs to the
same string, the first is taken; DeepSeek-V3's tokenizer has no such pair.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from dsv3data_tokenizer.config import SMALLEST_VOCABULARY

_POINTS = 8


def ladder_sizes(vocab_size: int, points: int = _POINTS) -> list[int]:
    """Vocabulary sizes, each about half of the next, the last one the whole."""
    sizes = {max(SMALLEST_VOCABULARY, vocab_size >> halvings) for halvings in range(points)}
    return sorted(sizes)


def parents_of(tokenizer_json: bytes) -> NDArray[np.int32]:
    """The two ids that each id was first merged from, int32 [entries, 2]; -1 for the others."""
    model = json.loads(tokenizer_json)["model"]
    vocab: dict[str, int] = model["vocab"]
    parents = np.full((len(vocab), 2), -1, dtype=np.int32)
    for left, right in reversed(model["merges"]):
        parents[vocab[left + right]] = vocab[left], vocab[right]
    return parents


def tokens_at(
    sizes: Iterable[int], parents: NDArray[np.int32], use: NDArray[np.int64]
) -> dict[int, int]:
    """Tokens of a text whose ids occur `use` times, with only the first `size` entries, by size.

    Opens ids from the last one on: the parts of an id come before it.
    """
    left: list[int] = use[: len(parents)].tolist()
    pairs: list[list[int]] = parents.tolist()
    total, token, tokens = sum(left), len(left) - 1, {}
    for size in sorted(sizes, reverse=True):
        while token >= size:
            count = left[token]
            if count:
                first, second = pairs[token]
                left[first] += count
                left[second] += count
                total += count
            token -= 1
        tokens[size] = total
    return tokens
