"""Our reading of a Parquet footer equals pyarrow's, and survives what pyarrow does not."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dsv3data.contracts.errors import BadInput
from dsv3data.io.sources.parquet_footer import row_groups
from dsv3data.io.sources.place import Place, walk

TABLE = pa.table(
    {
        "text": [None if row % 7 == 0 else f"row {row} é" * (row % 5) for row in range(400)],
        "flag": [row % 3 == 0 for row in range(400)],
        "number": [row / 3 for row in range(400)],
        "list": [[row, row + 1] * (row % 4) for row in range(400)],
        "struct": [{"a": row, "b": {"c": str(row)}} for row in range(400)],
        "map": pa.array(
            [[(str(row), row)] for row in range(400)], pa.map_(pa.string(), pa.int64())
        ),
    }
)


def place_of(path: Path) -> Place:
    ((_, place),) = walk(path)
    return place


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"row_group_size": 33},
        {"row_group_size": 1},
        {"use_dictionary": False, "compression": "zstd", "write_statistics": False},
        {"version": "1.0", "data_page_version": "2.0", "data_page_size": 100},
        {"write_page_index": True, "write_page_checksum": True, "store_schema": False},
    ],
)
def test_row_groups_are_those_of_pyarrow(tmp_path: Path, options: dict[str, Any]) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(TABLE, path, **options)
    metadata = pq.ParquetFile(path).metadata
    found = row_groups(place_of(path))
    assert len(found) == metadata.num_row_groups
    for number, group in enumerate(found):
        expected = metadata.row_group(number)
        assert group.n_rows == expected.num_rows
        columns = [expected.column(index) for index in range(expected.num_columns)]
        starts = [
            min(column.dictionary_page_offset or column.data_page_offset, column.data_page_offset)
            for column in columns
        ]
        assert group.chunks == tuple(
            (start, start + column.total_compressed_size)
            for start, column in zip(starts, columns, strict=True)
        )
        assert group.size == sum(column.total_compressed_size for column in columns)


def test_every_flipped_bit_and_every_cut_is_an_answer_or_a_named_error(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(TABLE, path, row_group_size=150)
    whole = path.read_bytes()
    length = int.from_bytes(whole[-8:-4], "little") + 8
    rng = random.Random(0)
    refused = []
    for number in range(600):
        data = bytearray(whole)
        if number % 6:
            data[-1 - rng.randrange(length)] ^= 1 << rng.randrange(8)
        else:
            del data[-1 - rng.randrange(length) :]
        path.write_bytes(bytes(data))
        try:
            for group in row_groups(place_of(path)):
                assert all(0 <= start <= stop <= len(data) for start, stop in group.chunks)
        except BadInput as error:
            refused.append(error)
    assert len(refused) > 150
    assert all(error.what.startswith("the Parquet footer cannot be read: ") for error in refused)
    assert {error.where for error in refused} == {str(path)}


def footer_file(path: Path, footer: bytes) -> Place:
    path.write_bytes(b"PAR1" + footer + len(footer).to_bytes(4, "little") + b"PAR1")
    return place_of(path)


@pytest.mark.parametrize(
    ("footer", "message"),
    [
        (b"\x1c" * 200, "it is nested too deeply"),
        (b"\x49\xfc\xff\xff\xff\x7f\0", "it counts more values than there are bytes"),
        (b"\x48\xff\xff\xff\xff\x7f\0", "it ends too early"),
        (b"\x46" + b"\xff" * 10, "it holds a number of more than 64 bits"),
        (b"\x4e\0", "it holds a value of type 14, which there is not"),
        (b"\0", "field 4 is missing or of another type"),
        (b"\x46\x02\0", "field 4 is missing or of another type"),
        (b"\x49\x1c\x19\x0c\x26\x01\0\0", "it points out of the file"),
    ],
)
def test_hostile_footers(tmp_path: Path, footer: bytes, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        row_groups(footer_file(tmp_path / "x.parquet", footer))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the file is too short"),
        (b"PAR1 no parquet", "the file does not end with PAR1"),
        (b"PAR1\xff\xff\xff\x7fPAR1", "it says to be 2,147,483,647 bytes long"),
    ],
)
def test_files_that_are_no_parquet(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "x.parquet").write_bytes(data)
    with pytest.raises(BadInput, match=message):
        row_groups(place_of(tmp_path / "x.parquet"))


def test_a_footer_larger_than_one_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(TABLE, path, row_group_size=20)
    expected = row_groups(place_of(path))
    monkeypatch.setattr("dsv3data.io.sources.local_place.CHUNK_BYTES", 100)
    assert row_groups(place_of(path)) == expected
    assert len(expected) == 20
