"""Reading a work unit: the right reader for each span, and the hash of what it reads."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pyarrow.parquet as pq

from dsv3data.io.sources.documents import Document, ReadOptions, Rejected
from dsv3data.io.sources.jsonl import first_line_start, read_jsonl
from dsv3data.io.sources.plain_text import read_text
from dsv3data.io.sources.streams import DamagedStream, damaged_file, read_chunks
from dsv3data.io.sources.tabular import read_arrow, read_parquet
from dsv3data.io.sources.units import Span, Unit

_READERS = {
    "jsonl": read_jsonl,
    "parquet": read_parquet,
    "arrow": read_arrow,
    "text": read_text,
}


def read_unit(unit: Unit, options: ReadOptions) -> Iterator[Document | Rejected]:
    """Every document of the unit, in input order, exactly once.

    Raises:
        BadInput: a file is damaged (unless `keep_prefix`) or lacks the text column.
    """
    for span in unit.spans:
        try:
            yield from _READERS[span.file.kind](span, options)
        except DamagedStream as damage:
            if not options.keep_prefix:
                raise damaged_file(span.file.path, damage) from damage
            detail = f"{damage.problem}, byte {damage.offset:,} of the compressed file"
            yield Rejected(span.file.name, damage.offset, "damaged-stream", detail)


def input_sha256(unit: Unit) -> str:
    """SHA-256 (hex) of the raw bytes that the unit's documents come from."""
    digest = hashlib.sha256()
    for span in unit.spans:
        for start, stop in _byte_ranges(span):
            digest.update(f"{span.file.name}\0{stop - start}\0".encode())
            left = stop - start
            for chunk in read_chunks(span.file.path, start=start):
                digest.update(chunk[:left])
                left -= min(left, len(chunk))
                if not left:
                    break
    return digest.hexdigest()


def _byte_ranges(span: Span) -> list[tuple[int, int]]:
    if span.file.kind == "parquet":
        return _column_chunk_ranges(span)
    if span.file.kind == "jsonl" and not span.file.compression:
        return [(first_line_start(span), _after_last_line(span))]
    return [(span.start, span.stop)]


def _after_last_line(span: Span) -> int:
    """End of the last line that begins in the span: where the next span's first line starts."""
    following = Span(file=span.file, start=span.stop, stop=span.stop, size=0)
    return first_line_start(following)


def _column_chunk_ranges(span: Span) -> list[tuple[int, int]]:
    metadata = pq.ParquetFile(span.file.path).metadata
    ranges = []
    for group in range(span.start, span.stop):
        for number in range(metadata.num_columns):
            column = metadata.row_group(group).column(number)
            offsets = [column.data_page_offset, column.dictionary_page_offset]
            start = min(offset for offset in offsets if offset is not None)
            ranges.append((start, start + column.total_compressed_size))
    return ranges
