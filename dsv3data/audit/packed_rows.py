"""Rows of a packed set with the lineage of their pieces, for the views and traces that people ask
for: every byte verified, little kept."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dsv3data.audit.checks import fail
from dsv3data.audit.lineage import read_lineage
from dsv3data.contracts.errors import BadInput
from dsv3data.contracts.manifest import Manifest
from dsv3data.encoding.vocabulary import Vocabulary
from dsv3data.io.columns import column_values, key_bytes
from dsv3data.io.make_columns import column_of
from dsv3data.loader.packed_dataset import PackedDataset
from dsv3data.packing.fim import PLAIN

Ids = NDArray[np.int32]
PartKind = Literal["text", "prefix", "middle", "suffix"]


@dataclass(frozen=True, kw_only=True)
class Origin:
    """A row of the lineage; `row` counts from the first row of its shard."""

    row: int
    slot: int
    key: bytes
    source: str
    position: int
    piece: int
    n_pieces: int
    token_start: int
    token_stop: int
    n_tokens: int
    n_bytes: int
    flag: int
    middle_start: int
    suffix_start: int

    @property
    def fim(self) -> bool:
        """Whether the piece is a fill-in-the-middle sample."""
        return self.flag != PLAIN


@dataclass(frozen=True, kw_only=True)
class PackedRow:
    """One row: its ids, and its pieces in order with their places in it.

    `row` is its number in the set, `row_in_shard` the one that lineage and the shard have.
    """

    row: int
    shard: str
    row_in_shard: int
    domain: str
    n_tokens: int
    ids: Ids
    starts: tuple[int, ...]
    origins: tuple[Origin, ...]


class PackedRows:
    """A packed set, row by row.

    Raises:
        BadInput: not a packed set.
        IntegrityError: damage, where it is met.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._dataset = PackedDataset.open(folder)
        self.vocabulary: Vocabulary = self._dataset.vocabulary
        self.manifest: Manifest = self._dataset.manifest
        self._shards = self.manifest.shards()
        self._first = np.cumsum([0, *(record.rows for record in self._shards)])
        # Traces of one document ask for the same shard's lineage again and again.
        self._lineage = functools.lru_cache(maxsize=2)(self._read_lineage)

    @property
    def context(self) -> int:
        """Ids in a row."""
        return self._dataset.context

    @property
    def n_rows(self) -> int:
        """Rows in all shards."""
        return self._dataset.n_rows

    def row(self, row: int) -> PackedRow:
        """Row number `row`, counted over all shards in the order of the manifest.

        Raises:
            BadInput: there is none.
        """
        if not 0 <= row < self.n_rows:
            raise BadInput(
                f"there is no row {row:,}",
                where=f"{self.folder}, rows 0 to {self.n_rows - 1:,}",
                effect="nothing was read",
                fix="give a number in that range",
            )
        shard = int(np.searchsorted(self._first, row, side="right")) - 1
        batch = self._dataset.rows(np.array([row]))
        inside = row - int(self._first[shard])
        origins = self._origins(
            shard, lambda lineage: column_values(lineage["row"], np.int64) == inside
        )
        origins.sort(key=lambda origin: origin.slot)
        ends = np.cumsum([origin.n_tokens for origin in origins]).tolist()
        if [origin.n_tokens for origin in origins] != batch.piece_lengths[0].tolist():
            fail("lineage and rows disagree in n_tokens", self.folder, f"row {row:,}")
        return PackedRow(
            row=row,
            shard=self._shards[shard].name,
            row_in_shard=inside,
            domain=self._dataset.domains[batch.domain_ids[0]],
            n_tokens=int(batch.n_tokens[0]),
            ids=batch.input_ids[0],
            starts=(0, *ends[:-1]),
            origins=tuple(origins),
        )

    def pieces_of(self, row: PackedRow, origin: Origin) -> list[tuple[Origin, Ids]]:
        """All pieces of the document that a piece of `row` belongs to, in its order.

        A document's pieces are in one shard: partitions are made of whole documents.
        """
        shard = next(n for n, record in enumerate(self._shards) if record.name == row.shard)
        key = np.frombuffer(origin.key, dtype=np.uint8)
        pieces = self._origins(
            shard, lambda lineage: (key_bytes(lineage["key"]) == key).all(axis=1)
        )
        pieces.sort(key=lambda piece: piece.piece)
        if [piece.piece for piece in pieces] != list(range(origin.n_pieces)):
            fail("the pieces of a document are not all there exactly once", self.folder)
        rows = [int(self._first[shard]) + piece.row for piece in pieces]
        batch = self._dataset.rows(np.array(rows))
        result = []
        for number, piece in enumerate(pieces):
            start = int(batch.piece_lengths[number][: piece.slot].sum())
            result.append((piece, batch.input_ids[number, start : start + piece.n_tokens]))
        return result

    def _origins(self, shard: int, here: Callable[[pa.Table], NDArray[np.bool_]]) -> list[Origin]:
        """Pieces of a shard that a condition on its lineage holds for."""
        table = self._lineage(shard)
        found = table.take(column_of(np.flatnonzero(here(table))))
        return [Origin(**row) for row in found.to_pylist()]

    def _read_lineage(self, shard: int) -> pa.Table:
        names = list(Origin.__dataclass_fields__)
        return read_lineage(self.folder, self.manifest, self._shards[shard], names)


def part_ranges(ids: Ids, fim: bool, vocabulary: Vocabulary) -> list[tuple[PartKind, int, int]]:
    """The parts of a piece in the order of the row: kind, first id, one behind the last.

    Control ids are in no part; each sentinel stands before the part that it announces, in PSM and
    in SPM. For verified sets: the grammar is `verify`'s affair.
    """
    control = vocabulary.control
    end = len(ids) - int(ids[-1] == control.eos)
    if not fim:
        return [("text", 0, end)]
    announced: tuple[tuple[int, PartKind], ...] = (
        (control.fim_begin, "prefix"),
        (control.fim_hole, "suffix"),
        (control.fim_end, "middle"),
    )
    marks = sorted((int(np.argmax(ids == mark)), kind) for mark, kind in announced)
    stops = [*(place for place, _ in marks[1:]), end]
    return [(kind, place + 1, stop) for (place, kind), stop in zip(marks, stops, strict=True)]


def in_document_order(
    parts: Sequence[tuple[PartKind, int, int]],
) -> list[tuple[PartKind, int, int]]:
    """Prefix, middle, suffix; a plain piece has one part."""
    order = ("text", "prefix", "middle", "suffix")
    return sorted(parts, key=lambda part: order.index(part[0]))
