"""JSON Lines: one object per line, read strictly.

A compiled kernel takes blocks of lines apart and decodes the texts; what is left of a line goes
through orjson. Whatever these refuse or leave in doubt (a lone surrogate, a key that may stand
twice, a whole number beyond 64 bits as an id) is read again, slowly, and decided there.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import orjson

from dsv3data.io.sources.documents import (
    Document,
    DocumentMaker,
    ReadOptions,
    Rejected,
)
from dsv3data.io.sources.lines import Block, line_blocks
from dsv3data.io.sources.raw import InputLog, RawBytes
from dsv3data.io.sources.streams import decompressed
from dsv3data.io.sources.units import Span

# Escaped text takes two (\u4e2d) or three (a surrogate pair) bytes for each of UTF-8; the rest is
# other fields. A longer line is a document over the limit, or as good as one.
_ESCAPE_FACTOR = 3
_OTHER_FIELDS_BYTES = 1 << 20
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# Lines that the kernel takes apart at a time.
_AT_ONCE = 1 << 12
# Names that JSON can spell in two ways only: as they are, or with \u00XX for some characters.
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.: -]+")


def read_jsonl(
    span: Span, raw: RawBytes, options: ReadOptions, log: InputLog
) -> Iterator[Document | Rejected]:
    """Every line of the span as a document or a rejection; blank lines are neither."""
    limit = options.max_document_bytes * _ESCAPE_FACTOR + _OTHER_FIELDS_BYTES
    fast = FastReader(options)
    chunks = decompressed(raw.chunks, span.file.compression)
    source, make = span.file.name, DocumentMaker(span.file.name, options).make
    number = 0
    for block in line_blocks(chunks, start=raw.offset, max_bytes=limit, beyond=fast.beyond):
        if not isinstance(block, Block):
            number += 1
            log.lines[-1] = number
            detail = f"a line of {block.size:,} bytes"
            yield Rejected(source, block.offset, "too-large", detail, number)
            continue
        for line in fast.read(block):
            number += 1
            log.lines[-1] = number
            offset = block.offset + line.start
            if line.fields is not None:
                result = make(line.fields, offset, line.n_bytes)
            else:
                data = block.data[line.start : line.stop]
                if not offset:
                    data = data.removeprefix(_BYTE_ORDER_MARK)
                if not data.strip():
                    continue
                result = read_slow(data, offset, source, options)
            yield result._replace(line=number) if isinstance(result, Rejected) else result


def load_kernel() -> Any:
    """What reads blocks of lines. Loading it, once a process, takes most of a second."""
    from dsv3data.io.sources import jsonl_kernel

    jsonl_kernel.load()
    return jsonl_kernel


class FastLine(NamedTuple):
    """A line by its place in a block. The fields of a plain one, with the length of the text in
    UTF-8; None if it needs a closer look."""

    start: int
    stop: int
    fields: dict[str, Any] | None
    n_bytes: int


class FastReader:
    """Reads plain lines; leaves the others to `read_slow`.

    The kernel takes the text out and knows that no other key of the outermost object is spelled
    like its own. orjson takes the last of two equal keys without a word. A key that we read stands
    once if its quoted name, or that with a colon, does in what is left: inside of a string a quote
    has a backslash in front, which leaves only keys and values that are spelled with escapes.
    """

    def __init__(self, options: ReadOptions) -> None:
        names = _names(options)
        self._kernel = load_kernel()
        self.beyond: int = self._kernel.WIDTH  # bytes of a block behind its lines
        is_usable = all(map(_PLAIN_NAME.fullmatch, names))
        self._text_key = options.text_key
        self._id_key = options.id_key
        # A name that no key has: every line needs a closer look.
        spelled = options.text_key.encode() if is_usable else b'"'
        self._name = np.frombuffer(spelled, dtype=np.uint8)
        quoted = [f'"{name}"'.encode() for name in names] if is_usable else []
        self._quoted = [(name, re.compile(re.escape(name) + rb"\s*:")) for name in quoted]
        codes = sorted({f"{ord(character):02x}" for name in names for character in name})
        self._escaped = re.compile(f"\\\\u00(?:{'|'.join(codes)})".encode(), re.IGNORECASE)
        self._table = np.empty((_AT_ONCE, self._kernel.N_COLUMNS), dtype=np.int64)
        self._texts = np.empty(0, dtype=np.uint8)

    def read(self, block: Block) -> Iterator[FastLine]:
        """The block's lines."""
        source = np.frombuffer(block.data, dtype=np.uint8)
        if len(self._texts) < len(source) + self.beyond:
            self._texts = np.empty(len(source) + self.beyond, dtype=np.uint8)
        texts = self._texts.data
        place = 0
        while place < block.size:
            rows, place = self._kernel.take_lines_apart(
                source, place, block.size, self._name, self._texts, self._table
            )
            for start, stop, literal, behind, text, text_stop in self._table[:rows].tolist():
                fields = None
                if literal >= 0:
                    rest = b'%b""%b' % (block.data[start:literal], block.data[behind:stop])
                    fields = self._fields(rest, texts[text:text_stop])
                yield FastLine(start, stop, fields, text_stop - text)

    def _fields(self, rest: bytes, text: memoryview) -> dict[str, Any] | None:
        """The fields of a line without its text, and this as its text."""
        for name, key in self._quoted:
            if rest.count(name) > 1 and len(key.findall(rest)) > 1:  # the first is fast
                return None
        if b"\\u00" in rest and self._escaped.search(rest):
            return None
        try:
            fields: dict[str, Any] = orjson.loads(rest)
            fields[self._text_key] = str(text, "utf-8")
        except ValueError:  # no JSON, or no UTF-8
            return None
        if self._id_key and isinstance(fields.get(self._id_key), float):
            return None
        return fields


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
