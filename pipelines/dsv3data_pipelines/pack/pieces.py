"""From documents to pieces: tokens split, FIM for the chosen ones, cuts where a row is exceeded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsv3data.contracts.progress import Sink
from dsv3data.packing.config import PackConfig
from dsv3data.packing.cut import cut_documents
from dsv3data.packing.debias import Debiased, debias
from dsv3data.packing.fim import (
    PLAIN,
    Codec,
    FimCounts,
    FimPiece,
    FimSource,
    choose_documents,
    fim_documents,
)
from dsv3data.packing.rows import PieceIds
from dsv3data_pipelines.pack.documents import Documents

# Tokens of chosen documents whose text is held and encoded at once.
_FIM_BATCH_TOKENS = 1 << 18


@dataclass(frozen=True, kw_only=True)
class Pieces:
    """Pieces of all documents of a partition.

    Attributes:
        ids: what is packed, sentinels and EOS included.
        document: index of the document, int64 [P].
        piece: number of the piece inside its document, int64 [P].
        start, stop: tokens of the stored document that it holds, int64 [P].
        flag: PLAIN, FIM_PSM or FIM_SPM, uint8 [P].
        n_debiased: tokens that were split in it, int32 [P].
        middle_start, suffix_start: FIM cuts in code points of the piece, int64 [P]; -1 plain.
        n_splittable: occurrences of splittable tokens in the stored documents.
    """

    ids: PieceIds
    document: NDArray[np.int64]
    piece: NDArray[np.int64]
    start: NDArray[np.int64]
    stop: NDArray[np.int64]
    flag: NDArray[np.uint8]
    n_debiased: NDArray[np.int32]
    middle_start: NDArray[np.int64]
    suffix_start: NDArray[np.int64]
    n_splittable: int


@dataclass(frozen=True)
class _Part:
    """Plain pieces, or those of chosen documents; `table` has the columns of `_COLUMNS`, int64
    [P, 11]."""

    values: NDArray[np.int32]
    table: NDArray[np.int64]


_COLUMNS = (
    "begin", "length", "eos", "document", "piece", "start", "stop", "flag", "n_debiased",
    "middle_start", "suffix_start",
)  # fmt: skip


def make_pieces(
    documents: Documents, codec: Codec, config: PackConfig, *, domain: str, sink: Sink
) -> tuple[Pieces, FimCounts]:
    """All pieces (their order means nothing), and what became of the documents chosen for FIM."""
    chosen = choose_documents(documents.words, rate=config.fim_rate_of(domain), seed=config.draws)
    apart = debias(
        documents.values,
        documents.offsets,
        documents.words,
        codec.splits,
        rate=config.debias_rate,
        seed=config.draws,
    )
    plain = _plain_pieces(documents.offsets, apart, np.flatnonzero(~chosen), config.context)
    fim, counts = _fim_pieces(
        documents, apart, np.flatnonzero(chosen), codec, config, domain=domain, sink=sink
    )
    return _put_together(plain, fim, n_splittable=apart.n_splittable), counts


def _plain_pieces(
    stored: NDArray[np.int64], apart: Debiased, which: NDArray[np.int64], context: int
) -> _Part:
    first = apart.offsets[which]
    made = cut_documents(np.diff(apart.offsets)[which], context, first=first, tails=apart.tails)
    document = which[made.document]
    begin = apart.offsets[document] + made.start
    end = apart.offsets[document] + made.stop
    start, stop = apart.before(begin), apart.before(end)
    none = np.full(len(document), -1)
    columns = (
        begin, made.length, made.has_eos, document, made.piece, start - stored[document],
        stop - stored[document], np.full(len(document), PLAIN), (end - begin) - (stop - start),
        none, none,
    )  # fmt: skip
    return _Part(apart.values, np.stack(columns, axis=1).astype(np.int64, copy=False))


def _fim_pieces(
    documents: Documents,
    apart: Debiased,
    which: NDArray[np.int64],
    codec: Codec,
    config: PackConfig,
    *,
    domain: str,
    sink: Sink,
) -> tuple[_Part, FimCounts]:
    counts = FimCounts()
    by_lines = domain in config.fim_line_domains
    ids: list[NDArray[np.int32]] = [np.empty(0, dtype=np.int32)]
    rows: list[tuple[int, ...]] = []
    begin = 0
    for batch in _batches(which, np.diff(apart.offsets)):
        sources = [_source(documents, apart, document) for document in batch]
        made, of_batch = fim_documents(sources, codec, config, by_lines=by_lines)
        counts.add(of_batch)
        for document, pieces in zip(batch, made, strict=True):
            for number, piece in enumerate(pieces):
                ids.append(piece.ids)
                rows.append(_row(piece, begin, document, number))
                begin += len(piece.ids)
        sink.advance(of_batch.source_tokens_chosen)
    table = np.array(rows, dtype=np.int64).reshape(-1, len(_COLUMNS))
    return _Part(np.concatenate(ids), table), counts


def _row(piece: FimPiece, begin: int, document: int, number: int) -> tuple[int, ...]:
    """Its EOS is among its ids already."""
    return (
        begin, len(piece.ids), False, document, number, piece.start, piece.stop, piece.flag,
        piece.n_debiased, *piece.split,
    )  # fmt: skip


def _batches(which: NDArray[np.int64], sizes: NDArray[np.int64]) -> Iterator[list[int]]:
    """Runs of documents of about `_FIM_BATCH_TOKENS`, one document at least."""
    group = np.cumsum(sizes[which]) // _FIM_BATCH_TOKENS
    borders = np.flatnonzero(np.diff(group)) + 1
    for run in np.split(which, borders):
        if len(run):
            yield run.tolist()


def _source(documents: Documents, apart: Debiased, document: int) -> FimSource:
    start, stop = apart.offsets[document], apart.offsets[document + 1]
    tails = apart.tails_between(start, stop)
    return FimSource(
        ids=apart.values[start:stop], key=documents.key_of(document), tails=tails - start
    )


def _put_together(*parts: _Part, n_splittable: int) -> Pieces:
    table = np.concatenate([part.table for part in parts])
    column = {name: np.ascontiguousarray(table[:, at]) for at, name in enumerate(_COLUMNS)}
    return Pieces(
        ids=PieceIds(
            values=tuple(part.values for part in parts),
            source=np.repeat(np.arange(len(parts)), [len(part.table) for part in parts]),
            start=column["begin"],
            length=column["length"],
            eos=column["eos"].astype(np.bool_),
        ),
        flag=column["flag"].astype(np.uint8),
        n_debiased=column["n_debiased"].astype(np.int32),
        n_splittable=n_splittable,
        **{
            name: column[name]
            for name in ("document", "piece", "start", "stop", "middle_start", "suffix_start")
        },
    )
