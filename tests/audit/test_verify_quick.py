"""The quick look: what it finds, and what it says that it does not read."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pyarrow as pa
import pytest

from dsv3data.audit.verify import verify, verify_quick
from dsv3data.contracts.errors import BadInput, IntegrityError
from dsv3data.contracts.progress import NullSink
from dsv3data.io.manifest_file import read_manifest, write_manifest
from dsv3data.io.shards import ShardReader, shard_writer
from dsv3data.loader.packed_dataset import PackedDataset
from folders import copy_of, flip_bit


@pytest.mark.parametrize("kind", ["tokenizer", "tokens", "packed"])
def test_whole_sets_pass(kind: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(f"tiny_{kind}")
    quick, full = verify_quick(folder, sink=NullSink()), verify(folder, sink=NullSink())
    assert (quick.root, quick.files, quick.size_bytes) == (full.root, full.files, full.size_bytes)
    assert quick.facts == {}


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def stranger(path: Path) -> None:
    path.with_name("packed-x-00000.arrow").write_bytes(b"x")


def schema_bit(path: Path) -> None:
    flip_bit(path, 100, 1)


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (cut, "bytes, the manifest says"),
        (Path.unlink, "a file that the manifest lists is missing"),
        (stranger, "a file lies here that the manifest does not list"),
        (schema_bit, "the schema does not match its checksum"),
    ],
)
def test_damage_to_a_shard_is_found(
    tiny_packed: Path, tmp_path: Path, damage: object, text: str
) -> None:
    folder = copy_of(tiny_packed, tmp_path / "packed")
    damage(max(folder.glob("packed-*.arrow")))  # type: ignore[operator]
    with pytest.raises(IntegrityError, match=text):
        verify_quick(folder, sink=NullSink())


def test_the_manifest_is_checked_and_rows_are_not(tiny_packed: Path, tmp_path: Path) -> None:
    folder = copy_of(tiny_packed, tmp_path / "packed")
    shard = max(folder.glob("packed-*.arrow"))
    flip_bit(shard, shard.stat().st_size // 2, 1)
    verify_quick(folder, sink=NullSink())
    flip_bit(folder / "manifest.json", 200, 1)
    with pytest.raises((IntegrityError, BadInput)):
        verify_quick(folder, sink=NullSink())


def test_columns_of_an_unreleased_state_are_refused_by_name(
    tiny_packed: Path, tmp_path: Path
) -> None:
    folder = copy_of(tiny_packed, tmp_path / "packed")
    manifest = read_manifest(folder)
    record = manifest.shards()[0]
    table = pa.Table.from_batches(ShardReader(folder, record).batches())
    rows = pa.field("row_id", pa.int64(), nullable=False)
    old = table.drop_columns(["partition", "row"]).append_column(rows, table.column("row"))
    records: list = []
    with shard_writer(folder / record.name, old.schema, records, ["input_ids"]) as shard:
        for batch in old.to_batches():
            shard.write(batch)
    files = tuple(records[0] if one.name == record.name else one for one in manifest.files)
    write_manifest(folder, dataclasses.replace(manifest, files=files))
    for look in (verify_quick, verify):
        with pytest.raises(IntegrityError, match="partition is missing; row is missing") as caught:
            look(folder, sink=NullSink())
        assert "make the data set again" in caught.value.fix
    with pytest.raises(IntegrityError, match="other columns than a packed set of") as caught:
        PackedDataset.open(folder)
    assert "has: partition is missing; row is missing" in caught.value.what
    assert "make the data set again" in caught.value.fix
