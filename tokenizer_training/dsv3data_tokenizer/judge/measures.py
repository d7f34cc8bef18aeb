"""What is measured on each document, as arrays over the sample.

A word is a run of characters that are not white space; tokens per word is the fertility of
Rust et al. 2021 [arXiv 2012.15613]. Scripts that are written without spaces have no such words:
there tokens are counted per character, white space left out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsv3data.contracts.progress import Sink
from dsv3data_tokenizer.judge.contender import Contender
from dsv3data_tokenizer.judge.sample import SampledDocument

Counts = NDArray[np.int64]

# Thai and Lao, Tibetan, Burmese, Khmer; kana, Han with its extensions.
_WITHOUT_SPACES = re.compile(
    "[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\U00020000-\U0003ffff]+"
)
_LETTERS = re.compile(r"[^\W\d_]+")


@dataclass(frozen=True, kw_only=True)
class TextMeasures:
    """Of the text alone, each int64 [documents]. `characters`: all but white space; `unspaced`:
    those of the `letters` that belong to scripts written without spaces."""

    bytes: Counts
    words: Counts
    characters: Counts
    letters: Counts
    unspaced: Counts


@dataclass(frozen=True, kw_only=True)
class TokenMeasures:
    """Of one tokenizer on the sample.

    Attributes:
        tokens, single_bytes, unknown: each int64 [documents].
        use: occurrences by domain, each int64 [ids]; domains in the order of the sample.
        documents_with: documents that hold the id at least once, int64 [ids].
        a_document_with: number of the last one of them, -1 if there is none, int64 [ids].
    """

    tokens: Counts
    single_bytes: Counts
    unknown: Counts
    use: dict[str, Counts]
    documents_with: Counts
    a_document_with: Counts

    @property
    def uses(self) -> Counts:
        """Occurrences in all domains, int64 [ids]."""
        counts: Counts = np.sum(list(self.use.values()), axis=0)
        return counts


def measure_texts(documents: Sequence[SampledDocument]) -> TextMeasures:
    """Sizes of the documents."""
    rows = [_sizes(document) for document in documents]
    sizes, words, characters, letters, unspaced = np.array(rows, dtype=np.int64).reshape(-1, 5).T
    return TextMeasures(
        bytes=sizes, words=words, characters=characters, letters=letters, unspaced=unspaced
    )


def measure_tokens(
    contender: Contender, documents: Sequence[SampledDocument], sink: Sink
) -> TokenMeasures:
    """Encode the documents."""
    rows = np.zeros((3, len(documents)), dtype=np.int64)
    use = {document.domain: np.zeros(contender.n_ids, dtype=np.int64) for document in documents}
    documents_with = np.zeros(contender.n_ids, dtype=np.int64)
    a_document_with = np.full(contender.n_ids, -1, dtype=np.int64)
    texts = [document.text for document in documents]
    for number, ids in enumerate(contender.encode(texts)):
        document = documents[number]
        rows[:, number] = (
            len(ids),
            np.count_nonzero(contender.is_single_byte[ids]),
            0 if contender.unknown_id is None else np.count_nonzero(ids == contender.unknown_id),
        )
        seen, counts = np.unique(ids, return_counts=True)
        use[document.domain][seen] += counts
        documents_with[seen] += 1
        a_document_with[seen] = number
        sink.advance(document.n_bytes, tokens=len(ids))
    return TokenMeasures(
        tokens=rows[0],
        single_bytes=rows[1],
        unknown=rows[2],
        use=use,
        documents_with=documents_with,
        a_document_with=a_document_with,
    )


def _sizes(document: SampledDocument) -> tuple[int, int, int, int, int]:
    words = document.text.split()
    return (
        document.n_bytes,
        len(words),
        sum(map(len, words)),
        sum(map(len, _LETTERS.findall(document.text))),
        sum(map(len, _WITHOUT_SPACES.findall(document.text))),
    )
