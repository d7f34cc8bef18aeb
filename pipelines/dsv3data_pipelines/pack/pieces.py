"""From documents to pieces: FIM for the chosen ones, then cuts where a document exceeds a row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsv3data.contracts.progress import Sink
from dsv3data.packing.config import PackConfig
from dsv3data.packing.cut import cut_documents
from dsv3data.packing.fim import (
    PLAIN,
    Codec,
    FimCounts,
    choose_documents,
    fim_document,
)
from dsv3data_pipelines.pack.documents import Documents


@dataclass(frozen=True, kw_only=True)
class Pieces:
    """Pieces of all documents of a partition.

    Attributes:
        values: ids, sentinels and EOS included, int32; piece i is
            values[offsets[i] : offsets[i + 1]].
        offsets: int64 [P + 1].
        document: index of the document, int64 [P].
        piece: number of the piece inside its document, int64 [P].
        start, stop: tokens of the document that it holds, int64 [P].
        flag: PLAIN or FIM_PSM, uint8 [P].
        middle_start, suffix_start: FIM cuts in code points of the piece, int64 [P]; -1 plain.
    """

    values: NDArray[np.int32]
    offsets: NDArray[np.int64]
    document: NDArray[np.int64]
    piece: NDArray[np.int64]
    start: NDArray[np.int64]
    stop: NDArray[np.int64]
    flag: NDArray[np.uint8]
    middle_start: NDArray[np.int64]
    suffix_start: NDArray[np.int64]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Ids in each piece, int64 [P]."""
        return np.diff(self.offsets)


def make_pieces(
    documents: Documents, codec: Codec, config: PackConfig, sink: Sink
) -> tuple[Pieces, FimCounts]:
    """All pieces (their order means nothing), and what became of the documents chosen for FIM."""
    chosen = choose_documents(documents.words, rate=config.fim_rate, seed=config.seed)
    table = cut_documents(np.where(chosen, 0, np.diff(documents.offsets)), config.context)
    plain = ~chosen[table.document]
    eos = np.array([codec.control.eos], dtype=np.int32)
    build = _Builder()
    fim_counts = FimCounts()
    rows = zip(
        table.document[plain].tolist(),
        table.piece[plain].tolist(),
        table.start[plain].tolist(),
        table.stop[plain].tolist(),
        table.has_eos[plain].tolist(),
        strict=True,
    )
    for document, piece, start, stop, has_eos in rows:
        ids = documents.ids(document)[start:stop]
        build.add([ids, eos] if has_eos else [ids], document, piece, start, stop)
    for document in np.flatnonzero(chosen).tolist():
        ids = documents.ids(document)
        pieces, counts = fim_document(ids, documents.keys[document], codec, config)
        fim_counts.add(counts)
        for number, made in enumerate(pieces):
            build.add(
                [made.ids],
                document,
                number,
                made.start,
                made.stop,
                flag=made.flag,
                split=made.split,
            )
        sink.advance(len(ids))
    return build.finish(), fim_counts


class _Builder:
    """Columns of `Pieces`, gathered row by row."""

    def __init__(self) -> None:
        self._parts: list[NDArray[np.int32]] = []
        self._lengths: list[int] = []
        self._rows: list[tuple[int, int, int, int, int, int, int]] = []

    def add(
        self,
        parts: Sequence[NDArray[np.int32]],
        document: int,
        piece: int,
        start: int,
        stop: int,
        *,
        flag: int = PLAIN,
        split: tuple[int, int] = (-1, -1),
    ) -> None:
        self._parts.extend(parts)
        self._lengths.append(sum(len(part) for part in parts))
        self._rows.append((document, piece, start, stop, flag, *split))

    def finish(self) -> Pieces:
        table = np.array(self._rows, dtype=np.int64).reshape(-1, 7)
        values = np.concatenate(self._parts) if self._parts else np.empty(0, dtype=np.int32)
        offsets = np.concatenate([[0], np.cumsum(self._lengths, dtype=np.int64)])
        return Pieces(
            values=values,
            offsets=offsets.astype(np.int64),
            document=table[:, 0],
            piece=table[:, 1],
            start=table[:, 2],
            stop=table[:, 3],
            flag=table[:, 4].astype(np.uint8),
            middle_start=table[:, 5],
            suffix_start=table[:, 6],
        )
