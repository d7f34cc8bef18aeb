"""Rows read back exactly, or not at all."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from dsv3data.contracts.errors import BadInput, IntegrityError
from dsv3data.contracts.manifest import TOKENIZER_NAME
from dsv3data.contracts.schemas import packed_schema
from dsv3data.io.manifest_file import REBUILD, read_manifest
from dsv3data.loader import packed_dataset
from dsv3data.loader.packed_dataset import Batch, PackedDataset

SHARD = "packed-00000.arrow"
N_ROWS = 10
MakePacked = Callable[..., Path]


def table_of(folder: Path) -> pa.Table:
    """All rows by pyarrow alone, in the order of the manifest."""
    parts = []
    for record in read_manifest(folder).shards():
        with pa.ipc.open_stream(folder / record.name) as reader:
            parts.append(reader.read_all().replace_schema_metadata(None))
    return pa.concat_tables(parts)


def assert_equal(
    batch: Batch, table: pa.Table, numbers: list[int], domains: tuple[str, ...]
) -> None:
    expected = table.take(numbers)
    assert batch.input_ids.dtype == np.int32
    assert batch.input_ids.tolist() == expected["input_ids"].to_pylist()
    assert batch.n_tokens.tolist() == expected["n_tokens"].to_pylist()
    assert [domains[i] for i in batch.domain_ids] == expected["domain"].to_pylist()
    assert batch.row_ids.tolist() == numbers
    assert [part.tolist() for part in batch.piece_lengths] == expected["piece_lengths"].to_pylist()


def test_rows_are_what_arrow_reads(make_packed: MakePacked) -> None:
    folder = make_packed()
    dataset = PackedDataset.open(folder)
    table = table_of(folder)
    assert dataset.n_rows == table.num_rows == N_ROWS
    numbers = [9, 0, 4, 4, 3, 8, 5, 2, 7, 1, 6]
    assert_equal(dataset.rows(np.array(numbers)), table, numbers, dataset.domains)
    for number in range(N_ROWS):
        assert_equal(dataset.rows(np.array([number])), table, [number], dataset.domains)
    assert dataset.rows(np.array([], dtype=np.int64)).input_ids.shape == (0, 16)


def test_what_the_dataset_says_of_itself(make_packed: MakePacked) -> None:
    folder = make_packed()
    dataset, manifest = PackedDataset.open(folder), read_manifest(folder)
    assert (dataset.context, dataset.vocab_size) == (16, 384)
    assert (dataset.eos_id, dataset.pad_id) == (257, 258)
    assert dataset.domains == ("web", "zh")
    assert dataset.root == manifest.root
    assert dataset.tokenizer_sha256 == manifest.tokenizer.sha256
    assert dataset.token_bytes.shape == (384,)
    assert dataset.token_bytes.dtype == np.int32
    assert dataset.token_bytes[:256].tolist() == [1] * 256
    assert not dataset.token_bytes[256:].any()


def test_a_set_written_by_pack(tiny_packed: Path) -> None:
    dataset = PackedDataset.open(tiny_packed)
    table = table_of(tiny_packed)
    numbers = np.random.default_rng(0).permutation(dataset.n_rows).tolist()
    assert_equal(dataset.rows(np.array(numbers)), table, numbers, dataset.domains)
    assert len(dataset.domains) == 3


def test_a_copy_in_another_process_reads_the_same(make_packed: MakePacked) -> None:
    dataset = PackedDataset.open(make_packed())
    before = dataset.rows(np.arange(N_ROWS))
    assert not copy(dataset)._index
    again = pickle.loads(pickle.dumps(dataset))  # noqa: S301
    assert again.root == dataset.root
    assert np.array_equal(again.rows(np.arange(N_ROWS)).input_ids, before.input_ids)


def test_threads_may_share_a_dataset(
    make_packed: MakePacked, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_packed(shards=[("web", [2] * 10)] * 4)
    monkeypatch.setattr(packed_dataset, "_OPEN_SHARDS", 2)
    monkeypatch.setattr(packed_dataset, "_INDEX_BUDGET_BYTES", 400)
    dataset, table = PackedDataset.open(folder), table_of(folder)

    def read(seed: int) -> None:
        for _ in range(20):
            numbers = np.random.default_rng(seed).integers(0, 80, 10).tolist()
            assert_equal(dataset.rows(np.array(numbers)), table, numbers, dataset.domains)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(read, range(8)))
    assert len(dataset._open) == 2


def test_the_index_of_batches_stays_within_its_budget(
    make_packed: MakePacked, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_packed(shards=[("web", [2] * 30)])
    monkeypatch.setattr(packed_dataset, "_INDEX_BUDGET_BYTES", 400)
    dataset = PackedDataset.open(folder)
    numbers = np.random.default_rng(0).integers(0, 60, 200).tolist()
    assert_equal(dataset.rows(np.array(numbers)), table_of(folder), numbers, dataset.domains)
    assert 1 <= len(dataset._index) < 10


@pytest.mark.parametrize("number", [-1, N_ROWS])
def test_a_row_number_outside_is_refused(make_packed: MakePacked, number: int) -> None:
    dataset = PackedDataset.open(make_packed())
    with pytest.raises(IndexError, match=rf"rows must be in 0..9, not .*{number}"):
        dataset.rows(np.array([0, number]))


def read_all(dataset: PackedDataset) -> list[list[int]]:
    """All rows, one call each, as a loader would meet them."""
    return [dataset.rows(np.array([row])).input_ids[0].tolist() for row in range(dataset.n_rows)]


def test_every_flipped_bit_that_matters_is_found(make_packed: MakePacked) -> None:
    """Every seventh byte of a shard: an IntegrityError naming the file, or exactly the same rows.

    Only the end mark is read by no row; `verify` covers it.
    """
    folder = make_packed(shards=[("web", [3, 2])])
    path = folder / SHARD
    opened = PackedDataset.open(folder)
    clean, raw = read_all(opened), path.read_bytes()
    segments = read_manifest(folder).shards()[0].segments
    found: Counter[str] = Counter()
    for offset in range(0, segments[-1].offset, 7):
        damaged = bytearray(raw)
        damaged[offset] ^= 1 << (offset % 8)
        path.write_bytes(damaged)
        with pytest.raises(IntegrityError, match="match its checksum") as caught:
            read_all(copy(opened) if offset >= segments[0].size else PackedDataset.open(folder))
        assert SHARD in caught.value.where
        assert caught.value.fix == REBUILD
        number = next(i for i, s in enumerate(segments) if offset < s.offset + s.size) - 1
        if number >= 0:
            assert f"batch {number}" in caught.value.where
        found[caught.value.what.split(" does")[0].rstrip("0123456789")] += 1
    path.write_bytes(raw)
    assert read_all(opened) == clean
    assert set(found) == {"the schema", "the batch", "row "}
    assert found["row "] == pytest.approx(5 * 16 * 4 / 7, abs=1)


def test_rows_before_the_damage_are_still_read(make_packed: MakePacked) -> None:
    folder = make_packed()
    offset = read_manifest(folder).shards()[0].segments[2].buffers["input_ids"]
    raw = bytearray((folder / SHARD).read_bytes())
    raw[offset + 64] ^= 1  # the second row of the second batch
    (folder / SHARD).write_bytes(raw)
    dataset = PackedDataset.open(folder)
    assert dataset.rows(np.array([0, 1, 2, 3, 5, 9])).row_ids[3] == 3
    with pytest.raises(IntegrityError, match="row 4 does not match its checksum") as caught:
        dataset.rows(np.array([0, 4]))
    assert caught.value.where.endswith(f"{SHARD}, batch 1")
    assert caught.value.effect == "the row was not used"


@pytest.mark.parametrize("size", [0, 1, 500, -1])
def test_a_cut_shard_is_refused_at_open(make_packed: MakePacked, size: int) -> None:
    folder = make_packed()
    path = folder / SHARD
    with path.open("r+b") as file:
        file.truncate(size if size >= 0 else path.stat().st_size + size)
    with pytest.raises(IntegrityError, match=r"the file has .* bytes, the manifest says") as caught:
        PackedDataset.open(folder)
    assert caught.value.where == str(path)


def test_a_shard_cut_after_opening_gives_an_error_not_a_signal(make_packed: MakePacked) -> None:
    folder = make_packed()
    dataset = PackedDataset.open(folder)
    dataset.rows(np.array([0]))
    with (folder / SHARD).open("r+b") as file:
        file.truncate(100)
    with pytest.raises(IntegrityError, match="the file has 100 bytes"):
        dataset.rows(np.array([1]))


def test_a_shard_cut_while_it_is_being_read(
    make_packed: MakePacked, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = PackedDataset.open(make_packed())
    size = (dataset.folder / SHARD).stat().st_size
    with (dataset.folder / SHARD).open("r+b") as file:
        file.truncate(size - 900)
    monkeypatch.setattr(packed_dataset, "_check_open_size", lambda file, path, record: None)
    with pytest.raises(IntegrityError, match=r"the file ends .* bytes too early") as caught:
        dataset.rows(np.arange(5))
    assert f"{SHARD}, batch " in caught.value.where


def test_a_shard_missing_at_open_or_later(make_packed: MakePacked) -> None:
    folder = make_packed()
    dataset = PackedDataset.open(folder)
    (folder / SHARD).unlink()
    for attempt in (lambda: dataset.rows(np.array([0])), lambda: PackedDataset.open(folder)):
        with pytest.raises(IntegrityError, match="a shard that the manifest lists is missing"):
            attempt()


def one_piece_a_row(columns: dict[str, Any]) -> None:
    columns["piece_lengths"] = [np.array([n]) for n in columns["n_tokens"]]


def test_shards_with_swapped_names_are_found(make_packed: MakePacked) -> None:
    folder = make_packed(shards=[("web", [3]), ("web", [3])], change=one_piece_a_row)
    first, second = folder / SHARD, folder / "packed-00001.arrow"
    assert first.stat().st_size == second.stat().st_size
    first.rename(folder / "kept")
    second.rename(first)
    (folder / "kept").rename(second)
    with pytest.raises(IntegrityError, match="the batch does not match its checksum"):
        read_all(PackedDataset.open(folder))


def test_another_tokenizer_is_refused(make_packed: MakePacked) -> None:
    folder = make_packed()
    path = folder / TOKENIZER_NAME
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(IntegrityError, match=r"the file has .*, the manifest says") as caught:
        PackedDataset.open(folder)
    assert caught.value.where == str(path)
    forged = make_packed("forged", tokenizer_sha256="cd" * 32)
    with pytest.raises(
        IntegrityError, match=r"the tokenizer has hash .*, the manifest says cdcd"
    ) as caught:
        PackedDataset.open(forged)
    assert caught.value.where == str(forged / TOKENIZER_NAME)
    foreign = make_packed("foreign", schema=packed_schema(16, {"tokenizer_sha256": "ab" * 32}))
    with pytest.raises(IntegrityError, match="the shard's ids are those of tokenizer abab"):
        PackedDataset.open(foreign)


def test_other_columns_are_refused(make_packed: MakePacked) -> None:
    schema = packed_schema(16, {})
    narrow = schema.set(0, pa.field("input_ids", pa.list_(pa.field("item", pa.uint16()), 16)))
    folder = make_packed("narrow", schema=narrow)
    with pytest.raises(
        IntegrityError, match=r"input_ids is fixed_size_list<item: uint16.*, not .*int32"
    ):
        PackedDataset.open(folder)
    without = make_packed("without", schema=schema.remove(schema.get_field_index("piece_flags")))
    with pytest.raises(IntegrityError, match="piece_flags is missing"):
        PackedDataset.open(without)
    more = make_packed(
        "more", schema=schema.append(pa.field("more", pa.int64())), change=add_column
    )
    with pytest.raises(IntegrityError, match="has: their number or order"):
        PackedDataset.open(more)


def add_column(columns: dict[str, Any]) -> None:
    columns["more"] = columns["row"]


def set_value(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(columns: dict[str, Any]) -> None:
        columns[name][0] = value

    return change


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (set_value("input_ids", [-1] * 16), "row 0 holds an id outside 0..264"),
        (set_value("input_ids", [265] * 16), "row 0 holds an id outside 0..264"),
        (set_value("n_tokens", 0), "row 0: n_tokens is outside 1..L"),
        (set_value("n_tokens", 17), "row 0: n_tokens is outside 1..L"),
        (set_value("piece_lengths", np.array([1] * 15)), "row 0: piece lengths do not add up"),
        (set_value("row", 7), "row 0: the column `row` does not count the rows"),
        (set_value("domain", "zz"), "rows of domain 'zz', which the manifest does not count"),
    ],
)
def test_a_faulty_writer_is_refused(
    make_packed: MakePacked, change: Callable[[dict[str, Any]], None], text: str
) -> None:
    def wrong(columns: dict[str, Any]) -> None:
        columns["n_tokens"][0] = columns["input_ids"].shape[1]
        columns["piece_lengths"][0] = np.array([16])
        change(columns)

    folder = make_packed(shards=[("web", [3])], change=wrong)
    with pytest.raises(IntegrityError, match=text) as caught:
        read_all(PackedDataset.open(folder))
    assert caught.value.where.endswith(f"{SHARD}, batch 0")


def test_other_folders_are_refused(tmp_path: Path, tiny_tokens: Path) -> None:
    with pytest.raises(BadInput, match="holds no finished data set"):
        PackedDataset.open(tmp_path)
    with pytest.raises(BadInput, match=r"holds dsv3data.tokens, not dsv3data.packed"):
        PackedDataset.open(tiny_tokens)
