"""The documents that a judgement encodes: from each domain the first ones in a keyed order.

The order is a function of document keys, so that the sample is the same for any order of files and
grows, document by document, with its size. All of the input is read; only the sample is held.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from dsv3data.contracts.errors import BadInput
from dsv3data.contracts.keys import keyed_u64_scalar
from dsv3data.contracts.progress import Sink
from dsv3data.io.sources import Document, ReadOptions, Unit, discover, plan_units, read_unit

UNKNOWN_LANGUAGE = "unknown"
_PURPOSE = "tokenizer-judge"
_UNIT_BYTES = 16 << 20
# No document gives more than this part of a domain's sample: its beginning.
_PARTS_OF_SAMPLE = 8
_LONGEST_CHARACTER = 4
_NO_CUTOFF = 1 << 64


@dataclass(frozen=True, kw_only=True)
class SampledDocument:
    """A document of the sample. `text` is its beginning if `is_cut`, else all of it."""

    rank: int
    key: bytes
    source: str
    position: int
    domain: str
    text: str
    n_bytes: int
    is_cut: bool
    unit: int
    language: str = UNKNOWN_LANGUAGE


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Documents by domain and keyed order, and what they were chosen from."""

    documents: tuple[SampledDocument, ...]
    available_documents: dict[str, int]
    available_bytes: dict[str, int]
    rejected: dict[str, int]


def read_sample(
    inputs: Sequence[Path],
    *,
    options: ReadOptions,
    sample_bytes: int,
    language_key: str,
    sink: Sink,
) -> Sample:
    """Choose at most `sample_bytes` of each domain of the documents below `inputs`.

    Args:
        language_key: field that holds a document's language; empty: there is none.

    Raises:
        BadInput: no documents, or none of the sample has the language.
    """
    files, skipped = discover(inputs, text_files=options.text_files)
    if skipped:
        sink.note(f"{len(skipped)} files were skipped, the first: {skipped[0]}")
    units = plan_units(files, unit_bytes=_UNIT_BYTES)
    choice = _Choice(sample_bytes)
    sink.phase("read documents", total=sum(unit.size for unit in units), unit="B")
    for unit in units:
        for record in read_unit(unit, options):
            if isinstance(record, Document):
                choice.offer(record, unit.number)
            else:
                choice.rejected[record.reason] += 1
        sink.advance(unit.size)
    if not choice.documents:
        raise _nothing_to_judge(inputs, choice.rejected.total())
    chosen = choice.chosen()
    if language_key:
        chosen = _with_languages(chosen, units, options, language_key, sink)
    return Sample(
        documents=tuple(chosen),
        available_documents=dict(choice.documents),
        available_bytes=dict(choice.bytes),
        rejected=dict(choice.rejected),
    )


@dataclass
class _Domain:
    """The kept documents, the last in keyed order first. Ranks from `cutoff` on are out for good,
    so that what is kept is always the beginning of the order."""

    kept: list[tuple[int, bytes, SampledDocument]] = field(default_factory=list)
    n_bytes: int = 0
    cutoff: int = _NO_CUTOFF


class _Choice:
    """Takes documents in any order, keeps the first in keyed order of each domain."""

    def __init__(self, sample_bytes: int) -> None:
        self._sample_bytes = sample_bytes
        self._domains: dict[str, _Domain] = {}
        self.documents: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()
        self.rejected: Counter[str] = Counter()

    def offer(self, document: Document, unit: int) -> None:
        """Consider one more document."""
        self.documents[document.domain] += 1
        self.bytes[document.domain] += len(document.data)
        domain = self._domains.setdefault(document.domain, _Domain())
        rank = keyed_u64_scalar(document.key, seed=0, purpose=_PURPOSE)
        if rank >= domain.cutoff:
            return
        sampled = self._sampled(document, rank, unit)
        heapq.heappush(domain.kept, (-rank, document.key, sampled))
        domain.n_bytes += sampled.n_bytes
        while domain.n_bytes > self._sample_bytes and len(domain.kept) > 1:
            last = heapq.heappop(domain.kept)[2]
            domain.n_bytes -= last.n_bytes
            domain.cutoff = last.rank

    def chosen(self) -> list[SampledDocument]:
        """All kept documents by domain, then in keyed order."""
        kept = [document for domain in self._domains.values() for _, _, document in domain.kept]
        return sorted(kept, key=lambda document: (document.domain, document.rank, document.key))

    def _sampled(self, document: Document, rank: int, unit: int) -> SampledDocument:
        most = max(_LONGEST_CHARACTER, self._sample_bytes // _PARTS_OF_SAMPLE)
        text = document.data[:most].decode("utf-8", "ignore")
        n_bytes = len(text.encode("utf-8"))
        return SampledDocument(
            rank=rank,
            key=document.key,
            source=document.source,
            position=document.position,
            domain=document.domain,
            text=text,
            n_bytes=n_bytes,
            is_cut=n_bytes < len(document.data),
            unit=unit,
        )


def _with_languages(
    chosen: Sequence[SampledDocument],
    units: Iterable[Unit],
    options: ReadOptions,
    language_key: str,
    sink: Sink,
) -> list[SampledDocument]:
    """Read the units of the sample once more, with the language in place of the domain."""
    reading = replace(options, domain_key=language_key, domains=(), default_domain=UNKNOWN_LANGUAGE)
    wanted = {document.key for document in chosen}
    needed = {document.unit for document in chosen}
    again = [unit for unit in units if unit.number in needed]
    languages: dict[bytes, str] = {}
    sink.phase("read languages", total=sum(unit.size for unit in again), unit="B")
    for unit in again:
        for record in read_unit(unit, reading):
            if isinstance(record, Document) and record.key in wanted:
                languages[record.key] = record.domain
        sink.advance(unit.size)
    if set(languages.values()) <= {UNKNOWN_LANGUAGE}:
        raise BadInput(
            f"no document of the sample names a language in the field {language_key!r}",
            where=f"{len(chosen):,} documents",
            effect="nothing was judged",
            fix="check --language-key; a language is letters, digits, dot, dash, low line",
        )
    return [
        replace(document, language=languages.get(document.key, UNKNOWN_LANGUAGE))
        for document in chosen
    ]


def _nothing_to_judge(inputs: Sequence[Path], rejected: int) -> BadInput:
    return BadInput(
        "the input has no usable document"
        + (f": all {rejected:,} records were rejected" if rejected else ""),
        where=", ".join(map(str, inputs)),
        effect="nothing was judged",
        fix="check --text-key and the encoding of the files",
    )
