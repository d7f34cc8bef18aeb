"""CSV: a header row, then one document per row, read strictly.

RFC 4180 with a comma: fields in double quotes may hold commas, line breaks and doubled quotes. Only
the reader of a whole file knows whether a line break stands inside of quotes, so a CSV file is one
unit.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence

from dsv3data.contracts.errors import BadInput
from dsv3data.io.sources.documents import (
    Document,
    DocumentMaker,
    ReadOptions,
    Rejected,
)
from dsv3data.io.sources.lines import Line, iterate_lines
from dsv3data.io.sources.raw import InputLog, RawBytes
from dsv3data.io.sources.streams import decompressed
from dsv3data.io.sources.units import Span

_OTHER_FIELDS_BYTES = 1 << 20
_BOM = b"\xef\xbb\xbf"
_QUOTE = b'"'


def read_csv(
    span: Span, raw: RawBytes, options: ReadOptions, log: InputLog
) -> Iterator[Document | Rejected]:
    """Every row after the header as a document or a rejection; blank lines are neither.

    A row's position is its number, the first after the header being 0.

    Raises:
        BadInput: the header lacks the text column, or names one twice.
    """
    rows = _Rows(decompressed(raw.chunks, span.file.compression), options, log)
    header = _header(rows, span, options)
    maker = DocumentMaker(span.file.name, options)
    position = 0
    while (row := rows.next()) is not None:
        line = rows.first_line
        if isinstance(row, _Problem):
            yield Rejected(span.file.name, position, row.reason, row.detail, line)
        elif len(row) != len(header):
            detail = f"{len(row)} fields, the header has {len(header)}"
            yield Rejected(span.file.name, position, "bad-csv", detail, line)
        else:
            fields = dict(zip(header, row, strict=True))
            bad = [name for name in _wanted(options) if not _is_text(fields.get(name, ""))]
            if bad and options.on_bad_utf8 == "reject":
                detail = f"field {bad[0]!r} holds bytes that are not UTF-8"
                yield Rejected(span.file.name, position, "bad-utf8", detail, line)
            else:
                result = maker.make(_repaired(fields, bad), position)
                if isinstance(result, Document):
                    yield result._replace(replaced=bool(bad))
                else:
                    yield result._replace(line=line)
        position += 1


def _repaired(fields: dict[str, str], bad: Sequence[str]) -> dict[str, str]:
    """Bytes that are not UTF-8 are lone surrogates here, which nothing else in a CSV file gives."""
    return fields | {
        name: fields[name].encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        for name in bad
    }


def _is_text(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _wanted(options: ReadOptions) -> tuple[str, ...]:
    return (options.text_key, options.id_key, options.domain_key)


class _Problem(Exception):
    """Why a row is rejected."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class _Rows:
    """Rows of a byte stream. The standard library's parser asks for one line after the other; a
    row that grows over the limit is dropped, and skipped up to the line end after its last quote.
    """

    def __init__(self, chunks: Iterator[bytes], options: ReadOptions, log: InputLog) -> None:
        # A quote is written as two: a field may take twice its size.
        self._limit = 2 * options.max_document_bytes + _OTHER_FIELDS_BYTES
        csv.field_size_limit(max(csv.field_size_limit(), self._limit))
        self._lines = iterate_lines(chunks, max_bytes=self._limit, mark=_QUOTE)
        self._log = log
        self._size = self._quotes = 0
        self.first_line = 1

    def next(self) -> list[str] | _Problem | None:
        """The next row that is not blank, or why it is none; None after the last."""
        while True:
            self.first_line = self._log.lines[-1] + 1
            self._size = self._quotes = 0
            try:
                row = next(csv.reader(self._feed(), strict=True), None)
            except csv.Error as error:
                return _Problem("bad-csv", str(error))
            except _Problem as problem:
                self._skip_row()
                return _Problem(problem.reason, f"a row of {self._size:,} bytes")
            if row or row is None:
                return row

    def _feed(self) -> Iterator[str]:
        for line in self._lines:
            self._take(line)
            if line.data is None or self._size > self._limit:
                raise _Problem("too-large", "")
            data = line.data.removeprefix(_BOM) if line.offset == 0 else line.data
            yield data.decode("utf-8", "surrogateescape") + "\n"

    def _take(self, line: Line) -> None:
        self._log.lines[-1] += 1
        self._size += line.size + 1
        self._quotes += line.marks

    def _skip_row(self) -> None:
        """Pass over what is left of a row that was dropped inside of quotes."""
        while self._quotes % 2 and (line := next(self._lines, None)) is not None:
            self._take(line)


def _header(rows: _Rows, span: Span, options: ReadOptions) -> list[str]:
    """The names of the columns; none in an empty file."""
    row = rows.next()
    if row is None:
        return []
    if isinstance(row, _Problem):
        raise _bad_header(span, f"the header row cannot be read: {row.reason} {row.detail}")
    if options.text_key not in row:
        names = ", ".join(row[:12]).encode("utf-8", "replace").decode("utf-8")
        raise _bad_header(span, f"the file has no column {options.text_key!r}; columns: {names}")
    twins = [name for name in _wanted(options) if row.count(name) > 1]
    if twins:
        raise _bad_header(span, f"the file has two columns {twins[0]!r}")
    return row


def _bad_header(span: Span, problem: str) -> BadInput:
    return BadInput(
        problem,
        where=str(span.file.place),
        effect="no document of this file was taken",
        fix="name the columns in the first row, each once, and the text column with --text-key",
    )
