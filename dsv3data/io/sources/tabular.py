"""Parquet files by row groups, and Arrow IPC files (stream or file format) batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dsv3data.contracts.errors import BadInput
from dsv3data.io.sources.documents import (
    Document,
    DocumentMaker,
    ReadOptions,
    Rejected,
)
from dsv3data.io.sources.units import Span

# Few rows at a time: the values of a dictionary bomb are as large as a document may be, each.
_BATCH_ROWS = 16


# Opens the span's file for Arrow.
Opener = Callable[[], pa.NativeFile]


def read_parquet(span: Span, opener: Opener, options: ReadOptions) -> Iterator[Document | Rejected]:
    """Every row of the span's row groups."""
    try:
        file = pq.ParquetFile(opener())
        columns = _wanted_columns(file.schema_arrow, span, options)
        batches = file.iter_batches(
            batch_size=_BATCH_ROWS,
            row_groups=list(range(span.start, span.stop)),
            columns=columns,
        )
        yield from _rows(batches, span, options)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(span, "Parquet", error) from error


def read_arrow(span: Span, opener: Opener, options: ReadOptions) -> Iterator[Document | Rejected]:
    """Every row of an Arrow IPC file."""
    try:
        with opener() as source:
            yield from _rows(_arrow_batches(source, span, options), span, options)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(span, "Arrow", error) from error


def _arrow_batches(
    source: pa.NativeFile, span: Span, options: ReadOptions
) -> Iterator[pa.RecordBatch]:
    if source.read(6) == b"ARROW1":
        source.seek(0)
        reader = pa.ipc.open_file(source)
        columns = _wanted_columns(reader.schema, span, options)
        batches = (reader.get_batch(number) for number in range(reader.num_record_batches))
    else:
        source.seek(0)
        reader = pa.ipc.open_stream(source)
        columns = _wanted_columns(reader.schema, span, options)
        batches = iter(reader)
    for batch in batches:
        for start in range(0, batch.num_rows, _BATCH_ROWS):
            yield batch.slice(start, _BATCH_ROWS).select(columns)


def _rows(
    batches: Iterator[pa.RecordBatch], span: Span, options: ReadOptions
) -> Iterator[Document | Rejected]:
    position, source = span.first_row, span.file.name
    maker = DocumentMaker(source, options)
    for batch in batches:
        columns = {name: _values(batch.column(name)) for name in batch.schema.names}
        for row in range(batch.num_rows):
            fields = {name: values[row] for name, values in columns.items()}
            bad = [name for name, value in fields.items() if isinstance(value, bytes)]
            if not bad:
                yield maker.make(fields, position)
            elif options.on_bad_utf8 == "reject":
                detail = f"column {bad[0]!r} holds bytes that are not UTF-8"
                yield Rejected(source, position, "bad-utf8", detail)
            else:
                yield _repaired(fields, maker, position)
            position += 1


def _repaired(fields: dict[str, Any], maker: DocumentMaker, position: int) -> Document | Rejected:
    """A row with strings that are not UTF-8; Arrow does not check."""
    repaired = {
        name: value.decode("utf-8", "replace") if isinstance(value, bytes) else value
        for name, value in fields.items()
    }
    result = maker.make(repaired, position)
    return result._replace(replaced=True) if isinstance(result, Document) else result


def _values(column: pa.Array) -> list[Any]:
    if not _is_string(column.type):
        return list(column.to_pylist())
    values = column.view(pa.binary() if pa.types.is_string(column.type) else pa.large_binary())
    values.validate(full=True)  # offsets of a hostile file would read memory of others
    return [_decode(value) for value in values.to_pylist()]


def _is_string(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _decode(value: bytes | None) -> str | bytes | None:
    if value is None:
        return None
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value


def _wanted_columns(schema: pa.Schema, span: Span, options: ReadOptions) -> list[str]:
    ours = (schema.metadata or {}).get(b"format", b"").decode("utf-8", "replace")
    if ours.startswith("dsv3data."):
        raise BadInput(
            f"the file is a shard of a finished set ({ours}), not documents",
            where=str(span.file.place),
            effect="no document of this file was taken",
            fix="give the documents that the set was made from",
        )
    if options.text_key not in schema.names:
        raise BadInput(
            f"the file has no column {options.text_key!r}; columns: {', '.join(schema.names[:12])}",
            where=str(span.file.place),
            effect="no document of this file was taken",
            fix="name the column with --text-key",
        )
    wanted = (options.text_key, options.id_key, options.domain_key)
    twins = [name for name in wanted if schema.names.count(name) > 1]
    if twins:
        raise BadInput(
            f"the file has two columns {twins[0]!r}",
            where=str(span.file.place),
            effect="no document of this file was taken",
            fix="rename one of them, or name another with --text-key, --id-key or --domain-key",
        )
    kind = schema.field(options.text_key).type
    if not _is_string(kind):
        strings = [field.name for field in schema if _is_string(field.type)]
        raise BadInput(
            f"column {options.text_key!r} is of type {kind}, not string",
            where=str(span.file.place),
            effect="no document of this file was taken",
            fix=f"name the text column with --text-key; of strings: {', '.join(strings[:12])}"
            if strings
            else "write the file again with a column of strings: this one has none",
        )
    return [name for name in schema.names if name in wanted]


def _unreadable(span: Span, kind: str, error: Exception) -> BadInput:
    return BadInput(
        f"the {kind} file cannot be read: {str(error).splitlines()[0]}",
        where=str(span.file.place),
        effect="no document of this file was taken",
        fix="write the file again, or move it out of the input",
    )
