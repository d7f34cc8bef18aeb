"""JSON Lines: one object per line, read strictly."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from dsv3data.io.sources.documents import (
    Document,
    ReadOptions,
    Rejected,
    document_from_fields,
)
from dsv3data.io.sources.lines import Line, iterate_lines
from dsv3data.io.sources.streams import decompressed_chunks, read_chunks
from dsv3data.io.sources.units import Span

# Escaped text takes two (\u4e2d) or three (a surrogate pair) bytes for each of UTF-8; the rest is
# other fields. A longer line is a document over the limit, or as good as one.
_ESCAPE_FACTOR = 3
_OTHER_FIELDS_BYTES = 1 << 20


def read_jsonl(span: Span, options: ReadOptions) -> Iterator[Document | Rejected]:
    """Every line of the span as a document or a rejection; blank lines are neither."""
    limit = options.max_document_bytes * _ESCAPE_FACTOR + _OTHER_FIELDS_BYTES
    for number, line in enumerate(_lines(span, limit), start=1):
        result = _read_line(line, span.file.name, options)
        if isinstance(result, Rejected):
            yield Rejected(
                result.source, result.position, result.reason, result.detail, line=number
            )
        elif result is not None:
            yield result


def _lines(span: Span, max_bytes: int) -> Iterator[Line]:
    if span.file.compression:
        chunks = decompressed_chunks(span.file.path, span.file.compression)
        return iterate_lines(chunks, max_bytes=max_bytes)
    start = first_line_start(span)
    chunks = read_chunks(span.file.path, start=start)
    return iterate_lines(chunks, start=start, stop=span.stop, max_bytes=max_bytes)


def first_line_start(span: Span) -> int:
    """Offset of the first line that begins in the span (its stop, or later, if there is none)."""
    if span.start == 0:
        return 0
    offset = span.start - 1
    for chunk in read_chunks(span.file.path, start=offset):
        end = chunk.find(b"\n")
        if end >= 0:
            return offset + end + 1
        offset += len(chunk)
    return span.file.size


def _read_line(line: Line, source: str, options: ReadOptions) -> Document | Rejected | None:
    if line.data is None:
        return Rejected(source, line.offset, "too-large", f"a line of {line.size:,} bytes")
    data = line.data.removeprefix(b"\xef\xbb\xbf") if line.offset == 0 else line.data
    if not data.strip():
        return None
    bad_bytes = False
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        if options.on_bad_utf8 == "reject":
            detail = f"byte {error.start} of the line: {error.reason}"
            return Rejected(source, line.offset, "bad-utf8", detail)
        text, bad_bytes = data.decode("utf-8", "replace"), True
    try:
        fields = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        return Rejected(source, line.offset, "bad-json", str(error)[:200])
    if not isinstance(fields, dict):
        detail = f"a JSON {type(fields).__name__}, not an object"
        return Rejected(source, line.offset, "bad-json", detail)
    result = document_from_fields(fields, source=source, position=line.offset, options=options)
    if bad_bytes and isinstance(result, Document):
        return Document(result.key, source, line.offset, result.domain, result.data, replaced=True)
    return result


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return fields
