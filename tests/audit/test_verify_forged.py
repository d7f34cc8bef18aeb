"""Verify against a forger who rewrites files with true checksums: the content gives it away."""

from __future__ import annotations

import dataclasses
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dsv3data.audit.inspect import inspect_row
from dsv3data.audit.report import report_set
from dsv3data.audit.verify import verify
from dsv3data.contracts.errors import BadInput, IntegrityError
from dsv3data.contracts.keys import add_digests, keys_digest, keys_to_words
from dsv3data.contracts.manifest import FileRecord, Manifest
from dsv3data.contracts.progress import NullSink
from dsv3data.encoding.vocabulary import load_vocabulary
from dsv3data.io.manifest_file import describe_file, read_manifest, write_manifest
from dsv3data.io.shards import ShardReader, shard_writer
from dsv3data.packing.config import PackConfig
from folders import copy_of
from tiny_data import pack_tiny, tokenize_tiny

Columns = dict[str, list[Any]]
CONTEXT = 64
EOS, TEXT_ID = 1, 300


@pytest.fixture(scope="module")
def tokens(
    tiny_corpus: Path, tiny_tokenizer: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Twelve documents, some longer than a row."""
    folder = tmp_path_factory.mktemp("forged")
    lines = (tiny_corpus / "code.jsonl").read_bytes().splitlines(keepends=True)
    short = [line for line in lines if len(json.loads(line)["text"]) < 900][:12]
    (folder / "x.jsonl").write_bytes(b"".join(short))
    return tokenize_tiny(folder / "x.jsonl", tiny_tokenizer, folder / "tokens")


@pytest.fixture(scope="module")
def packed(tokens: Path) -> Path:
    config = PackConfig(context=CONTEXT, fim_rate=0.5)
    return pack_tiny(tokens, tokens.parent / "packed", config=config)


def verify_quietly(folder: Path) -> None:
    verify(folder, sink=NullSink())


def report_quietly(folder: Path) -> None:
    report_set(folder, sink=NullSink())


def inspect_first_row(folder: Path) -> None:
    inspect_row(folder, 0)


class Forger:
    """A copy of a set of one shard, whose files can be rewritten and are then listed as true."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def manifest(self) -> Manifest:
        return read_manifest(self.folder)

    def shard(self, change: Callable[[Columns], None]) -> None:
        (record,) = self.manifest.shards()
        reader = ShardReader(self.folder, record)
        columns = pa.Table.from_batches(reader.batches()).to_pydict()
        change(columns)
        arrays = [pa.array(columns[field.name], field.type) for field in reader.schema]
        records: list[FileRecord] = []
        fixed = tuple(record.segments[1].buffers)
        with shard_writer(self.folder / record.name, reader.schema, records, fixed) as shard:
            shard.write(pa.record_batch(arrays, schema=reader.schema))
        self.list(records[0])

    def lineage(self, change: Callable[[Columns], None], drop: str = "", retype: str = "") -> None:
        (path,) = self.folder.glob("lineage-*.parquet")
        table = pq.read_table(path)
        columns = table.to_pydict()
        change(columns)
        table = pa.table(columns, schema=table.schema)
        if drop:
            table = table.drop_columns([drop])
        if retype:
            place = table.schema.get_field_index(retype)
            table = table.set_column(place, retype, table[retype].cast(pa.int64()))
        pq.write_table(table, path)
        self.list(describe_file(self.folder, path.name, rows=table.num_rows))

    def record(self, name: str) -> FileRecord:
        return next(record for record in self.manifest.files if record.name == name)

    def list(self, record: FileRecord) -> None:
        files = {old.name: old for old in self.manifest.files} | {record.name: record}
        self.state(files=tuple(files.values()))

    def state(self, **values: Any) -> None:
        write_manifest(self.folder, dataclasses.replace(self.manifest, **values))

    def refused(self, message: str) -> bool:
        with pytest.raises(IntegrityError, match=message):
            verify_quietly(self.folder)
        return True


@pytest.fixture
def forger(packed: Path, tmp_path: Path) -> Forger:
    made = Forger(copy_of(packed, tmp_path / "copy"))
    made.shard(lambda columns: None)
    made.lineage(lambda columns: None)
    verify_quietly(made.folder)  # rewriting alone is no forgery
    return made


def set_id(columns: Columns, row: int, place: int, token: int) -> None:
    ids = list(columns["input_ids"][row])
    ids[place] = token
    columns["input_ids"][row] = ids
    columns["crc32"][row] = zlib.crc32(np.array(ids, dtype=np.int32))


def plain_piece(columns: Columns, *, ending: bool) -> tuple[int, int, int]:
    """(row, start, stop) of a plain piece of several ids that does, or may not, end in EOS."""
    for row, (lengths, flags) in enumerate(
        zip(columns["piece_lengths"], columns["piece_flags"], strict=True)
    ):
        start = 0
        for length, flag in zip(lengths, flags, strict=True):
            stop = start + length
            if not flag and length > 3 and (columns["input_ids"][row][stop - 1] == EOS) >= ending:
                return row, start, stop
            start = stop
    raise AssertionError("no such piece")


def test_a_flag_of_no_kind(forger: Forger) -> None:
    forger.shard(lambda columns: columns["piece_flags"][0].__setitem__(0, 7))
    assert forger.refused("piece lengths or flags are malformed")


def test_a_row_longer_than_the_context(forger: Forger) -> None:
    def change(columns: Columns) -> None:
        columns["piece_lengths"][0][0] += CONTEXT
        columns["n_tokens"][0] += CONTEXT

    forger.shard(change)
    assert forger.refused(f"a row claims more than {CONTEXT} tokens")


def test_text_in_the_padding(forger: Forger) -> None:
    def change(columns: Columns) -> None:
        row = next(row for row, n in enumerate(columns["n_tokens"]) if n < CONTEXT)
        set_id(columns, row, CONTEXT - 1, TEXT_ID)

    forger.shard(change)
    assert forger.refused("something other than padding follows a row's tokens")


def test_a_control_id_inside_a_plain_piece(forger: Forger) -> None:
    def change(columns: Columns) -> None:
        row, start, _ = plain_piece(columns, ending=False)
        set_id(columns, row, start + 1, EOS)

    forger.shard(change)
    assert forger.refused(r"piece \d+ is plain but holds a control id")


def test_a_foreign_control_id_inside_a_fim_piece(forger: Forger) -> None:
    user = load_vocabulary(forger.folder).control_texts["<｜User｜>"]

    def change(columns: Columns) -> None:
        for row, flags in enumerate(columns["piece_flags"]):
            if flags[0]:
                set_id(columns, row, columns["piece_lengths"][row][0] - 2, user)
                return
        raise AssertionError("no row begins with a FIM piece")

    forger.shard(change)
    assert forger.refused(r"piece \d+: a FIM piece holds another control id")


def test_a_document_without_its_end(forger: Forger) -> None:
    size = len(load_vocabulary(forger.folder).token_bytes[TEXT_ID])
    at: list[int] = []

    def change(columns: Columns) -> None:
        row, start, stop = plain_piece(columns, ending=True)
        set_id(columns, row, stop - 1, TEXT_ID)
        before = sum(map(len, columns["piece_lengths"][:row]))
        starts = np.cumsum([0, *columns["piece_lengths"][row]]).tolist()
        at.append(before + starts.index(start))

    def lengthen(columns: Columns) -> None:
        columns["n_bytes"][at[0]] += size

    forger.shard(change)
    assert forger.refused("lineage and rows disagree in n_bytes")
    forger.lineage(lengthen)
    assert forger.refused("a document's last piece does not end with the end-of-sentence token")


@pytest.mark.parametrize("which", ["first", "last", "only"])
@pytest.mark.parametrize(
    ("column", "amount"),
    [("piece", 1), ("n_pieces", 1), ("token_start", 1), ("n_pieces", -1)],
)
def test_pieces_that_do_not_make_their_document(
    forger: Forger, column: str, amount: int, which: str
) -> None:
    def change(columns: Columns) -> None:
        places = list(zip(columns["piece"], columns["n_pieces"], strict=True))
        wanted = {
            "first": lambda piece, n_pieces: piece == 0 and n_pieces > 1,
            "last": lambda piece, n_pieces: piece == n_pieces - 1 and n_pieces > 1,
            "only": lambda piece, n_pieces: n_pieces == 1,
        }[which]
        row = next(row for row, place in enumerate(places) if wanted(*place))
        columns[column][row] += amount

    forger.lineage(change)
    assert forger.refused("the pieces of a document are not all there exactly once")


@pytest.mark.parametrize("column", ["row", "slot", "n_tokens", "flag", "n_bytes"])
def test_lineage_that_tells_of_other_rows(forger: Forger, column: str) -> None:
    def change(columns: Columns) -> None:
        columns[column][-1] += 1

    forger.lineage(change)
    assert forger.refused(f"lineage and rows disagree in {column}")


@pytest.mark.parametrize("look", [verify_quietly, report_quietly, inspect_first_row])
def test_lineage_of_an_unreleased_state_is_refused_by_name(
    forger: Forger, look: Callable[[Path], object]
) -> None:
    forger.lineage(lambda columns: None, drop="n_debiased")
    with pytest.raises(
        BadInput, match="the lineage lacks n_debiased: an unreleased state of dsv3data wrote it"
    ) as caught:
        look(forger.folder)
    assert caught.value.where.endswith("lineage-code-00000.parquet")
    assert "pack the token set again" in caught.value.fix


def test_lineage_of_other_columns(forger: Forger) -> None:
    forger.lineage(lambda columns: None, retype="slot")
    assert forger.refused("the lineage has other columns")


def test_values_that_are_missing(forger: Forger) -> None:
    def change(columns: Columns) -> None:
        columns["piece_flags"][0] = None

    forger.shard(change)
    assert forger.refused("1 values of piece_flags are missing")


def test_lineage_that_is_no_table(forger: Forger) -> None:
    (path,) = forger.folder.glob("lineage-*.parquet")
    path.write_bytes(b"PAR1 nothing PAR1")
    forger.list(describe_file(forger.folder, path.name))
    assert forger.refused("the lineage cannot be read: ")


def test_a_shard_without_lineage(forger: Forger) -> None:
    (path,) = forger.folder.glob("lineage-*.parquet")
    path.unlink()
    files = tuple(record for record in forger.manifest.files if record.name != path.name)
    forger.state(files=files)
    assert forger.refused("the shard has no lineage file")


def test_other_documents_than_those_of_the_token_set(forger: Forger) -> None:
    def change(columns: Columns) -> None:
        first = columns["key"][0]
        columns["key"] = [b"\0" * 16 if key == first else key for key in columns["key"]]

    forger.lineage(change)
    assert forger.refused("the documents in the rows are not those of the token set")


@pytest.mark.parametrize(
    ("moved_by", "message"),
    [(0, "partition is 0, which is not that of"), (1, "a document stands in two shards")],
)
def test_a_shard_twice(forger: Forger, moved_by: int, message: str) -> None:
    def move(columns: Columns) -> None:
        columns["partition"] = [partition + moved_by for partition in columns["partition"]]

    manifest, twins = forger.manifest, []
    for name, rewrite in (("packed-*.arrow", forger.shard), ("lineage-*", forger.lineage)):
        (path,) = forger.folder.glob(name)
        kept, before = path.read_bytes(), forger.record(path.name)
        rewrite(move)
        twin = path.name.replace("-00000", "-00001")
        twins.append(dataclasses.replace(forger.record(path.name), name=twin))
        path.rename(path.with_name(twin))
        path.write_bytes(kept)
        forger.list(before)
    for record in twins:
        forger.list(record)
    forger.state(keys_digest=add_digests([manifest.keys_digest, manifest.keys_digest]))
    assert forger.refused(message)


def test_a_document_twice_in_a_token_set(tokens: Path, tmp_path: Path) -> None:
    forger = Forger(copy_of(tokens, tmp_path / "copy"))
    keys: list[bytes] = []

    def change(columns: Columns) -> None:
        columns["key"][1] = columns["key"][0]
        keys.extend(columns["key"])

    forger.shard(change)
    assert forger.refused("the documents are not those the manifest was made for")
    words = keys_to_words(np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(-1, 16))
    forger.state(keys_digest=keys_digest(words))
    assert forger.refused("a document stands in the set twice")


def test_a_document_of_another_length_in_bytes(tokens: Path, tmp_path: Path) -> None:
    forger = Forger(copy_of(tokens, tmp_path / "copy"))

    def change(columns: Columns) -> None:
        columns["n_bytes"][2] += 1

    forger.shard(change)
    assert forger.refused(r"row 2 decodes to [\d,]+ bytes, its text had more or fewer")


def test_split_tokens_that_are_not_there(forger: Forger) -> None:
    def change(columns: Columns) -> None:
        plain = columns["flag"].index(0)
        columns["n_debiased"][plain] += 1

    forger.lineage(change)
    assert forger.refused("a piece has other ids than its tokens and splits in the lineage")


def test_split_tokens_of_a_fim_piece_that_are_not_there(forger: Forger) -> None:
    def change(columns: Columns) -> None:
        columns["n_debiased"][columns["flag"].index(1)] = CONTEXT

    forger.lineage(change)
    assert forger.refused("a piece claims more split tokens than it has pairs of halves")
