"""Plain text: the whole file is one document."""

from __future__ import annotations

from collections.abc import Iterator

from dsv3data.io.sources.documents import (
    Document,
    DocumentMaker,
    ReadOptions,
    Rejected,
)
from dsv3data.io.sources.raw import InputLog, RawBytes
from dsv3data.io.sources.streams import decompressed
from dsv3data.io.sources.units import Span


def read_text(
    span: Span, raw: RawBytes, options: ReadOptions, log: InputLog
) -> Iterator[Document | Rejected]:
    """The file's text as one document, byte for byte (no newline or BOM is changed)."""
    parts, size, name = [], 0, span.file.name
    for chunk in decompressed(raw.chunks, span.file.compression):
        size += len(chunk)
        if size <= options.max_document_bytes:
            parts.append(chunk)
        else:
            parts.clear()
    if size > options.max_document_bytes:
        yield Rejected(name, 0, "too-large", f"{size:,} bytes")
        return
    data = b"".join(parts)
    try:
        text, replaced = data.decode("utf-8"), False
    except UnicodeDecodeError as error:
        if options.on_bad_utf8 == "reject":
            yield Rejected(name, 0, "bad-utf8", f"byte {error.start} of the file: {error.reason}")
            return
        text, replaced = data.decode("utf-8", "replace"), True
    # The file's name is its id where ids are asked for: a text file has no other field.
    fields = {options.text_key: text, **({options.id_key: name} if options.id_key else {})}
    result = DocumentMaker(name, options).make(fields, 0)
    if replaced and isinstance(result, Document):
        result = result._replace(replaced=True)
    yield result
