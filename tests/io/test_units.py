"""Work units: every line of a file in exactly one unit, whatever the unit size."""

from __future__ import annotations

import json
from pathlib import Path
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dsv3data.contracts.errors import BadInput
from dsv3data.io.sources import (
    Document,
    ReadOptions,
    Rejected,
    Unit,
    discover,
    input_sha256,
    lines,
    plan_units,
    read_unit,
)
from dsv3data.io.sources.lines import Block, iterate_lines, line_blocks
from dsv3data.io.sources.raw import InputLog, UnhashedLog, raw_bytes

OPTIONS = ReadOptions()
_FRAME = len(json.dumps({"text": ""}))


def units_of(path: Path, unit_bytes: int) -> list[Unit]:
    files, _ = discover([path], text_files=OPTIONS.text_files)
    return plan_units(files, unit_bytes=unit_bytes)


def read_all(units: list[Unit], options: ReadOptions = OPTIONS) -> list[Document | Rejected]:
    return [item for unit in units for item in read_unit(unit, options)]


def jsonl(path: Path, lengths: list[int], *, last_newline: bool) -> list[tuple[int, bytes]]:
    """Lines of the given text lengths (0: a blank line); (offset, text) of those that count."""
    expected, offset, lines = [], 0, []
    for number, length in enumerate(lengths):
        text = (f"{number}:" + "x" * length)[: max(length, 1)]
        line = json.dumps({"text": text}).encode() if length else b""
        if length:
            expected.append((offset, text.encode()))
        lines.append(line)
        offset += len(line) + 1
    path.write_bytes(b"\n".join(lines) + (b"\n" if last_newline else b""))
    return expected


def check_logs(units: list[Unit]) -> None:
    """What is hashed while reading is what `input_sha256` hashes, and lines are counted."""
    for unit in units:
        hashed, unhashed = InputLog(), UnhashedLog()
        items = list(read_unit(unit, OPTIONS, hashed))
        assert list(read_unit(unit, OPTIONS, unhashed)) == items
        assert hashed.sha256 == input_sha256(unit)
        assert hashed.n_bytes == unhashed.n_bytes
        assert hashed.lines == unhashed.lines
        assert len(hashed.lines) == len(unit.spans)
        assert sum(hashed.lines) >= len(items)


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    lengths=st.lists(st.integers(0, 90) | st.integers(0, 3), max_size=25),
    unit_bytes=st.integers(1, 120),
    last_newline=st.booleans(),
)
def test_every_line_once_with_its_offset(
    tmp_path: Path, lengths: list[int], unit_bytes: int, last_newline: bool
) -> None:
    path = tmp_path / "x.jsonl"
    expected = jsonl(path, lengths, last_newline=last_newline)
    units = units_of(path, unit_bytes)
    assert [(item.position, item.data) for item in read_all(units)] == expected
    spans = [span for unit in units for span in unit.spans]
    raw = [raw_bytes(span) for span in spans]
    assert b"".join(chunk for part in raw for chunk in part.chunks) == path.read_bytes()
    starts = [part.offset for part in raw]
    assert starts == sorted(starts)
    check_logs(units)
    if path.stat().st_size > unit_bytes:
        assert len(spans) == -(-path.stat().st_size // unit_bytes)


def test_every_unit_size_of_one_file_with_a_line_longer_than_several_units(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    expected = jsonl(path, [3, 0, 200, 1, 1, 0, 0, 50, 7], last_newline=False)
    for unit_bytes in range(1, path.stat().st_size + 2):
        units = units_of(path, unit_bytes)
        assert [(item.position, item.data) for item in read_all(units)] == expected
        assert [unit.number for unit in units] == list(range(len(units)))


@settings(max_examples=100, deadline=None)
@given(
    st.binary(max_size=60).map(lambda data: data.replace(b"\x00", b"\n")),
    st.integers(1, 7),
    st.integers(1, 20),
)
def test_lines_do_not_depend_on_chunks(data: bytes, chunk: int, limit: int) -> None:
    chunks = [data[at : at + chunk] for at in range(0, len(data), chunk)]
    found = list(iterate_lines(chunks, max_bytes=limit, mark=b"a"))
    lines = data.split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    assert [line.size for line in found] == [len(line) for line in lines]
    assert [line.data for line in found] == [line if len(line) <= limit else None for line in lines]
    assert [line.marks for line in found] == [line.count(b"a") for line in lines]
    for line, expected in zip(found, lines, strict=True):
        assert data[line.offset : line.offset + line.size] == expected


@settings(max_examples=200, deadline=None)
@given(
    st.binary(max_size=60).map(lambda data: data.replace(b"\x00", b"\n")),
    st.integers(1, 9),
    st.integers(2, 8),
    st.integers(0, 9),
)
def test_blocks_have_the_lines(data: bytes, chunk: int, piece: int, more: int) -> None:
    chunks = [data[at : at + chunk] for at in range(0, len(data), chunk)]
    limit = piece + more
    found = []
    with mock.patch.object(lines, "CHUNK_BYTES", piece):
        for block in line_blocks(chunks, start=5, max_bytes=limit, beyond=3):
            if isinstance(block, Block):
                assert len(block.data) >= block.size + 3
                stream = [block.data[: block.size]]
                found += iterate_lines(stream, start=block.offset, max_bytes=limit)
            else:
                found.append(block)
    assert found == [*iterate_lines(chunks, start=5, max_bytes=limit)]


def test_unicode_line_separators_do_not_cut_lines(tmp_path: Path) -> None:
    text = "a\u2028b\u0085c\x0bd\x1ee\u2029"
    path = tmp_path / "x.jsonl"
    path.write_bytes(
        b"".join(json.dumps({"text": text}, ensure_ascii=False).encode() + b"\r\n" for _ in "12")
    )
    assert [item.data.decode() for item in read_all(units_of(path, 10))] == [text, text]


def test_small_files_share_a_unit_and_big_ones_do_not(tmp_path: Path) -> None:
    for name, size in (("a", 40), ("b", 40), ("c", 40), ("d", 250), ("e", 20)):
        jsonl(tmp_path / f"{name}.jsonl", [size - _FRAME - 1], last_newline=True)
    units = units_of(tmp_path, 100)
    spans = [[(span.file.name[0], span.start, span.stop) for span in unit.spans] for unit in units]
    assert spans == [
        [("a", 0, 40), ("b", 0, 40)],
        [("c", 0, 40)],
        [("d", 0, 100)],
        [("d", 100, 200)],
        [("d", 200, 250), ("e", 0, 20)],
    ]
    assert [unit.size for unit in units] == [80, 40, 100, 100, 70]
    assert units[3].name == "00003"


def parquet(path: Path, rows: int, group: int) -> None:
    texts = [f"document {row} " + "y" * (row % 7) for row in range(rows)]
    pq.write_table(pa.table({"text": texts, "n": range(rows)}), path, row_group_size=group)


@pytest.mark.parametrize("unit_bytes", [1, 300, 1 << 20])
def test_parquet_is_cut_at_row_groups(tmp_path: Path, unit_bytes: int) -> None:
    parquet(tmp_path / "x.parquet", 23, 5)
    units = units_of(tmp_path, unit_bytes)
    documents = read_all(units)
    assert [document.position for document in documents] == list(range(23))
    assert documents[8].data == b"document 8 y"
    if unit_bytes == 1:
        assert [unit.spans[0].first_row for unit in units] == [0, 5, 10, 15, 20]


def test_a_parquet_file_without_rows_has_no_documents(tmp_path: Path) -> None:
    pq.ParquetWriter(tmp_path / "x.parquet", pa.schema([("text", pa.string())])).close()
    units = units_of(tmp_path, 1)
    assert len(units) == 1
    assert read_all(units) == []
    assert len(input_sha256(units[0])) == 64


def test_a_parquet_footer_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_bytes(b"PAR1 no parquet PAR1")
    with pytest.raises(BadInput, match="the Parquet footer cannot be read"):
        units_of(tmp_path, 1)


def test_the_hash_of_a_unit_changes_with_its_own_bytes_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    expected = jsonl(path, [20, 30, 25, 60, 5, 5, 40], last_newline=True)
    data = path.read_bytes()
    units = units_of(path, 64)
    before = [input_sha256(unit) for unit in units]
    assert len(set(before)) == len(units) > 3
    owners = [{item.position for item in read_unit(unit, OPTIONS)} for unit in units]
    assert sum(map(len, owners)) == len(expected)
    for offset, _ in expected:
        path.write_bytes(data[: offset + 11] + b"Z" + data[offset + 12 :])
        changed = [
            number
            for number, unit in enumerate(units_of(path, 64))
            if input_sha256(unit) != before[number]
        ]
        assert changed == [number for number, lines in enumerate(owners) if offset in lines]
    path.write_bytes(data)
    assert [input_sha256(unit) for unit in units_of(path, 64)] == before


def test_the_hash_covers_names_compressed_and_tabular_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"text")
    first = input_sha256(units_of(path, 64)[0])
    path.rename(tmp_path / "b.txt")
    assert input_sha256(units_of(tmp_path / "b.txt", 64)[0]) != first
    table = tmp_path / "x.parquet"
    parquet(table, 10, 5)
    units = units_of(table, 1)
    hashes = [input_sha256(unit) for unit in units]
    metadata = pq.ParquetFile(table).metadata
    data = bytearray(table.read_bytes())
    data[metadata.row_group(1).column(0).data_page_offset + 30] ^= 1
    table.write_bytes(bytes(data))
    assert [input_sha256(unit) for unit in units] == [hashes[0], input_sha256(units[1])]
    assert input_sha256(units[1]) != hashes[1]


def test_input_that_vanished_or_cannot_be_read_is_bad_input(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    jsonl(path, [20], last_newline=True)
    unit = units_of(path, 64)[0]
    path.write_bytes(b"another file")
    with pytest.raises(BadInput, match="the input file was changed while it was read") as caught:
        read_all([unit])
    assert caught.value.where == str(path)
    path.unlink()
    with pytest.raises(BadInput, match="the input file cannot be read: No such file") as caught:
        read_all([unit])
    assert caught.value.where == str(path)
    with pytest.raises(BadInput, match="the input file cannot be read"):
        input_sha256(unit)
