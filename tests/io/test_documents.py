"""From records to documents: what is taken, under which key and domain, and what is rejected."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from dsv3data.contracts.errors import BadConfig, BadInput
from dsv3data.contracts.keys import document_key, user_id_key
from dsv3data.io.sources import (
    Document,
    ReadOptions,
    Rejected,
    discover,
    plan_units,
    read_unit,
)


def read(path: Path, **options: Any) -> list[Document | Rejected]:
    reading = ReadOptions(**options)
    files, _ = discover([path], text_files=reading.text_files)
    return [
        item for unit in plan_units(files, unit_bytes=1 << 20) for item in read_unit(unit, reading)
    ]


def one_line(folder: Path, line: bytes, **options: Any) -> Document | Rejected:
    path = folder / "x.jsonl"
    path.write_bytes(line + b"\n")
    (item,) = read(path, **options)
    return item


def record(folder: Path, fields: dict[str, Any], **options: Any) -> Document | Rejected:
    return one_line(folder, json.dumps(fields).encode(), **options)


@pytest.mark.parametrize(
    ("line", "reason", "detail"),
    [
        (b"{", "bad-json", "Expecting"),
        (b"[1]", "bad-json", "a JSON list, not an object"),
        (b'"text"', "bad-json", "a JSON str, not an object"),
        (b"null", "bad-json", "a JSON NoneType, not an object"),
        (b'{"text": "a"} {"text": "b"}', "bad-json", "Extra data"),
        (b'{"text": "a", "text": "b"}', "bad-json", "a key stands twice in one object"),
        (b'{"text": "a", "te\\u0078t": "b"}', "bad-json", "a key stands twice in one object"),
        (b'{"text": "a", "n": {"domain": 1, "domain": 2}}', "bad-json", "a key stands twice"),
        (b'{"text": "a", "n": NaN}', "bad-json", "NaN is not JSON"),
        (b'{"text": "a", "n": -Infinity}', "bad-json", "-Infinity is not JSON"),
        (b'{"text": "a", "n": ' + b"9" * 5000 + b"}", "bad-json", "Exceeds the limit"),
        (b'{"text": "a", "n": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "bad-json", "recursion"),
        (b'{"text": "a\tb"}', "bad-json", "Invalid control character"),
        (b'{"body": "a", "title": "b"}', "no-text-field", "no field 'text'; fields: body, title"),
        (b'{"text": 5}', "text-not-string", "field 'text' is int, not a string"),
        (b'{"text": null}', "text-not-string", "is NoneType"),
        (b'{"text": ""}', "empty", "the text is empty"),
        (b'{"text": "ab\\ud800c"}', "lone-surrogate", "at character 2"),
        (b'{"text": "\xff"}', "bad-utf8", "byte 10 of the line"),
        (b'{"text": "a", "domain": "../up"}', "domain-name", "'../up': letters, digits"),
        (b'{"text": "a", "domain": "\\ud800"}', "domain-name", "letters, digits"),
    ],
)
def test_rejections_say_why(tmp_path: Path, line: bytes, reason: str, detail: str) -> None:
    item = one_line(tmp_path, line)
    assert isinstance(item, Rejected)
    assert (item.source, item.position, item.line) == ("x.jsonl", 0, 1)
    assert item.reason == reason
    assert detail in item.detail


def test_lines_and_positions_of_rejections(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"text": "a"}\n\n \r\nbad\n{"text": "b"}\nbad')
    items = read(path)
    assert [(item.position, getattr(item, "line", None)) for item in items] == [
        (0, None),
        (18, 4),
        (22, None),
        (36, 6),
    ]


def test_a_document_carries_its_bytes_and_its_key(tmp_path: Path) -> None:
    item = record(tmp_path, {"text": " é\0\n\ud83d\ude00", "other": [1]})
    assert item == Document(
        document_key("x.jsonl", 0), "x.jsonl", 0, "default", " é\0\n\U0001f600", 9
    )
    assert isinstance(item, Document)
    assert item.data == " é\0\n\U0001f600".encode()


def test_a_byte_order_mark_is_no_part_of_the_first_line_only(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"text": "a"}\n\xef\xbb\xbf{"text": "b"}\n')
    first, second = read(path)
    assert isinstance(first, Document)
    assert isinstance(second, Rejected)
    assert second.reason == "bad-json"


@pytest.mark.parametrize("line", [b'{"text": "a\\ud800b"}', b'{"text": "a\xffb"}'])
def test_invalid_characters_are_replaced_on_request(tmp_path: Path, line: bytes) -> None:
    item = one_line(tmp_path, line, on_bad_utf8="replace")
    assert isinstance(item, Document)
    assert item.data == "a\ufffdb".encode()
    assert item.replaced


def test_documents_beyond_the_limit_are_rejected(tmp_path: Path) -> None:
    assert isinstance(record(tmp_path, {"text": "é" * 5}, max_document_bytes=10), Document)
    item = record(tmp_path, {"text": "é" * 6}, max_document_bytes=10)
    assert isinstance(item, Rejected)
    assert (item.reason, item.detail) == ("too-large", "12 bytes")
    item = one_line(tmp_path, b'{"text": "' + b"x" * (2 << 20) + b'"}', max_document_bytes=10)
    assert isinstance(item, Rejected)
    assert (item.reason, item.detail) == ("too-large", f"a line of {(2 << 20) + 12:,} bytes")


@pytest.mark.parametrize("user_id", ["abc", 7, "\ud800", "\0"])
def test_an_id_key_makes_the_key(tmp_path: Path, user_id: str | int) -> None:
    item = record(tmp_path, {"text": "a", "id": user_id}, id_key="id")
    assert isinstance(item, Document)
    assert item.key == user_id_key(str(user_id))


@pytest.mark.parametrize("fields", [{}, *({"id": value} for value in ("", None, 1.0, True, [1]))])
def test_records_without_a_usable_id_are_rejected(tmp_path: Path, fields: dict[str, Any]) -> None:
    item = record(tmp_path, {"text": "a", **fields}, id_key="id")
    assert isinstance(item, Rejected)
    assert (item.reason, item.detail) == ("no-id", "field 'id' must be a string or a whole number")


@pytest.mark.parametrize(
    ("fields", "options", "domain"),
    [
        ({}, {}, "default"),
        ({}, {"default_domain": "rest"}, "rest"),
        ({"domain": "web"}, {}, "web"),
        ({"domain": ""}, {}, "default"),
        ({"domain": 5}, {}, "default"),
        ({"domain": "web", "kind": "code"}, {"domain_key": "kind"}, "code"),
        ({"domain": "web"}, {"domains": ("code=*.py.jsonl", "all=*.jsonl")}, "all"),
        ({"domain": "web"}, {"domains": ("first=x*", "second=*")}, "first"),
        ({"domain": "web"}, {"domains": ("code=*.py.jsonl",)}, "web"),
    ],
)
def test_domains(
    tmp_path: Path, fields: dict[str, Any], options: dict[str, Any], domain: str
) -> None:
    item = record(tmp_path, {"text": "a", **fields}, **options)
    assert isinstance(item, Document)
    assert item.domain == domain


@pytest.mark.parametrize("pattern", ["code", "=*.py", "code=", "a/b=*", "=", ".x=*"])
def test_a_domain_pattern_must_name_a_domain_and_a_glob(pattern: str) -> None:
    with pytest.raises(BadConfig, match="a domain pattern must look like name=glob, not"):
        ReadOptions(domains=(pattern,))


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_compressed_lines_with_several_frames(tmp_path: Path, suffix: str) -> None:
    compress = gzip.compress if suffix == ".gz" else zstandard.ZstdCompressor().compress
    path = tmp_path / f"x.jsonl{suffix}"
    path.write_bytes(compress(b'{"text": "a"}\n{"te') + compress(b'xt": "b"}\n') + compress(b""))
    assert [(item.position, item.data) for item in read(path)] == [(0, b"a"), (14, b"b")]


# Plain text


def test_a_text_file_is_one_document_byte_for_byte(tmp_path: Path) -> None:
    data = b"\xef\xbb\xbfline\r\n\r\nlast \xe2\x80\xa8"
    (tmp_path / "x.txt").write_bytes(data)
    key = document_key("x.txt", 0)
    assert read(tmp_path) == [Document(key, "x.txt", 0, "default", data.decode(), len(data))]
    (item,) = read(tmp_path, id_key="id")
    assert item.key == user_id_key("x.txt")


@pytest.mark.parametrize(
    ("data", "reason", "detail"),
    [
        (b"", "empty", "the text is empty"),
        (b"ab\xffc", "bad-utf8", "byte 2 of the file"),
        (b"x" * 101, "too-large", "101 bytes"),
    ],
)
def test_text_files_that_are_rejected(
    tmp_path: Path, data: bytes, reason: str, detail: str
) -> None:
    (tmp_path / "x.txt").write_bytes(data)
    (item,) = read(tmp_path, max_document_bytes=100)
    assert isinstance(item, Rejected)
    assert (item.reason, item.position, item.line) == (reason, 0, None)
    assert detail in item.detail


def test_text_with_replaced_bytes(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_bytes(b"ab\xffc")
    (item,) = read(tmp_path, on_bad_utf8="replace")
    assert (item.data, item.replaced) == ("ab\ufffdc".encode(), True)


# Parquet and Arrow

ROWS = {
    "text": ["one", None, "", "fürth", "five"],
    "id": [1, 2, 3, 4, 5],
    "domain": ["web", "web", "web", None, "code"],
    "rest": [[1], [2], [3], [4], [5]],
}


def write_rows(path: Path, form: str, table: pa.Table) -> Path:
    if form == "parquet":
        pq.write_table(table, path, row_group_size=2)
        return path
    make = pa.ipc.new_stream if form == "stream" else pa.ipc.new_file
    with make(str(path), table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    return path


def rows_path(folder: Path, form: str) -> Path:
    return folder / ("x.parquet" if form == "parquet" else "x.arrow")


@pytest.mark.parametrize("form", ["parquet", "stream", "file"])
@pytest.mark.parametrize("text_type", [pa.string(), pa.large_string()])
def test_tabular_rows(tmp_path: Path, form: str, text_type: pa.DataType) -> None:
    table = pa.table(ROWS)
    table = table.set_column(0, "text", table.column("text").cast(text_type))
    path = write_rows(rows_path(tmp_path, form), form, table)
    items = read(path, id_key="id")
    assert [item.position for item in items] == [0, 1, 2, 3, 4]
    assert [getattr(item, "reason", item.__class__.__name__) for item in items] == [
        "Document",
        "text-not-string",
        "empty",
        "Document",
        "Document",
    ]
    documents = [item for item in items if isinstance(item, Document)]
    assert [item.data.decode() for item in documents] == ["one", "fürth", "five"]
    assert [item.domain for item in documents] == ["web", "default", "code"]
    assert [item.key for item in documents] == [user_id_key(text) for text in "145"]
    by_position = read(path)
    assert by_position[3].key == document_key(path.name, 3)


@pytest.mark.parametrize("form", ["parquet", "stream", "file"])
def test_more_rows_than_one_reading_batch(tmp_path: Path, form: str) -> None:
    table = pa.table({"text": [f"row {row}" for row in range(3000)]})
    path = rows_path(tmp_path, form)
    if form == "parquet":
        pq.write_table(table, path)
    else:
        make = pa.ipc.new_stream if form == "stream" else pa.ipc.new_file
        with make(str(path), table.schema) as writer:
            writer.write_table(table)
    items = read(path)
    assert [(item.position, item.data) for item in items] == [
        (row, f"row {row}".encode()) for row in range(3000)
    ]


@pytest.mark.parametrize("form", ["parquet", "stream", "file"])
def test_tabular_strings_that_are_not_utf8(tmp_path: Path, form: str) -> None:
    raw = pa.array([b"good", b"b\xffd", b"\xff"], pa.binary()).view(pa.string())
    domains = pa.array([b"web", b"web", b"\xff"], pa.binary()).view(pa.string())
    path = write_rows(rows_path(tmp_path, form), form, pa.table({"text": raw, "domain": domains}))
    good, *bad = read(path)
    assert isinstance(good, Document)
    assert [(item.reason, item.position) for item in bad] == [("bad-utf8", 1), ("bad-utf8", 2)]
    assert "column 'text' holds bytes that are not UTF-8" in bad[0].detail
    _, replaced, refused = read(path, on_bad_utf8="replace")
    assert (replaced.data, replaced.replaced) == ("b\ufffdd".encode(), True)
    assert refused.reason == "domain-name"


@pytest.mark.parametrize("form", ["parquet", "stream", "file"])
@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pa.table({"body": ["a"], "n": [1]}), "the file has no column 'text'; columns: body, n"),
        (pa.table({"text": [1]}), "column 'text' is of type int64, not string"),
        (
            pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"]),
            "the file has two columns 'text'",
        ),
    ],
)
def test_tables_without_a_text_column_are_refused(
    tmp_path: Path, form: str, table: pa.Table, message: str
) -> None:
    path = write_rows(rows_path(tmp_path, form), form, table)
    with pytest.raises(BadInput, match=message) as caught:
        read(path)
    assert caught.value.where == str(path)
    assert ("--text-key" in caught.value.fix) == ("int64" not in message)


def test_a_text_column_of_lists_is_answered_with_those_of_strings(tmp_path: Path) -> None:
    table = pa.table({"text": [["a"]], "body": ["b"], "n": [1], "title": ["c"]})
    with pytest.raises(BadInput, match="column 'text' is of type list") as caught:
        read(write_rows(tmp_path / "x.parquet", "parquet", table))
    assert caught.value.fix.endswith("--text-key; of strings: body, title")


def test_a_shard_of_ours_is_no_input(tmp_path: Path) -> None:
    table = pa.table({"text": ["a"]}).replace_schema_metadata({"format": "dsv3data.tokens"})
    with pytest.raises(BadInput, match=r"a shard of a finished set \(dsv3data.tokens\)") as caught:
        read(write_rows(tmp_path / "x.arrow", "stream", table))
    assert "give the documents" in caught.value.fix


@pytest.mark.parametrize("compression", ["gz", "zst"])
def test_a_plain_file_with_a_compressed_name_is_told_from_a_damaged_one(
    tmp_path: Path, compression: str
) -> None:
    path = tmp_path / f"x.jsonl.{compression}"
    path.write_bytes(b'{"text": "a"}\n')
    with pytest.raises(BadInput, match=f"it is not .{compression} at all"):
        read(path)


@pytest.mark.parametrize(("name", "kind"), [("x.arrow", "Arrow"), ("x.parquet", "Parquet")])
def test_tables_that_cannot_be_read_are_named(tmp_path: Path, name: str, kind: str) -> None:
    form = "parquet" if kind == "Parquet" else "stream"
    path = write_rows(tmp_path / name, form, pa.table({"text": ["a" * 1000] * 50}))
    data = path.read_bytes()
    if kind == "Parquet":
        path.write_bytes(data[:4] + bytes(60) + data[64:])
    else:
        path.write_bytes(data[: len(data) // 2])
    with pytest.raises(BadInput, match=f"the {kind} file cannot be read: "):
        read(path)


@pytest.mark.parametrize("form", ["stream", "file"])
def test_hostile_offsets_in_an_arrow_file_are_refused(tmp_path: Path, form: str) -> None:
    path = rows_path(tmp_path, form)
    offsets = [0, 3, 7, 12]
    table = pa.table({"text": ["one", "four", "fives"]})
    make = pa.ipc.new_stream if form == "stream" else pa.ipc.new_file
    with make(str(path), table.schema) as writer:
        writer.write_table(table)
    data = path.read_bytes()
    good = b"".join(offset.to_bytes(4, "little") for offset in offsets)
    assert data.count(good) == 1
    bad = b"".join(offset.to_bytes(4, "little") for offset in [0, 1 << 30, 7, 12])
    path.write_bytes(data.replace(good, bad))
    with pytest.raises(BadInput, match="the Arrow file cannot be read"):
        read(path)
