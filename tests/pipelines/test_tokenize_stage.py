"""Tokenizing: the same root for any number of workers, every record accounted for."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from tokenizers import Tokenizer

import dsv3data.encoding.choose as choose
import dsv3data_pipelines.tokenize.batches as batches
import dsv3data_pipelines.tokenize.unit as unit
from dsv3data.contracts.errors import BadConfig, BadInput, IntegrityError, TooManyRejected
from dsv3data.contracts.keys import add_digests, document_key, keys_digest, keys_to_words
from dsv3data.contracts.progress import NullSink
from dsv3data.encoding.choose import LoadedEngines
from dsv3data.encoding.fastokens import FastokensEncoder
from dsv3data.encoding.vocabulary import Vocabulary
from dsv3data.io.manifest_file import read_manifest
from dsv3data.io.shards import ShardReader
from dsv3data.stages.counts import add_counts
from dsv3data.stages.units import complete_unit
from dsv3data_pipelines.tokenize import TokenizeConfig, forecast, plan_tokenize
from folders import published, root_of
from run_cli import run_cli
from tiny_data import tokenize_tiny, write_jsonl, write_texts


class Listener(NullSink):
    """Adds up what a stage reports."""

    def __init__(self) -> None:
        self.phases: dict[str, int | None] = {}
        self.done: dict[str, int] = {}
        self.counts: dict[str, int] = {}
        self.notes: list[str] = []

    def phase(self, name: str, *, total: int | None = None, unit: str = "") -> None:
        self.phases[name] = total
        self.done[name] = 0

    def advance(self, amount: int, **counts: int) -> None:
        self.done[list(self.done)[-1]] += amount
        for name, count in counts.items():
            self.counts[name] = self.counts.get(name, 0) + count

    def note(self, text: str) -> None:
        self.notes.append(text)


def rows_of(folder: Path) -> list[dict[str, Any]]:
    shards = read_manifest(folder).shards()
    return [
        row
        for record in shards
        for batch in ShardReader(folder, record).batches()
        for row in batch.to_pylist()
    ]


def records_of(corpus: Path) -> list[tuple[str, int, dict[str, str]]]:
    found = []
    for path in sorted(corpus.iterdir()):
        offset = 0
        for line in path.read_bytes().splitlines(keepends=True):
            found.append((path.name, offset, json.loads(line)))
            offset += len(line)
    return found


def test_two_workers_write_the_same_bytes(
    tiny_corpus: Path, tiny_tokenizer: Path, tiny_tokens: Path, tmp_path: Path
) -> None:
    listener = Listener()
    other = tokenize_tiny(tiny_corpus, tiny_tokenizer, tmp_path / "out", workers=2, sink=listener)
    assert len(read_manifest(other).shards()) > 4
    assert published(other) == published(tiny_tokens)
    assert root_of(other) == root_of(tiny_tokens)
    assert listener.done["tokenize"] == listener.phases["tokenize"]
    assert listener.counts["documents"] == read_manifest(other).counts["documents"]
    assert listener.counts["tokens"] == read_manifest(other).counts["tokens"]


def test_every_document_is_there_with_its_ids(
    tiny_corpus: Path, tiny_tokenizer: Path, tiny_tokens: Path
) -> None:
    tree = json.loads((tiny_tokenizer / "tokenizer.json").read_text(encoding="utf-8"))
    reference = Tokenizer.from_str(json.dumps({**tree, "added_tokens": []}))
    rows = rows_of(tiny_tokens)
    records = records_of(tiny_corpus)
    assert [(row["source"], row["position"]) for row in rows] == [r[:2] for r in records]
    for row, (source, position, fields) in zip(rows, records, strict=True):
        assert row["key"] == document_key(source, position)
        assert row["domain"] == fields["domain"]
        assert row["n_bytes"] == len(fields["text"].encode())
        assert row["ids"] == reference.encode(fields["text"]).ids


def test_counts_of_the_manifest(tiny_corpus: Path, tiny_tokens: Path) -> None:
    counts = read_manifest(tiny_tokens).counts
    rows, records = rows_of(tiny_tokens), records_of(tiny_corpus)
    assert counts["documents"] == len(records)
    assert counts["bytes"] == sum(len(fields["text"].encode()) for _, _, fields in records)
    assert counts["tokens"] == sum(len(row["ids"]) for row in rows)
    assert (counts["rejected"], counts["empty"], counts["rejected_by_reason"]) == (0, 0, {})
    marks = ("<｜end▁of▁sentence｜>", "<｜fim▁hole｜>", "<｜User｜>", "<|EOT|>")
    spelled = sum(any(mark in fields["text"] for mark in marks) for _, _, fields in records)
    assert counts["control_text_documents"] == spelled > 0
    for domain in ("web", "zh", "code"):
        mine = [row for row in rows if row["domain"] == domain]
        assert counts["domains"][domain] == {
            "documents": len(mine),
            "tokens": sum(len(row["ids"]) for row in mine),
            "bytes": sum(row["n_bytes"] for row in mine),
        }


def test_a_finished_set_is_only_checked(
    tiny_corpus: Path, tiny_tokenizer: Path, tmp_path: Path
) -> None:
    out = tokenize_tiny(tiny_corpus, tiny_tokenizer, tmp_path / "out")
    shard = next(out.glob("tokens-*.arrow"))
    inode = shard.stat().st_ino
    tokenize_tiny(tiny_corpus, tiny_tokenizer, out)
    assert shard.stat().st_ino == inode


def bad_file(folder: Path) -> Path:
    """40 lines, the fifth, blank sixth, the 23rd and the last of which are no documents."""
    lines = [json.dumps({"text": f"document {number} " + "x" * 60}) for number in range(1, 41)]
    lines[4], lines[5], lines[22], lines[39] = "{", "", json.dumps({"text": ""}), '{"text": 1}'
    path = folder / "x.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def rejections(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "rejected.jsonl").read_bytes().splitlines()]


@pytest.mark.parametrize("unit_bytes", [1024, 1500, 1 << 20])
def test_line_numbers_of_rejections_count_the_whole_file(
    tiny_tokenizer: Path, tmp_path: Path, unit_bytes: int
) -> None:
    path = bad_file(tmp_path)
    write_texts(tmp_path / "y.jsonl", ["fine", ""])
    (tmp_path / "z.txt").write_bytes(b"")
    inputs = [path, tmp_path / "y.jsonl", tmp_path / "z.txt"]
    out = tokenize_tiny(inputs, tiny_tokenizer, tmp_path / "out", unit_bytes=unit_bytes)
    found = rejections(out)
    assert [(item["source"], item["line"], item["reason"]) for item in found] == [
        ("x.jsonl", 5, "bad-json"),
        ("x.jsonl", 23, "empty"),
        ("x.jsonl", 40, "text-not-string"),
        ("y.jsonl", 2, "empty"),
        ("z.txt", None, "empty"),
    ]
    data = path.read_bytes()
    for item in found[:3]:
        assert data[: item["position"]].count(b"\n") == item["line"] - 1
    counts = read_manifest(out).counts
    assert (counts["documents"], counts["rejected"], counts["empty"]) == (37, 2, 3)
    assert counts["rejected_by_reason"] == {"bad-json": 1, "empty": 3, "text-not-string": 1}


def test_a_line_longer_than_several_units_keeps_line_numbers_right(
    tiny_tokenizer: Path, tmp_path: Path
) -> None:
    lines = ["bad", json.dumps({"text": "x" * 5000}), "bad", json.dumps({"text": "y"}), "bad"]
    (tmp_path / "x.jsonl").write_text("\n".join(lines), encoding="utf-8")
    out = tokenize_tiny(tmp_path / "x.jsonl", tiny_tokenizer, tmp_path / "out", unit_bytes=1024)
    assert [item["line"] for item in rejections(out)] == [1, 3, 5]


def test_more_rejections_than_allowed_are_published_and_told(
    tiny_tokenizer: Path, tmp_path: Path
) -> None:
    path = bad_file(tmp_path)
    with pytest.raises(TooManyRejected) as caught:
        tokenize_tiny(path, tiny_tokenizer, tmp_path / "out", max_rejected=0.05)
    assert caught.value.exit_code == 6
    assert "2 of 38 records were rejected (bad-json 1, empty 1, text-not-string 1)" in str(
        caught.value
    )
    assert read_manifest(tmp_path / "out").counts["documents"] == 36
    assert "raise --max-rejected" in caught.value.fix
    tokenize_tiny(path, tiny_tokenizer, tmp_path / "out", max_rejected=2 / 38)


def test_records_without_the_text_field_are_answered_with_the_fields_that_they_have(
    tiny_tokenizer: Path, tmp_path: Path
) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"content": "a", "url": "b"}\n' * 3)
    with pytest.raises(TooManyRejected) as caught:
        tokenize_tiny(path, tiny_tokenizer, tmp_path / "out", max_rejected=0.01)
    assert caught.value.effect == "the token set is finished and holds no document"
    assert "--text-key" in caught.value.fix
    assert "fields: content, url" in caught.value.fix


def test_no_rejection_is_never_too_many(tiny_tokenizer: Path, tmp_path: Path) -> None:
    path = write_texts(tmp_path / "x.jsonl", ["a", "", ""])
    out = tokenize_tiny(path, tiny_tokenizer, tmp_path / "out", max_rejected=0.0)
    assert read_manifest(out).counts["empty"] == 2


def test_two_documents_of_one_id_are_refused_with_both_places(
    tiny_tokenizer: Path, tmp_path: Path
) -> None:
    for name, ids in (("a", ["1", "2", "3"]), ("b", ["4", "2"])):
        records = [{"text": f"text {user_id}", "id": user_id} for user_id in ids]
        write_jsonl(tmp_path / f"{name}.jsonl", records)
    inputs = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    with pytest.raises(BadInput, match="1 documents have the id of another document") as caught:
        tokenize_tiny(inputs, tiny_tokenizer, tmp_path / "out", id_key="id", unit_bytes=1024)
    second = len(json.dumps({"text": "text 1", "id": "1"})) + 1
    assert caught.value.where == f"a.jsonl at {second} and b.jsonl at {second}"
    assert not (tmp_path / "out" / "manifest.json").exists()
    out = tokenize_tiny(inputs[:1], tiny_tokenizer, tmp_path / "out2", id_key="id")
    assert read_manifest(out).counts["documents"] == 3


def test_unique_ids_make_keys_that_do_not_depend_on_the_file(
    tiny_tokenizer: Path, tmp_path: Path
) -> None:
    records = [{"text": f"text {number}", "id": number} for number in range(20)]
    digests = set()
    for name, order in (("a", records), ("b", records[::-1])):
        path = write_jsonl(tmp_path / f"{name}.jsonl", order)
        out = tokenize_tiny(path, tiny_tokenizer, tmp_path / name, id_key="id")
        digests.add(read_manifest(out).keys_digest)
    assert len(digests) == 1


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "all rejected"])
def test_input_without_documents_gives_an_empty_set(
    tiny_tokenizer: Path, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / ("x.parquet" if kind == "parquet" else "x.jsonl")
    if kind == "parquet":
        pq.ParquetWriter(path, pa.schema([("text", pa.string())])).close()
    else:
        path.write_bytes(b"bad\n" if kind == "all rejected" else b"")
    out = tokenize_tiny(path, tiny_tokenizer, tmp_path / "out")
    manifest = read_manifest(out)
    assert (manifest.counts["documents"], manifest.shards()) == (0, [])
    assert manifest.keys_digest == "0" * 32


def test_a_unit_starts_a_new_shard_at_the_size_limit(
    tiny_corpus: Path, tiny_tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unit, "_ENCODE_CHARACTERS", 4096)
    monkeypatch.setattr(batches, "_BATCH_IDS", 500)
    config = TokenizeConfig(unit_bytes=1 << 30, shard_bytes=20_000)
    out = tokenize_tiny(tiny_corpus, tiny_tokenizer, tmp_path / "out", config=config)
    shards = read_manifest(out).shards()
    assert [shard.name for shard in shards] == [
        f"tokens-00000-{number:03d}.arrow" for number in range(len(shards))
    ]
    assert len(shards) > 3
    assert all(shard.size > 20_000 for shard in shards[:-1])
    assert len(rows_of(out)) == len(records_of(tiny_corpus))


@pytest.mark.parametrize("name", ["unit_bytes", "shard_bytes"])
def test_sizes_too_small_are_refused(name: str) -> None:
    with pytest.raises(BadConfig, match=f"{name} must be at least 1024 bytes, not 1023"):
        TokenizeConfig(**{name: 1023})


def test_forecast(tiny_corpus: Path, tiny_tokenizer: Path, tiny_tokens: Path) -> None:
    config = TokenizeConfig(unit_bytes=32 << 10)
    facts = forecast(
        [tiny_corpus], tokenizer=tiny_tokenizer, config=config, workers=1, sink=NullSink()
    )
    size = sum(path.stat().st_size for path in tiny_corpus.iterdir())
    assert (facts["files"], facts["input_bytes"]) == (3, size)
    assert facts["units"] == len(read_manifest(tiny_tokens).input["units"])
    tokens = read_manifest(tiny_tokens).counts["tokens"]
    assert tokens <= facts["tokens_estimate"] < 1.3 * tokens  # JSON around the text is counted


def test_skipped_files_are_noted(tiny_tokenizer: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write_texts(tmp_path / "in" / "a.jsonl", ["a"])
    (tmp_path / "in" / "b.bin").write_bytes(b"")
    listener = Listener()
    unit._load.cache_clear()
    tokenize_tiny(tmp_path / "in", tiny_tokenizer, tmp_path / "out", sink=listener)
    skipped, engine = listener.notes
    assert skipped == "1 files were skipped, the first: b.bin (unknown kind)"
    assert re.search(r" encodes: on the first documents .*fastokens \S+ MB/s", engine)


def test_what_workers_share_is_loaded_before_they_are_forked(
    tiny_corpus: Path, tiny_tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []

    def engines(vocabulary: Vocabulary, wanted: str) -> LoadedEngines:
        loaded.append("engines")
        return choose.load_engines(vocabulary, wanted)

    monkeypatch.setattr(unit, "load_kernel", lambda: loaded.append("reader"))
    monkeypatch.setattr(unit, "load_engines", engines)
    unit._load.cache_clear()
    config, out = TokenizeConfig(), tmp_path / "out"
    plan = plan_tokenize(
        [tiny_corpus], tokenizer=tiny_tokenizer, out=out, config=config, sink=NullSink()
    )
    threads = {*threading.enumerate()}
    for step in plan.tasks[0].warm_up():
        step()
    assert {*threading.enumerate()} <= threads
    assert loaded == ["reader", "engines"]
    complete_unit(plan.tasks[0], NullSink())
    assert loaded.count("engines") == 1
    unit._load.cache_clear()


def test_add_counts() -> None:
    one = {"n": 1, "text": "x", "in": {"a": 1, "b": 2.5}}
    two = {"n": 2, "more": 5, "in": {"b": 1, "c": {"d": 1}}}
    expected = {"in": {"a": 1, "b": 3.5, "c": {"d": 1}}, "more": 5, "n": 3}
    assert add_counts([one, two]) == expected
    assert list(add_counts([two, one])) == ["in", "more", "n"]
    assert add_counts([]) == {}
    assert add_counts([{}, one]) == {"n": 1, "in": {"a": 1, "b": 2.5}}


def test_the_digest_of_the_set_is_that_of_its_keys(tiny_tokens: Path) -> None:
    keys = [row["key"] for row in rows_of(tiny_tokens)]
    words = keys_to_words(np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(-1, 16))
    whole = keys_digest(words)
    assert read_manifest(tiny_tokens).keys_digest == whole
    assert add_digests([keys_digest(words[:5]), keys_digest(words[5:])]) == whole


# Engines

FAST = {"engine": "fastokens"}  # by name: which one is taken else is a matter of speed


class WrongOnce:
    """The fast engine, but documents with a mark in them lose their last id."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.encoder = FastokensEncoder(vocabulary)

    def encode(self, texts: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        values, offsets = self.encoder.encode(texts)
        parts = [values[offsets[i] : offsets[i + 1]] for i in range(len(texts))]
        parts = [
            part[:-1] if "WRONG" in text else part for part, text in zip(parts, texts, strict=True)
        ]
        return np.concatenate(parts), np.cumsum([0, *map(len, parts)])


@pytest.fixture
def engine_is_wrong(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    unit._load.cache_clear()
    monkeypatch.setitem(choose._FAST, "fastokens", WrongOnce)
    monkeypatch.delitem(choose._AHEAD, "fastokens")
    yield
    unit._load.cache_clear()


def test_names_that_no_column_can_hold_are_refused(
    tiny_tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "_MOST_NAME_BYTES", 30)
    path = write_texts(tmp_path / "named.jsonl", ["a", "b", "c"])
    with pytest.raises(BadInput, match="the names of 3 short documents take more than 30 bytes"):
        tokenize_tiny(path, tiny_tokenizer, tmp_path / "out")


def units_with_documents(out: Path) -> int:
    return len({shard.name.split("-")[1] for shard in read_manifest(out).shards()})


def test_each_engine_gives_the_same_set(
    tiny_corpus: Path, tiny_tokenizer: Path, tiny_tokens: Path, tmp_path: Path
) -> None:
    for engine, described in (("fastokens", "fastokens 0"), ("huggingface", "tokenizers 0")):
        out = tmp_path / engine
        tokenize_tiny(tiny_corpus, tiny_tokenizer, out, engine=engine)
        assert published(out) == published(tiny_tokens)
        run = json.loads((out / "run.json").read_text())
        ((name, units),) = run["units_by_engine"].items()
        assert name.startswith(described)
        assert units == units_with_documents(out)
        assert run["documents_checked"] == (units if engine == "fastokens" else 0)


def test_a_unit_that_another_engine_did_is_kept(
    tiny_corpus: Path, tiny_tokenizer: Path, tmp_path: Path
) -> None:
    out = tokenize_tiny(tiny_corpus, tiny_tokenizer, tmp_path / "out", engine="huggingface")
    lost = next(out.glob("tokens-00001-*.arrow"))
    lost.unlink()
    tokenize_tiny(tiny_corpus, tiny_tokenizer, out, engine="fastokens")
    run = json.loads((out / "run.json").read_text())
    assert sorted(run["units_by_engine"].values()) == [
        1,
        units_with_documents(out) - 1,
    ]
    shard = next(one for one in read_manifest(out).shards() if one.name == lost.name)
    assert run["documents_encoded"] == shard.rows


@pytest.mark.usefixtures("engine_is_wrong")
def test_a_document_that_the_reference_encodes_otherwise_stops_the_run(
    tiny_tokenizer: Path, tmp_path: Path
) -> None:
    texts = ["fine " * 20, "fine too", "all is WRONG here", "fine " * 20]
    path = write_texts(tmp_path / "x.jsonl", texts)
    out = tmp_path / "out"
    with pytest.raises(IntegrityError, match="gives other ids than the reference") as caught:
        tokenize_tiny(path, tiny_tokenizer, out, unit_bytes=1024, check_rate=1.0, **FAST)
    error = caught.value
    assert error.exit_code == 4
    position = sum(len(json.dumps({"text": text})) + 1 for text in texts[:2])
    assert error.where == f"x.jsonl at {position}, unit 00000"
    assert error.what.startswith("the engine fastokens 0.")
    assert ": token " in error.what
    assert " is missing instead of " in error.what
    assert "--engine huggingface --fresh" in error.fix
    assert [path.name for path in out.iterdir() if not path.name.startswith(".")] == []
    assert [path.name for path in (out / ".work").iterdir()] == ["plan.json"]
    tokenize_tiny(path, tiny_tokenizer, out, engine="huggingface", fresh=True)
    assert read_manifest(out).counts["documents"] == 4


@pytest.mark.usefixtures("engine_is_wrong")
def test_no_check_finds_nothing(tiny_tokenizer: Path, tmp_path: Path) -> None:
    path = write_texts(tmp_path / "x.jsonl", ["all is WRONG here"])
    out = tokenize_tiny(path, tiny_tokenizer, tmp_path / "out", check_rate=0.0, **FAST)
    assert json.loads((out / "run.json").read_text())["documents_checked"] == 0
    with pytest.raises(IntegrityError, match="gives other ids"):
        tokenize_tiny(path, tiny_tokenizer, tmp_path / "other", check_rate=1e-9, **FAST)


def test_why_an_engine_was_refused_is_said_once_by_all_workers(
    tiny_tokenizer: Path, tmp_path: Path, tiny_corpus: Path
) -> None:
    code = "raise ImportError('no wheel for this machine')"
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "fastokens.py").write_text(code)
    words = ["tokenize", tiny_corpus, "--tokenizer", tiny_tokenizer, "--unit-bytes", "20000"]
    env = {"PYTHONPATH": str(tmp_path / "path")}
    run = run_cli(*words, "--out", tmp_path / "out", "--workers", "2", env=env)
    assert run.code == 0
    assert run.err.count("fastokens is not installed: huggingface encodes") == 1
    assert "tokenizers 0." in run.out
    assert re.search(r"^ *in all +\d+ ", run.out, flags=re.MULTILINE)
    assert re.search(r" of text/s · .+ tokens/s in \d+:\d\d", run.out)
    run = run_cli(*words, "--out", tmp_path / "new", "--engine", "fastokens", env=env)
    assert run.code == 5
    assert "the engine fastokens is not installed" in run.err


# A trial


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 40, 10_000])
def test_a_limit_takes_the_first_documents_whatever_the_units(
    tiny_corpus: Path, tiny_tokenizer: Path, tiny_tokens: Path, tmp_path: Path, limit: int
) -> None:
    expected = [(row["key"], row["ids"]) for row in rows_of(tiny_tokens)][:limit]
    for unit_bytes in (2_000, 32 << 10):
        out = tmp_path / str(unit_bytes)
        tokenize_tiny(tiny_corpus, tiny_tokenizer, out, limit=limit, unit_bytes=unit_bytes)
        assert [(row["key"], row["ids"]) for row in rows_of(out)] == expected
        manifest = read_manifest(out)
        assert manifest.plan["limit"] == limit
        before = published(out)
        tokenize_tiny(tiny_corpus, tiny_tokenizer, out, limit=limit, unit_bytes=unit_bytes)
        assert published(out) == before


def test_a_limit_is_part_of_the_plan(
    tiny_corpus: Path, tiny_tokenizer: Path, tmp_path: Path
) -> None:
    out = tokenize_tiny(tiny_corpus, tiny_tokenizer, tmp_path / "out", limit=5)
    with pytest.raises(BadConfig, match="limit: 5 → 6"):
        tokenize_tiny(tiny_corpus, tiny_tokenizer, out, limit=6)
    with pytest.raises(BadConfig, match=r"limit: 5 → \(absent\)"):
        tokenize_tiny(tiny_corpus, tiny_tokenizer, out)


def test_rejections_behind_the_last_document_of_a_trial_are_left_out(
    tiny_tokenizer: Path, tmp_path: Path
) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'bad\n{"text": "a"}\nbad\n{"text": "b"}\nbad\n')
    out = tokenize_tiny(path, tiny_tokenizer, tmp_path / "out", limit=2)
    assert [item["line"] for item in rejections(out)] == [1, 3]


def test_record_batches_do_not_depend_on_what_is_encoded_at_once(
    tiny_corpus: Path, tiny_tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "_BATCH_IDS", 2_000)
    sets = []
    for characters in (1, 5_000, 1 << 20):
        monkeypatch.setattr(unit, "_ENCODE_CHARACTERS", characters)
        out = tmp_path / str(characters)
        sets.append(published(tokenize_tiny(tiny_corpus, tiny_tokenizer, out)))
        shards = read_manifest(out).shards()
        assert max(ShardReader(out, shard).n_batches for shard in shards) > 2
    assert sets[0] == sets[1] == sets[2]
