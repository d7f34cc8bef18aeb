"""CSV: RFC 4180, strictly; every row a document or a rejection with its line."""

from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dsv3data.contracts.errors import BadInput
from dsv3data.contracts.keys import document_key, user_id_key
from dsv3data.io.sources import (
    Document,
    InputLog,
    ReadOptions,
    Rejected,
    discover,
    input_sha256,
    plan_units,
    read_unit,
)
from dsv3data.io.sources.place import CHUNK_BYTES

# Everything that a quoted field can hold; a lone return at a line's end is told from "\r\n" only
# inside of quotes, where `csv.writer` puts it.
CELLS = st.text(
    st.characters(exclude_categories=["Cs"]) | st.sampled_from('",\n\r "é中'), max_size=12
)


def read(path: Path, **options: Any) -> list[Document | Rejected]:
    files, _ = discover([path], text_files=())
    (unit,) = plan_units(files, unit_bytes=10)
    log = InputLog()
    items = list(read_unit(unit, ReadOptions(**options), log))
    assert log.sha256 == input_sha256(unit)
    return items


def made(folder: Path, data: bytes | str, **options: Any) -> list[Document | Rejected]:
    path = folder / "x.csv"
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return read(path, **options)


def reasons(items: list[Document | Rejected]) -> list[tuple[Any, ...]]:
    return [
        (item.position, item.text) if isinstance(item, Document) else (item.position, *item[2:])
        for item in items
    ]


@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    rows=st.lists(st.tuples(CELLS, CELLS), max_size=8),
    end=st.sampled_from(["\n", "\r\n"]),
    last_end=st.booleans(),
)
def test_what_was_written_is_read(
    tmp_path: Path, rows: list[tuple[str, str]], end: str, last_end: bool
) -> None:
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerows([("text", "other"), *rows])
    data = file.getvalue() if last_end else file.getvalue().removesuffix(end)
    items = made(tmp_path, data)
    assert [item.position for item in items] == list(range(len(rows)))
    for item, (text, _) in zip(items, rows, strict=True):
        if text:
            assert isinstance(item, Document)
            assert (item.text, item.n_bytes) == (text, len(text.encode()))
        else:
            assert isinstance(item, Rejected)
            assert item.reason == "empty"


def test_names_ids_and_domains(tmp_path: Path) -> None:
    data = '\ufeffn,body,where,name\n1,"a, ""b""\r\nc",web,x\n2,d,,y\n'
    options = {"text_key": "body", "domain_key": "where"}
    first, second = made(tmp_path, data, **options)
    assert first == Document(document_key("x.csv", 0), "x.csv", 0, "web", 'a, "b"\r\nc', 9)
    assert isinstance(second, Document)
    assert (second.domain, second.key) == ("default", document_key("x.csv", 1))
    by_id = made(tmp_path, data, id_key="name", **options)
    assert [item.key for item in by_id if isinstance(item, Document)] == [
        user_id_key("x"),
        user_id_key("y"),
    ]


def test_every_bad_row_has_its_reason_and_its_line(tmp_path: Path) -> None:
    rows = [
        b"text,n",
        b"good,1",
        b"",  # blank: no row
        b"one,two,three",
        b"lonely",
        b'"ends too early" here,1',
        b",1",
        b"b\xffd,1",
        b'"two\nlines",1',
        b"good too,\xff",  # in a field that nobody reads
        b'"never closed,1',
        b"swallowed,1",
    ]
    items = made(tmp_path, b"\n".join(rows) + b"\n")
    assert reasons(items) == [
        (0, "good"),
        (1, "bad-csv", "3 fields, the header has 2", 4),
        (2, "bad-csv", "1 fields, the header has 2", 5),
        (3, "bad-csv", "',' expected after '\"'", 6),
        (4, "empty", "the text is empty", 7),
        (5, "bad-utf8", "field 'text' holds bytes that are not UTF-8", 8),
        (6, "two\nlines"),
        (7, "good too"),
        (8, "bad-csv", "unexpected end of data", 12),
    ]


def test_invalid_bytes_are_replaced_on_request(tmp_path: Path) -> None:
    (item,) = made(tmp_path, b"text\nb\xffd \xe4\xb8\n", on_bad_utf8="replace")
    assert isinstance(item, Document)
    assert (item.text, item.replaced) == ("b\ufffdd \ufffd", True)


@pytest.mark.parametrize("size", [90, 3 << 20])
def test_a_row_over_the_limit_is_skipped_and_the_next_one_read(tmp_path: Path, size: int) -> None:
    """One line of that size, and one that grows over the limit line by line, quotes and all."""
    limit = 100 if size < 1000 else 1000
    single = '"' + 'a""b,' * (size // 5) + '"'
    several = '"' + '"",\n' * ((3 << 20) // 4) + '"'
    texts = ["before", single, "between", several, "after"]
    items = made(
        tmp_path, "text\n" + "".join(f"{text}\n" for text in texts), max_document_bytes=limit
    )
    found = [item.text if isinstance(item, Document) else item.reason for item in items]
    first = single[1:-1].replace('""', '"') if size < 1000 else "too-large"
    assert found == ["before", first, "between", "too-large", "after"]
    assert [item.position for item in items] == [0, 1, 2, 3, 4]
    big = items[3]
    assert isinstance(big, Rejected)
    assert (big.line, big.detail) == (5, f"a row of {len(several) + 1:,} bytes")


def test_the_limit_is_of_the_text(tmp_path: Path) -> None:
    exact, over = made(tmp_path, f"text\n{'é' * 50}\n{'é' * 51}\n", max_document_bytes=100)
    assert isinstance(exact, Document)
    assert reasons([over]) == [(1, "too-large", "102 bytes", 3)]


def test_rows_do_not_depend_on_chunks(tmp_path: Path) -> None:
    quoted = ('"' + "x" * 300_000 + '\n""', '"\n')
    rows = [("".join(quoted)).replace("x", letter) for letter in "abcdefg"]
    items = made(tmp_path, "text\n" + "".join(rows))
    assert sum(map(len, rows)) > 2 * CHUNK_BYTES
    assert [item.text for item in items if isinstance(item, Document)] == [
        letter * 300_000 + '\n"' for letter in "abcdefg"
    ]


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_compressed(tmp_path: Path, suffix: str) -> None:
    compress = gzip.compress if suffix == ".gz" else zstandard.ZstdCompressor().compress
    whole = compress(b"text\none\n") + compress(b'"two\n')
    path = tmp_path / f"x.csv{suffix}"
    path.write_bytes(whole + compress(b'lines"\n'))
    assert reasons(read(path)) == [(0, "one"), (1, "two\nlines")]
    path.write_bytes(whole[:-2])
    with pytest.raises(BadInput, match="the compressed file is damaged"):
        read(path)
    *_, damage = read(path, keep_prefix=True)
    assert isinstance(damage, Rejected)
    assert damage.reason == "damaged-stream"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"body,n\na,1\n", "the file has no column 'text'; columns: body, n"),
        (b"text,text\na,1\n", "the file has two columns 'text'"),
        (b'"text\n', "the header row cannot be read: bad-csv unexpected end of data"),
        (b"b\xff,c\n", "the file has no column 'text'; columns: b.+, c"),
    ],
)
def test_a_header_that_cannot_be_used(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(BadInput, match=message) as caught:
        made(tmp_path, data)
    assert caught.value.where == str(tmp_path / "x.csv")
    assert "--text-key" in caught.value.fix


@pytest.mark.parametrize("data", [b"", b"\n\n", b"text,n\n", b"text,n"])
def test_files_without_rows(tmp_path: Path, data: bytes) -> None:
    assert made(tmp_path, data) == []
