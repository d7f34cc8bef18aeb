"""How well text is compressed: bytes per token, fertility, fallbacks, by group of documents."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsv3data.encoding.choose import choose_engine
from dsv3data.encoding.vocabulary import Vocabulary
from dsv3data_tokenizer.judge.bootstrap import Estimate, Resampler, estimate
from dsv3data_tokenizer.judge.measures import Counts, TextMeasures, TokenMeasures


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
    vocabulary: Vocabulary,
    texts_by_domain: Mapping[str, Iterable[str]],
    *,
    note: Callable[[str], None] = lambda text: None,
) -> dict[str, DomainCompression]:
    """Encode some texts of each domain with the fastest engine that proves itself; `note` is told
    why a faster one was not taken."""
    encoder = choose_engine(vocabulary, "auto", note=note).encoder
    result = {}
    for domain, texts in sorted(texts_by_domain.items()):
        chosen = list(texts)
        values, _ = encoder.encode(chosen)
        size = sum(len(text.encode("utf-8")) for text in chosen)
        result[domain] = DomainCompression(documents=len(chosen), bytes=size, tokens=len(values))
    return result


@dataclass(frozen=True, kw_only=True)
class Compression:
    """One tokenizer on one group of documents.

    Attributes:
        unit: what `tokens_per_unit` counts tokens by, `word` or `character`.
        single_byte_share: tokens that are one byte of a character of several bytes.
        unknown_share: tokens that stand for text that the tokenizer cannot express.
        relative_tokens: tokens over those of the first tokenizer; below 1 is shorter.
    """

    documents: int
    bytes: int
    tokens: int
    unit: str
    bytes_per_token: Estimate
    tokens_per_unit: Estimate
    single_byte_share: Estimate
    unknown_share: float
    relative_tokens: Estimate

    def tree(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def compare(
    group: str, texts: TextMeasures, tokenizers: Sequence[TokenMeasures], members: NDArray[np.intp]
) -> list[Compression]:
    """Each tokenizer on the documents with the numbers `members`, the first one as the measure."""
    sizes, characters = texts.bytes[members], texts.characters[members]
    by_character = 2 * int(texts.unspaced[members].sum()) > int(texts.letters[members].sum())
    units = characters if by_character else texts.words[members]
    resampler = Resampler(group, len(members))
    first = tokenizers[0].tokens[members]
    return [
        _compression(
            resampler,
            sizes=sizes,
            units=units,
            unit="character" if by_character else "word",
            tokens=measures.tokens[members],
            single=measures.single_bytes[members],
            unknown=measures.unknown[members],
            first=first,
        )
        for measures in tokenizers
    ]


def _compression(
    resampler: Resampler,
    *,
    sizes: Counts,
    units: Counts,
    unit: str,
    tokens: Counts,
    single: Counts,
    unknown: Counts,
    first: Counts,
) -> Compression:
    sums = resampler.sums(sizes, units, tokens, single, first)
    return Compression(
        documents=len(sizes),
        bytes=int(sizes.sum()),
        tokens=int(tokens.sum()),
        unit=unit,
        bytes_per_token=estimate(sizes, tokens, sums[[0, 2]]),
        tokens_per_unit=estimate(tokens, units, sums[[2, 1]]),
        single_byte_share=estimate(single, tokens, sums[[3, 2]]),
        unknown_share=int(unknown.sum()) / max(1, int(tokens.sum())),
        relative_tokens=estimate(tokens, first, sums[[2, 4]]),
    )
