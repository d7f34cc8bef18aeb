"""Exports, read back by other programs and by readers written from the formats' descriptions."""

from __future__ import annotations

import json
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dsv3data.contracts.errors import BadConfig, BadInput, IntegrityError
from dsv3data.contracts.manifest import TOKENIZER_NAME
from dsv3data.contracts.progress import NullSink
from dsv3data.encoding.vocabulary import load_vocabulary
from dsv3data.io.manifest_file import hash_file, read_manifest
from dsv3data_pipelines.export import export, plan_export
from folders import copy_of, flip_bit, published
from read_sets import documents_in
from tiny_data import CONTEXT

Make = Callable[..., Path]


@pytest.fixture
def exported(tmp_path: Path) -> Make:
    def make(folder: Path, to: Any, name: str = "out", **options: Any) -> Path:
        out = tmp_path / name
        export(folder, out=out, to=to, sink=NullSink(), **options)
        return out

    return make


def table_of(folder: Path) -> pa.Table:
    parts = []
    for record in read_manifest(folder).shards():
        with pa.ipc.open_stream(folder / record.name) as reader:
            parts.append(reader.read_all().replace_schema_metadata(None))
    return pa.concat_tables(parts)


class IndexedDataset:
    """Megatron's reader, from its description: header, lengths, pointers, documents."""

    def __init__(self, prefix: Path) -> None:
        index = Path(f"{prefix}.idx").read_bytes()
        assert index[:9] == b"MMIDIDX\x00\x00"
        version, code, sequences, documents = struct.unpack("<QBQQ", index[9:34])
        assert version == 1
        dtype = {4: np.int32, 8: np.uint16}[code]
        place = 34
        self.lengths = np.frombuffer(index, np.int32, sequences, place)
        place += self.lengths.nbytes
        self.pointers = np.frombuffer(index, np.int64, sequences, place)
        place += self.pointers.nbytes
        self.documents = np.frombuffer(index, np.int64, documents, place)
        assert place + self.documents.nbytes == len(index)
        self.data = np.memmap(f"{prefix}.bin", dtype=dtype, mode="r")

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, number: int) -> list[int]:
        start = self.pointers[number] // self.data.itemsize
        return list(self.data[start : start + self.lengths[number]].tolist())


def test_megatron_from_a_token_set(tiny_tokens: Path, exported: Make) -> None:
    out = exported(tiny_tokens, "megatron")
    eos = load_vocabulary(tiny_tokens).control.eos
    expected: dict[str, list[list[int]]] = {}
    for document in documents_in(tiny_tokens):
        expected.setdefault(document.domain, []).append([*document.ids, eos])
    assert len(expected) == 3
    for domain, documents in expected.items():
        read = IndexedDataset(out / f"{domain}_text_document")
        assert [read[number] for number in range(len(read))] == documents
        assert read.documents.tolist() == list(range(len(documents) + 1))


def test_megatron_from_a_packed_set(tiny_packed: Path, exported: Make) -> None:
    out = exported(tiny_packed, "megatron")
    table = table_of(tiny_packed)
    seen = 0
    for domain in ("web", "zh", "code"):
        read = IndexedDataset(out / f"{domain}_text_document")
        rows = table.filter(pa.compute.equal(table["domain"], domain))["input_ids"].to_pylist()
        assert [read[number] for number in range(len(read))] == rows
        assert set(read.lengths.tolist()) == {CONTEXT}
        # A sample of Megatron's: L ids and the next one, beginning at multiples of L.
        assert read.data[: CONTEXT + 1].tolist() == [*rows[0], rows[1][0]]
        seen += len(read)
    assert seen == table.num_rows


@pytest.mark.parametrize("kind", ["packed", "tokens"])
def test_parquet(kind: str, request: pytest.FixtureRequest, exported: Make) -> None:
    folder: Path = request.getfixturevalue(f"tiny_{kind}")
    out = exported(folder, "parquet")
    names = [record.name.replace(".arrow", ".parquet") for record in read_manifest(folder).shards()]
    read = pa.concat_tables([pq.read_table(out / name) for name in names])
    expected = table_of(folder)
    left_out = {"crc32"} if kind == "packed" else set()
    assert set(expected.column_names) - set(read.column_names) == left_out
    for name in read.column_names:
        assert read[name].to_pylist() == expected[name].to_pylist(), name


@pytest.mark.parametrize("kind", ["packed", "tokens"])
def test_hugging_face(
    kind: str, request: pytest.FixtureRequest, exported: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets")
    folder: Path = request.getfixturevalue(f"tiny_{kind}")
    out = exported(folder, "hf")
    read = datasets.load_from_disk(str(out))
    expected = table_of(folder)
    assert read.num_rows == expected.num_rows
    assert read.column_names == expected.column_names
    for row in (0, 7, expected.num_rows - 1):
        assert read[row] == expected.slice(row, 1).to_pylist()[0]


def test_datasets_opens_packed_shards_as_they_are(tiny_packed: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    files = [str(tiny_packed / record.name) for record in read_manifest(tiny_packed).shards()]
    read = datasets.load_dataset(
        "arrow", data_files=files, split="train", cache_dir=str(tmp_path / "cache")
    )
    expected = table_of(tiny_packed)
    assert read.num_rows == expected.num_rows
    assert read[:5]["input_ids"] == expected["input_ids"][:5].to_pylist()
    assert read[3]["piece_lengths"] == expected["piece_lengths"][3].as_py()


@pytest.mark.parametrize("to", ["megatron", "parquet", "hf"])
def test_every_export_says_what_it_was_made_from(
    tiny_packed: Path, exported: Make, to: str
) -> None:
    out = exported(tiny_packed, to)
    tree = json.loads((out / "export.json").read_text())
    assert tree["root"] == read_manifest(tiny_packed).root
    assert tree["format"] == to
    assert set(tree["files"]) | {"export.json"} == set(published(out))
    for name, facts in tree["files"].items():
        assert hash_file(out / name) == (facts["size"], facts["sha256"])
    assert (out / TOKENIZER_NAME).read_bytes() == (tiny_packed / TOKENIZER_NAME).read_bytes()
    assert published(exported(tiny_packed, to, "again")) == published(out)


def test_another_export_is_not_overwritten(tiny_packed: Path, exported: Make) -> None:
    out = exported(tiny_packed, "parquet")
    before = published(out)
    with pytest.raises(BadConfig, match="differs from the work") as caught:
        exported(tiny_packed, "hf")
    assert "--fresh" in caught.value.fix
    assert published(out) == before
    exported(tiny_packed, "hf", fresh=True)
    assert published(out.with_name("out.1.old")) == before
    assert (out / "state.json").exists()


@pytest.mark.parametrize("to", ["megatron", "parquet", "hf"])
def test_damage_is_found_and_what_was_stopped_is_finished(
    tiny_packed: Path, tmp_path: Path, exported: Make, to: str
) -> None:
    folder = copy_of(tiny_packed, tmp_path / "copy")
    shard = max(folder.glob("packed-*.arrow"))
    place = shard.stat().st_size // 2
    flip_bit(shard, place, 1)
    with pytest.raises(IntegrityError, match="does not match its checksum"):
        exported(folder, to)
    out = tmp_path / "out"
    assert not (out / "export.json").exists()
    done = {path: path.stat().st_mtime_ns for path in out.iterdir() if path.is_file()}
    assert len(done) > 1
    flip_bit(shard, place, 1)
    assert published(exported(folder, to)) == published(exported(tiny_packed, to, "clean"))
    kept = [path for path, time in done.items() if path.stat().st_mtime_ns == time]
    assert len(kept) == len(done) - 1  # all but the lock


@pytest.mark.parametrize("kind", ["packed", "tokens"])
@pytest.mark.parametrize("to", ["megatron", "parquet", "hf"])
def test_the_plan_names_the_files_and_writes_nothing(
    kind: str, to: Any, request: pytest.FixtureRequest, tmp_path: Path, exported: Make
) -> None:
    folder: Path = request.getfixturevalue(f"tiny_{kind}")
    plan = plan_export(folder, out=tmp_path / "out", to=to)
    assert not (tmp_path / "out").exists()
    assert plan.rows == table_of(folder).num_rows
    assert pickle.loads(pickle.dumps(plan.units)) == plan.units  # noqa: S301, they go to workers
    files = {name for unit in plan.units for name in unit.files}
    made = {path.name for path in exported(folder, to).iterdir() if path.name[0] != "."}
    small = {"export.json", TOKENIZER_NAME, "state.json", "dataset_info.json"}
    assert made - small == files


def test_where_it_may_not_go_and_what_cannot_be_exported(
    tiny_packed: Path, tiny_tokenizer: Path, tmp_path: Path
) -> None:
    with pytest.raises(BadConfig, match="lies in, an input folder"):
        export(tiny_packed, out=tiny_packed / "x", to="hf", sink=NullSink())
    with pytest.raises(BadInput, match=r"holds dsv3data.tokenizer, not dsv3data.packed"):
        export(tiny_tokenizer, out=tmp_path / "x", to="hf", sink=NullSink())
