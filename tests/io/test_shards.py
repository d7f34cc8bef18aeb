"""Shards: an Arrow stream that everybody can read, whose segments are exactly where they say."""

from __future__ import annotations

import hashlib
import os
import zlib
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dsv3data.contracts.errors import IntegrityError
from dsv3data.contracts.manifest import FileRecord
from dsv3data.io import shards
from dsv3data.io.manifest_file import read_manifest
from dsv3data.io.shards import ShardReader, shard_writer
from folders import copy_of, flip_bit

WIDTH = 5
SCHEMA = pa.schema(
    [
        pa.field("ids", pa.list_(pa.field("item", pa.int32(), nullable=False), WIDTH)),
        pa.field("n", pa.int64(), nullable=False),
        pa.field("name", pa.string()),
    ],
    metadata={"made": "here"},
)


def batch_of(first: int, rows: int) -> pa.RecordBatch:
    ids = np.arange(first * WIDTH, (first + rows) * WIDTH, dtype=np.int32)
    return pa.record_batch(
        [
            pa.FixedSizeListArray.from_arrays(pa.array(ids), type=SCHEMA.field("ids").type),
            pa.array(np.arange(first, first + rows)),
            pa.array([f"row {row} é" for row in range(first, first + rows)]),
        ],
        schema=SCHEMA,
    )


@pytest.fixture
def shard(tmp_path: Path) -> tuple[Path, FileRecord]:
    records: list[FileRecord] = []
    with shard_writer(tmp_path / "x.arrow", SCHEMA, records, ("ids", "n")) as writer:
        writer.write(batch_of(0, 3))
        writer.write(batch_of(3, 0))
        writer.write(batch_of(3, 11))
    return tmp_path, records[0]


def test_the_shard_is_an_arrow_stream(shard: tuple[Path, FileRecord]) -> None:
    folder, _ = shard
    with pa.ipc.open_stream(str(folder / "x.arrow")) as stream:
        table = stream.read_all()
    assert table.schema.equals(SCHEMA, check_metadata=True)
    assert table.equals(pa.Table.from_batches([batch_of(0, 14)]))


def test_segments_tile_the_file_and_carry_its_checksums(shard: tuple[Path, FileRecord]) -> None:
    folder, record = shard
    data = (folder / "x.arrow").read_bytes()
    assert (record.size, record.rows) == (len(data), 14)
    assert record.sha256 == hashlib.sha256(data).hexdigest()
    assert [segment.rows for segment in record.segments] == [0, 3, 11, 0]  # no empty batch
    end = 0
    for segment in record.segments:
        assert segment.offset == end
        end += segment.size
        assert segment.crc32 == zlib.crc32(data[segment.offset : end])
    assert end == len(data)


def test_one_pread_at_the_recorded_offset_is_the_row(shard: tuple[Path, FileRecord]) -> None:
    folder, record = shard
    descriptor = os.open(folder / "x.arrow", os.O_RDONLY)
    row = 0
    for segment in record.segments:
        for index in range(segment.rows):
            raw = os.pread(descriptor, WIDTH * 4, segment.buffers["ids"] + index * WIDTH * 4)
            assert np.frombuffer(raw, "<i4").tolist() == list(range(row * WIDTH, (row + 1) * WIDTH))
            raw = os.pread(descriptor, 8, segment.buffers["n"] + index * 8)
            assert int.from_bytes(raw, "little") == row
            row += 1
    os.close(descriptor)
    assert row == 14


def test_the_reader_gives_the_batches_back(shard: tuple[Path, FileRecord]) -> None:
    reader = ShardReader(*shard)
    assert reader.n_batches == 2
    assert reader.schema.metadata == {b"made": b"here"}
    assert pa.Table.from_batches(reader.batches()).equals(pa.Table.from_batches([batch_of(0, 14)]))
    assert reader.batch(1).column("n").to_pylist() == list(range(3, 14))


def random_batch(random: np.random.Generator, rows: int) -> pa.RecordBatch:
    """Columns of `SCHEMA` and more, some values of them missing; perhaps a slice."""
    gaps = random.random(rows) < 0.3
    words = ["", "é", "word " * 40]
    lists = [random.integers(99, size=random.integers(5)).tolist() for _ in range(rows)]
    columns = {
        "ids": pa.FixedSizeListArray.from_arrays(
            pa.array(random.integers(9, size=rows * WIDTH), pa.int32()), WIDTH
        ),
        "n": pa.array(random.integers(99, size=rows), pa.uint8(), mask=gaps),
        "key": pa.array([random.bytes(16) for _ in range(rows)], pa.binary(16)),
        "name": pa.array([words[number] for number in random.integers(3, size=rows)]),
        "lists": pa.array(lists, pa.large_list(pa.int32())),
    }
    first, last = np.sort(random.integers(rows + 1, size=2)) if random.random() < 0.5 else (0, rows)
    return pa.record_batch(columns).slice(first, last - first)


def test_segments_are_what_arrow_serializes_and_values_are_where_arrow_reads_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "_AT_ONCE", 37)
    random = np.random.default_rng(7)
    batches = [random_batch(random, int(rows)) for rows in random.integers(1, 60, size=40)]
    batches = [batch for batch in batches if batch.num_rows]
    assert len([batch for batch in batches if batch.column("ids").offset]) > 5
    names = ("ids", "n", "key")
    records: list[FileRecord] = []
    with shard_writer(tmp_path / "x.arrow", batches[0].schema, records, names) as writer:
        for batch in batches:
            writer.write(batch)
    data = (tmp_path / "x.arrow").read_bytes()
    for batch, segment in zip(batches, records[0].segments[1:-1], strict=True):
        message = batch.serialize()
        assert data[segment.offset : segment.offset + segment.size] == message.to_pybytes()
        assert segment.crc32 == zlib.crc32(message)
        read = pa.ipc.read_record_batch(message, batch.schema)
        values = [read.column("ids").values, read.column("n"), read.column("key")]
        addresses = [column.buffers()[1].address - message.address for column in values]
        assert [segment.buffers[name] - segment.offset for name in names] == addresses


@pytest.mark.parametrize(
    ("segment", "message"),
    [(0, "the schema"), (1, "batch 0"), (2, "batch 1"), (3, "the end mark")],
)
def test_damage_is_named_by_its_segment(
    shard: tuple[Path, FileRecord], segment: int, message: str
) -> None:
    folder, record = shard
    place = record.segments[segment]
    flip_bit(folder / "x.arrow", place.offset + place.size // 2, 3)
    with pytest.raises(IntegrityError, match=f"{message} does not match its checksum") as caught:
        list(ShardReader(folder, record).batches())
    assert f"bytes {place.offset:,} to {place.offset + place.size:,}" in caught.value.where


def test_a_missing_shard_is_named(shard: tuple[Path, FileRecord]) -> None:
    folder, record = shard
    (folder / "x.arrow").unlink()
    with pytest.raises(IntegrityError, match="a shard that the manifest lists is missing"):
        ShardReader(folder, record)


def write_and_fail(path: Path, records: list[FileRecord]) -> None:
    with shard_writer(path, SCHEMA, records) as writer:
        writer.write(batch_of(0, 3))
        raise ValueError("stop")


def test_a_failed_block_publishes_and_records_nothing(tmp_path: Path) -> None:
    records: list[FileRecord] = []
    with pytest.raises(ValueError, match="stop"):
        write_and_fail(tmp_path / "x.arrow", records)
    assert records == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["tokens", "packed"])
def test_datasets_reads_shards_equal_to_ours(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    folder: Path = request.getfixturevalue(f"tiny_{kind}")
    shards = read_manifest(folder).shards()
    ours = pa.concat_tables(
        pa.Table.from_batches(ShardReader(folder, record).batches()) for record in shards
    )
    files = [str(folder / record.name) for record in shards]
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    loaded = datasets.load_dataset(
        "arrow", data_files=files, split="train", cache_dir=str(tmp_path)
    )
    assert loaded.num_rows == ours.num_rows > 50
    mine = [name for name in ours.schema.names if name != "key"]
    assert loaded.select_columns(mine).to_dict() == ours.select(mine).to_pydict()
    streamed = datasets.load_dataset("arrow", data_files=files, split="train", streaming=True)
    rows = list(streamed)
    column = "input_ids" if kind == "packed" else "ids"
    assert [row[column] for row in rows] == ours.column(column).to_pylist()
    if kind == "tokens":
        assert [bytes(row["key"]) for row in rows] == ours.column("key").to_pylist()


def test_duckdb_reads_packed_rows_and_their_lineage(tiny_packed: Path) -> None:
    manifest = read_manifest(tiny_packed)
    shards = manifest.shards()
    rows = pa.concat_tables(
        pa.ipc.open_stream(str(tiny_packed / record.name)).read_all() for record in shards
    )
    connection = duckdb.connect()
    connection.register("packed", rows)
    lineage = f"read_parquet('{tiny_packed}/lineage-*.parquet')"
    found = connection.execute(
        f"""
        SELECT count(DISTINCT (domain, partition, row)), count(*), sum(n_bytes),
               count(DISTINCT lineage.key), sum(lineage.n_tokens)
        FROM packed JOIN {lineage} AS lineage USING (domain, partition, row)
        """
    ).fetchone()
    counts = manifest.counts
    assert found == tuple(
        counts[name] for name in ("rows", "pieces", "bytes", "documents", "row_ids")
    )
    unequal = connection.execute(
        f"""
        SELECT count(*) FROM (
            SELECT domain, partition, row, list(n_tokens ORDER BY slot) AS lengths,
                   list(flag ORDER BY slot) AS flags
            FROM {lineage} GROUP BY domain, partition, row
        ) AS l JOIN packed USING (domain, partition, row)
        WHERE l.lengths <> packed.piece_lengths OR l.flags <> packed.piece_flags
        """
    ).fetchone()
    assert unequal == (0,)


def test_sha256_damage_of_a_shard_names_the_batch(tiny_packed: Path, tmp_path: Path) -> None:
    from dsv3data.io.manifest_file import check_file

    folder = copy_of(tiny_packed, tmp_path / "packed")
    record = read_manifest(folder).shards()[0]
    for segment, text in ((0, "schema"), (1, "batch 0"), (-1, "end mark")):
        offset = record.segments[segment].offset + 1
        flip_bit(folder / record.name, offset, 0)
        with pytest.raises(IntegrityError, match=rf"manifest's \(damage in (the )?{text}"):
            check_file(folder, record)
        flip_bit(folder / record.name, offset, 0)
    check_file(folder, record)


def test_lineage_is_plain_parquet_with_page_checksums(tiny_packed: Path) -> None:
    name = next(tiny_packed.glob("lineage-*.parquet"))
    table = pq.read_table(name, page_checksum_verification=True)
    assert table.num_rows > 0
