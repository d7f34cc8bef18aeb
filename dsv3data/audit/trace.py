"""`dsv3data trace`: one id of a packed row or of a document, followed back to the source text."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dsv3data.audit.packed_rows import (
    Ids,
    Origin,
    PackedRow,
    PackedRows,
    PartKind,
    in_document_order,
    part_ranges,
)
from dsv3data.audit.shard_rows import row_in_set
from dsv3data.audit.source_text import read_source
from dsv3data.contracts.config import from_dict
from dsv3data.contracts.errors import BadInput
from dsv3data.contracts.manifest import PACKED, TOKENIZER_NAME, TOKENS, Manifest
from dsv3data.contracts.terminal import printable
from dsv3data.encoding.vocabulary import Vocabulary, load_vocabulary
from dsv3data.io.manifest_file import read_manifest
from dsv3data.io.shards import ShardReader
from dsv3data.io.sources import ReadOptions

AROUND_CHARACTERS = 60


@dataclass(frozen=True, kw_only=True)
class Trace:
    """Where one id comes from.

    Attributes:
        row, position: what was asked for.
        token_id: the id.
        kind: what the id is: a token of plain text or of a FIM part, a control id, or padding.
        control: text of a control id, else empty.
        domain: of the row or document.
        source, source_position, line: the document's file and place in it; None for padding; the
            line only where the original file was given and has lines.
        key: the document's, hex.
        piece, n_pieces: which part of the document the row holds.
        bytes_range: the token's bytes in the document's UTF-8.
        characters: the code points that these bytes belong to.
        whole_characters: whether the token begins and ends at borders of code points.
        before, text, after: the document around the token, made safe to show; `text` is that of
            all characters it touches.
        file: the original file, where it was given and its text is the one that was packed.
    """

    row: int
    position: int
    token_id: int
    kind: PartKind | Literal["control", "padding"]
    control: str = ""
    domain: str = ""
    source: str | None = None
    source_position: int | None = None
    line: int | None = None
    key: str | None = None
    piece: int = 0
    n_pieces: int = 1
    bytes_range: tuple[int, int] | None = None
    characters: tuple[int, int] | None = None
    whole_characters: bool = True
    before: str = ""
    text: str = ""
    after: str = ""
    file: str | None = None


def open_trace(folder: Path) -> PackedTracer | TokenTracer:
    """The tracer of a packed set or a token set.

    Raises:
        BadInput: neither.
    """
    manifest = read_manifest(folder, expect=(PACKED, TOKENS))
    return PackedTracer(folder) if manifest.format == PACKED else TokenTracer(folder, manifest)


class PackedTracer:
    """Traces ids of a packed set."""

    def __init__(self, folder: Path) -> None:
        self._rows = PackedRows(folder)
        self.manifest = self._rows.manifest
        self._vocabulary = self._rows.vocabulary
        self._row = functools.lru_cache(maxsize=1)(self._rows.row)
        self._document = functools.lru_cache(maxsize=4)(self._read_document)
        self.read_options = ReadOptions()

    def trace(self, row: int, position: int) -> Trace:
        """Where id number `position` of row number `row` comes from, by rows and lineage alone.

        Raises:
            BadInput: no such row or position.
        """
        here = self._row(row)
        _check_position(position, self._rows.context, f"row {row:,}", self._rows.folder)
        found = Trace(
            row=row,
            position=position,
            token_id=int(here.ids[position]),
            kind="padding",
            domain=here.domain,
        )
        if position >= here.n_tokens:
            return replace(found, control=_control_text(self._vocabulary, found.token_id))
        slot = int(np.searchsorted(here.starts, position, side="right")) - 1
        origin, inside = here.origins[slot], position - here.starts[slot]
        found = replace(
            found,
            source=origin.source,
            source_position=origin.position,
            key=origin.key.hex(),
            piece=origin.piece,
            n_pieces=origin.n_pieces,
        )
        ids = here.ids[here.starts[slot] : here.starts[slot] + origin.n_tokens]
        text, piece_starts = self._document(row, slot)
        for kind, start, end, first_byte in _parts(ids, origin.fim, self._vocabulary):
            if start <= inside < end:
                first = piece_starts[origin.piece] + first_byte
                first += _size(ids[start:inside], self._vocabulary)
                stop = first + _size(ids[inside : inside + 1], self._vocabulary)
                return text.locate(replace(found, kind=kind), first, stop)
        return replace(
            found, kind="control", control=_control_text(self._vocabulary, found.token_id)
        )

    def document(self, row: int, position: int) -> bytes:
        """The whole document that an id belongs to, put together from its pieces."""
        here = self._row(row)
        slot = int(np.searchsorted(here.starts, position, side="right")) - 1
        return self._document(row, slot)[0].data

    def _read_document(self, row: int, slot: int) -> tuple[_Text, list[int]]:
        """A document's text and the byte at which each of its pieces begins."""
        here: PackedRow = self._row(row)
        parts, starts = [], [0]
        for origin, ids in self._rows.pieces_of(here, here.origins[slot]):
            parts.append(_piece_bytes(ids, origin, self._vocabulary))
            starts.append(starts[-1] + len(parts[-1]))
        return _Text(b"".join(parts)), starts


class TokenTracer:
    """Traces ids of a token set: row is the document's number, position the token's in it."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.manifest = manifest
        self._folder, self._shards = folder, manifest.shards()
        self._vocabulary = load_vocabulary(folder / TOKENIZER_NAME)
        self._document = functools.lru_cache(maxsize=1)(self._read_document)
        self.read_options = from_dict(ReadOptions, manifest.plan["tokenize"]["read"])

    def trace(self, row: int, position: int) -> Trace:
        """Where id number `position` of document number `row` comes from.

        Raises:
            BadInput: no such document or position.
        """
        fields, text = self._document(row)
        ids = np.array(fields["ids"], dtype=np.int32)
        _check_position(position, len(ids), f"document {row:,}", self._folder)
        found = Trace(
            row=row,
            position=position,
            token_id=int(ids[position]),
            kind="text",
            domain=fields["domain"],
            source=fields["source"],
            source_position=fields["position"],
            key=fields["key"].hex(),
        )
        first = _size(ids[:position], self._vocabulary)
        return text.locate(found, first, first + _size(ids[position:][:1], self._vocabulary))

    def document(self, row: int, position: int) -> bytes:
        """The document's text."""
        return self._document(row)[1].data

    def _read_document(self, row: int) -> tuple[dict[str, Any], _Text]:
        left = row
        for record in self._shards:
            if 0 <= left < record.rows:
                for batch in ShardReader(self._folder, record).batches():
                    if left < batch.num_rows:
                        return self._fields(batch, left)
                    left -= batch.num_rows
            left -= record.rows
        raise BadInput(
            f"there is no document {row:,}",
            where=f"{self._folder}, documents 0 to {sum(r.rows for r in self._shards) - 1:,}",
            effect="nothing was read",
            fix="give a number in that range",
        )

    def _fields(self, batch: pa.RecordBatch, row: int) -> tuple[dict[str, Any], _Text]:
        fields: dict[str, Any] = batch.slice(row, 1).to_pylist()[0]
        data = self._vocabulary.decode(np.array(fields["ids"], dtype=np.int32))
        return fields, _Text(data)


def trace(
    folder: Path,
    row: int,
    position: int,
    *,
    shard: str | None = None,
    inputs: Sequence[Path | str] = (),
    options: ReadOptions | None = None,
) -> Trace:
    """Where an id of a packed or token set comes from; with `inputs`, checked against the source.

    Args:
        shard: name of the shard that `row` is counted in; without it, it is in the whole set.
        inputs: the files or folders that were tokenized.
        options: how they were read; for a token set, what it was made with if not given.

    Raises:
        BadInput: no such place; the source is not there or has another text.
        IntegrityError: damage in the set.
    """
    tracer = open_trace(folder)
    row = row_in_set(folder, tracer.manifest, row, shard)
    found = tracer.trace(row, position)
    if not inputs or found.source is None or found.source_position is None:
        return found
    read = options or tracer.read_options
    source = read_source(inputs, found.source, found.source_position, read)
    if source.data != tracer.document(row, position):
        raise BadInput(
            "the source holds another text than the one that was packed",
            where=f"{source.place}, document at {found.source_position:,}",
            effect="the trace cannot be shown in the source",
            fix="give the files as they were tokenized",
        )
    return replace(found, line=source.line, file=source.place)


def _parts(ids: Ids, fim: bool, vocabulary: Vocabulary) -> list[tuple[PartKind, int, int, int]]:
    """Parts of a piece with the byte of the piece's text at which each begins."""
    parts, size = [], 0
    for kind, start, stop in in_document_order(part_ranges(ids, fim, vocabulary)):
        parts.append((kind, start, stop, size))
        size += _size(ids[start:stop], vocabulary)
    return parts


def _piece_bytes(ids: Ids, origin: Origin, vocabulary: Vocabulary) -> bytes:
    parts = _parts(ids, origin.fim, vocabulary)
    return b"".join(vocabulary.decode(ids[start:stop]) for _, start, stop, _ in parts)


def _size(ids: Ids, vocabulary: Vocabulary) -> int:
    return int(vocabulary.byte_lengths[ids].sum(dtype=np.int64))


class _Text:
    """A document's text, and how many code points begin up to each of its bytes."""

    def __init__(self, data: bytes) -> None:
        self.data, self.text = data, data.decode("utf-8")
        self.begins: NDArray[np.bool_] = (np.frombuffer(data, dtype=np.uint8) & 0xC0) != 0x80
        self._count = np.cumsum(self.begins)

    def locate(self, found: Trace, first: int, stop: int) -> Trace:
        """The trace of the bytes first..stop, with characters and the text around them."""
        start, end = int(self._count[first]) - 1, int(self._count[stop - 1])
        ends_whole = stop == len(self.data) or self.begins[stop]
        return replace(
            found,
            bytes_range=(first, stop),
            characters=(start, end),
            whole_characters=bool(self.begins[first] and ends_whole),
            before=printable(self.text[max(0, start - AROUND_CHARACTERS) : start]),
            text=printable(self.text[start:end]),
            after=printable(self.text[end : end + AROUND_CHARACTERS]),
        )


def _control_text(vocabulary: Vocabulary, token: int) -> str:
    names = {number: text for text, number in vocabulary.control_texts.items()}
    return names.get(token, "")


def _check_position(position: int, length: int, what: str, folder: Path) -> None:
    if not 0 <= position < length:
        raise BadInput(
            f"there is no position {position:,} in {what}",
            where=f"{folder}, positions 0 to {length - 1:,}",
            effect="nothing was read",
            fix="give a number in that range",
        )
