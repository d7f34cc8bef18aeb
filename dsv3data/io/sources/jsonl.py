"""JSON Lines: one object per line, read strictly.

A line goes through orjson, six times as fast as the standard library's parser. Whatever orjson
refuses or leaves in doubt (a lone surrogate, a key that may stand twice, a whole number beyond
64 bits as an id) is read again, slowly, and decided there.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator
from typing import Any

import orjson

from dsv3data.io.sources.documents import (
    Document,
    DocumentMaker,
    ReadOptions,
    Rejected,
)
from dsv3data.io.sources.lines import iterate_lines
from dsv3data.io.sources.raw import InputLog, RawBytes
from dsv3data.io.sources.streams import decompressed
from dsv3data.io.sources.units import Span

# Escaped text takes two (\u4e2d) or three (a surrogate pair) bytes for each of UTF-8; the rest is
# other fields. A longer line is a document over the limit, or as good as one.
_ESCAPE_FACTOR = 3
_OTHER_FIELDS_BYTES = 1 << 20
# Characters from which on a text is taken out of a line before that is searched.
_LONG = 512
# Names that JSON can spell in two ways only: as they are, or with \u00XX for some characters.
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.: -]+")


def read_jsonl(
    span: Span, raw: RawBytes, options: ReadOptions, log: InputLog
) -> Iterator[Document | Rejected]:
    """Every line of the span as a document or a rejection; blank lines are neither."""
    limit = options.max_document_bytes * _ESCAPE_FACTOR + _OTHER_FIELDS_BYTES
    chunks = decompressed(raw.chunks, span.file.compression)
    source, lines = span.file.name, iterate_lines(chunks, start=raw.offset, max_bytes=limit)
    read_fast, make = FastReader(options).read, DocumentMaker(source, options).make
    for number, line in enumerate(lines, start=1):
        log.lines[-1] = number
        data = line.data
        if data is None:
            detail = f"a line of {line.size:,} bytes"
            yield Rejected(source, line.offset, "too-large", detail, number)
            continue
        if not line.offset:
            data = data.removeprefix(b"\xef\xbb\xbf")
        fields = read_fast(data)
        if fields is not None:
            result = make(fields, line.offset)
        elif data.strip():
            result = read_slow(data, line.offset, source, options)
        else:
            continue
        yield result._replace(line=number) if isinstance(result, Rejected) else result


class FastReader:
    """Reads plain lines; leaves the others to `read_slow`.

    orjson takes the last of two equal keys without a word. A key that we read stands once if its
    quoted name does: inside of a string a quote has a backslash in front, which leaves only keys
    and values that are spelled with escapes. Where the text is spelled as orjson would spell it,
    that string, most of the line, need not be searched.
    """

    def __init__(self, options: ReadOptions) -> None:
        names = _names(options)
        self._is_usable = all(map(_PLAIN_NAME.fullmatch, names))
        self._text_key = options.text_key
        self._id_key = options.id_key
        self._quoted = [f'"{name}"'.encode() for name in names]
        codes = sorted({f"{ord(character):02x}" for name in names for character in name})
        self._escaped = re.compile(f"\\\\u00(?:{'|'.join(codes)})".encode(), re.IGNORECASE)

    def read(self, data: bytes) -> dict[str, Any] | None:
        """The fields of a plain line; None if it needs a closer look."""
        if not self._is_usable:
            return None
        try:
            fields = orjson.loads(data)
        except orjson.JSONDecodeError:
            return None
        if not isinstance(fields, dict):
            return None
        text = fields.get(self._text_key)
        if not isinstance(text, str):
            return None
        searched = self._without_text(data, text) if len(text) > _LONG else data
        for name in self._quoted:
            if searched.count(name) > 1:
                return None
        if b"\\u00" in searched and self._escaped.search(searched):
            return None
        if self._id_key and isinstance(fields.get(self._id_key), float):
            return None
        return fields

    def _without_text(self, data: bytes, text: str) -> bytes:
        """The line without the string behind the first text key, if orjson would spell `text` so.

        Were the first `"text"` no key, or its value another one, the name would stand once more.
        """
        spelled = orjson.dumps(text)
        name = self._quoted[0]
        start = data.find(b'"', data.find(name) + len(name))
        if not data.startswith(spelled, start):
            return data
        return data[:start] + data[start + len(spelled) :]


def _names(options: ReadOptions) -> tuple[str, ...]:
    keys = (options.text_key, options.id_key, options.domain_key)
    return tuple(dict.fromkeys(key for key in keys if key))


def read_slow(data: bytes, offset: int, source: str, options: ReadOptions) -> Document | Rejected:
    """The standard library's reading of a line: every rule, and the words for what is wrong."""
    bad_bytes = False
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        if options.on_bad_utf8 == "reject":
            detail = f"byte {error.start} of the line: {error.reason}"
            return Rejected(source, offset, "bad-utf8", detail)
        text, bad_bytes = data.decode("utf-8", "replace"), True
    unique = functools.partial(_unique, frozenset(_names(options)))
    try:
        fields = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        return Rejected(source, offset, "bad-json", str(error)[:200])
    if not isinstance(fields, dict):
        detail = f"a JSON {type(fields).__name__}, not an object"
        return Rejected(source, offset, "bad-json", detail)
    result = DocumentMaker(source, options).make(fields, offset)
    if bad_bytes and isinstance(result, Document):
        return result._replace(replaced=True)
    return result


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _unique(names: frozenset[str], pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object's fields. Which of two equal keys is meant cannot be known; it matters only for
    those that are read."""
    fields = dict(pairs)
    if len(fields) != len(pairs):
        keys = [key for key, _ in pairs if key in names]
        if len(set(keys)) != len(keys):
            raise ValueError(f"a key stands twice in one object: {', '.join(keys)}"[:200])
    return fields
