"""A short judgement of a tokenizer: compression per domain and the shape of its vocabulary."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dsv3data.encoding.engine import HuggingFaceEncoder
from dsv3data.encoding.vocabulary import Vocabulary

_PUNCTUATION_AND_BREAKS = re.compile(r"[^\w\s]+\n+")


@dataclass(frozen=True, kw_only=True)
class DomainCompression:
    """Bytes and tokens of the documents of one domain that were encoded for the report."""

    documents: int
    bytes: int
    tokens: int

    @property
    def bytes_per_token(self) -> float:
        """UTF-8 bytes per token; higher is better compression."""
        return self.bytes / self.tokens if self.tokens else 0.0


def compression(
    vocabulary: Vocabulary, texts_by_domain: Mapping[str, Iterable[str]]
) -> dict[str, DomainCompression]:
    """Encode some texts of each domain."""
    encoder = HuggingFaceEncoder(vocabulary)
    result = {}
    for domain, texts in sorted(texts_by_domain.items()):
        chosen = list(texts)
        values, _ = encoder.encode(chosen)
        size = sum(len(text.encode("utf-8")) for text in chosen)
        result[domain] = DomainCompression(documents=len(chosen), bytes=size, tokens=len(values))
    return result


def punctuation_break_tokens(vocabulary: Vocabulary) -> list[int]:
    """Ids whose bytes are punctuation or symbols followed by line breaks (V3 has 799)."""
    found = []
    for token, data in enumerate(vocabulary.token_bytes):
        if data.endswith(b"\n"):
            text = data.decode("utf-8", "replace")
            if _PUNCTUATION_AND_BREAKS.fullmatch(text.removeprefix(" ")):
                found.append(token)
    return found


def vocabulary_shape(vocabulary: Vocabulary) -> dict[str, Any]:
    """Counts that characterise the vocabulary, and its longest tokens."""
    longest = sorted(vocabulary.token_bytes, key=lambda data: (-len(data), data))[:10]
    return {
        "ids": vocabulary.vocab_size,
        "embedding_rows": vocabulary.embedding_rows,
        "punctuation_break_tokens": len(punctuation_break_tokens(vocabulary)),
        "longest_tokens": [data.decode("utf-8", "replace") for data in longest],
    }
