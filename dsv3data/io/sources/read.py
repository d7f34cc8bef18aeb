"""Reading a work unit: the right reader for each span."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pyarrow as pa

from dsv3data.io.sources.documents import Document, ReadOptions, Rejected
from dsv3data.io.sources.jsonl import read_jsonl
from dsv3data.io.sources.plain_text import read_text
from dsv3data.io.sources.raw import InputLog, RawBytes, UnhashedLog, parts, raw_bytes
from dsv3data.io.sources.separated import read_csv
from dsv3data.io.sources.streams import DamagedStream, damaged_file
from dsv3data.io.sources.tabular import read_arrow, read_parquet
from dsv3data.io.sources.units import Span, Unit

# Readers of a stream of bytes, which are hashed on their way; and those that jump about in a file,
# which is hashed before.
_OF_STREAMS = {"jsonl": read_jsonl, "csv": read_csv, "text": read_text}
_OF_FILES = {"parquet": read_parquet, "arrow": read_arrow}


def read_unit(
    unit: Unit, options: ReadOptions, log: InputLog | None = None
) -> Iterator[Document | Rejected]:
    """Every document of the unit, in input order, exactly once.

    Args:
        log: holds the hash of what was read when the last document has been taken; without one
            nothing is hashed.

    Raises:
        BadInput: a file is damaged (unless `keep_prefix`), lacks the text column, or was changed
            while it was read.
    """
    log = UnhashedLog() if log is None else log
    for span in unit.spans:
        log.lines.append(0)
        try:
            yield from _read_span(span, options, log)
        except DamagedStream as damage:
            if not options.keep_prefix:
                raise damaged_file(span.file.place, damage) from damage
            detail = f"{damage.problem}, byte {damage.offset:,} of the compressed file"
            yield Rejected(span.file.name, damage.offset, "damaged-stream", detail)
        span.file.place.check_unchanged()


def _read_span(span: Span, options: ReadOptions, log: InputLog) -> Iterator[Document | Rejected]:
    if span.file.kind in _OF_FILES:
        yield from _OF_FILES[span.file.kind](span, partial(_open, span, log), options)
        return
    raw = raw_bytes(span)
    chunks = log.reading(span, raw.chunks)
    try:
        yield from _OF_STREAMS[span.file.kind](span, RawBytes(raw.offset, chunks), options, log)
    except DamagedStream:
        _exhaust(chunks)
        raise
    _exhaust(chunks)


def _open(span: Span, log: InputLog) -> pa.NativeFile:
    if isinstance(log, UnhashedLog):
        return span.file.place.arrow_file()
    return span.file.place.arrow_file_of(parts(span, log))


def input_sha256(unit: Unit) -> str:
    """The hash that `read_unit` gives, without reading documents."""
    log = InputLog()
    for span in unit.spans:
        _exhaust(log.reading(span, raw_bytes(span).chunks))
    return log.sha256


def _exhaust(chunks: Iterator[bytes]) -> None:
    for _ in chunks:
        pass
