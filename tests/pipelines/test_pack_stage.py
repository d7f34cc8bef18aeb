"""Packing a token set: the same root for any number of workers, every byte of text in the rows."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow.parquet as pq
import pytest

from dsv3data.audit.verify import verify
from dsv3data.contracts.errors import BadConfig, BadInput, IntegrityError
from dsv3data.contracts.progress import NullSink
from dsv3data.encoding.vocabulary import load_vocabulary
from dsv3data.io.manifest_file import describe_file, read_manifest, write_manifest
from dsv3data.io.shards import ShardReader
from dsv3data.packing.config import PackConfig
from dsv3data.packing.fim import parse_fim
from dsv3data_pipelines.pack import (
    Exclusions,
    forecast,
    pack_contexts,
    read_exclusions,
    scatter,
    stage,
)
from dsv3data_pipelines.pack.batches import token_batches
from dsv3data_pipelines.pack.documents import gather_documents
from dsv3data_pipelines.pack.partitions import partitions_of
from dsv3data_pipelines.pack.scatter import read_slices, scattered
from folders import copy_of, published, root_of
from tiny_data import CONTEXT, PACK_CONFIG, pack_tiny, tokenize_tiny, write_jsonl, write_texts


def rows_of(folder: Path) -> Iterator[dict[str, Any]]:
    for record in read_manifest(folder).shards():
        for batch in ShardReader(folder, record).batches():
            yield from batch.to_pylist()


def lineage_of(folder: Path) -> dict[tuple[str, int, int], list[dict[str, Any]]]:
    pieces = defaultdict(list)
    for record in read_manifest(folder).files:
        if record.name.endswith(".parquet"):
            for piece in pq.read_table(folder / record.name).to_pylist():
                pieces[row_name(piece)].append(piece)
    return pieces


def row_name(columns: dict[str, Any]) -> tuple[str, int, int]:
    return columns["domain"], columns["partition"], columns["row"]


def test_two_workers_write_the_same_bytes(
    tiny_tokens: Path, tiny_packed: Path, tmp_path: Path
) -> None:
    other = pack_tiny(tiny_tokens, tmp_path / "out", workers=2)
    assert len(read_manifest(other).shards()) > 3
    assert published(other) == published(tiny_packed)
    assert root_of(other) == root_of(tiny_packed)


@pytest.mark.parametrize("change", [{"seed": 1}, {"fim_rate": 0.25}, {"context": 64}])
def test_each_setting_changes_the_root(
    tiny_tokens: Path, tiny_packed: Path, tmp_path: Path, change: dict[str, Any]
) -> None:
    config = dataclasses.replace(PACK_CONFIG, **change)
    assert root_of(pack_tiny(tiny_tokens, tmp_path / "out", config=config)) != root_of(tiny_packed)


def test_pieces_put_back_together_are_the_documents(tiny_tokens: Path, tiny_packed: Path) -> None:
    """FIM parts are reordered, cuts are joined: the bytes must be those of the token set."""
    vocabulary = load_vocabulary(tiny_packed)
    texts: dict[bytes, dict[int, bytes]] = defaultdict(dict)
    lineage = lineage_of(tiny_packed)
    fim = 0
    for row in rows_of(tiny_packed):
        ids = np.array(row["input_ids"], dtype=np.int32)
        start = 0
        for piece in lineage[row_name(row)]:
            part = ids[start : start + piece["n_tokens"]]
            start += piece["n_tokens"]
            if piece["flag"]:
                prefix, middle, suffix = parse_fim(part, piece["flag"], vocabulary.control)
                part = np.concatenate([prefix, middle, suffix])
                fim += 1
            assert piece["piece"] not in texts[piece["key"]]
            texts[piece["key"]][piece["piece"]] = vocabulary.decode(part)
        assert start == row["n_tokens"]
        assert set(ids[start:].tolist()) <= {vocabulary.control.pad}
    expected = {
        row["key"]: vocabulary.decode(np.array(row["ids"], dtype=np.int32))
        for row in rows_of(tiny_tokens)
    }
    joined = {key: b"".join(parts[n] for n in sorted(parts)) for key, parts in texts.items()}
    assert joined == expected
    assert fim == read_manifest(tiny_packed).counts["fim"]["pieces_fim"] > 20


def test_counts_add_up(tiny_tokens: Path, tiny_packed: Path) -> None:
    counts, tokens = read_manifest(tiny_packed).counts, read_manifest(tiny_tokens).counts
    rows = list(rows_of(tiny_packed))
    assert counts["documents"] == tokens["documents"]
    assert counts["text_tokens"] == tokens["tokens"]
    assert counts["bytes"] == tokens["bytes"]
    assert counts["rows"] == len(rows)
    assert counts["row_ids"] == sum(row["n_tokens"] for row in rows)
    assert counts["padding"] == len(rows) * CONTEXT - counts["row_ids"]
    assert counts["pieces"] == sum(len(row["piece_lengths"]) for row in rows)
    assert counts["documents_cut"] > 0
    for name in ("documents", "rows", "pieces", "padding", "bytes"):
        assert counts[name] == sum(domain[name] for domain in counts["domains"].values())
    for domain, figures in tokens["domains"].items():
        assert counts["domains"][domain]["documents"] == figures["documents"]


def test_the_forecast_is_exact_without_fim(tiny_tokens: Path, tmp_path: Path) -> None:
    contexts = (32, 128, 4096)
    config = PackConfig(context=contexts[0], fim_rate=0.0, debias_rate=0.0, partition_tokens=8_000)
    plans = forecast(tiny_tokens, contexts=contexts, config=config)
    assert [plan["context"] for plan in plans] == list(contexts)
    for plan in plans:
        assert plan["exact"]
        made = dataclasses.replace(config, context=plan["context"])
        out = pack_tiny(tiny_tokens, tmp_path / str(plan["context"]), config=made)
        counts = read_manifest(out).counts
        assert (plan["rows"], plan["padding"]) == (counts["rows"], counts["padding"])
        assert (plan["documents_cut"], plan["ids"]) == (counts["documents_cut"], counts["row_ids"])
        assert plan["padding_share"] == counts["padding"] / (counts["rows"] * plan["context"])
        shards = sum(record.size for record in read_manifest(out).shards())
        assert plan["disk_bytes_estimate"] <= shards


def test_the_forecast_refuses_each_context_out_of_range(tiny_tokens: Path) -> None:
    with pytest.raises(BadConfig, match="context must be from 16 to"):
        forecast(tiny_tokens, contexts=(4096, 0), config=PackConfig())


def test_an_empty_token_set_is_refused(tiny_tokenizer: Path, tmp_path: Path) -> None:
    path = write_texts(tmp_path / "x.jsonl", [""])
    tokens = tokenize_tiny(path, tiny_tokenizer, tmp_path / "tokens")
    with pytest.raises(BadInput, match="the token set has no document"):
        pack_tiny(tokens, tmp_path / "out")
    with pytest.raises(BadInput, match="the token set has no document"):
        forecast(tokens, contexts=(64,), config=PackConfig(context=64))


def test_domains_that_differ_in_case_only_are_refused(tiny_tokenizer: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"text": "a", "domain": "Web"}\n{"text": "b", "domain": "web"}\n')
    tokens = tokenize_tiny(path, tiny_tokenizer, tmp_path / "tokens")
    with pytest.raises(BadInput, match="'Web' and 'web' differ in case only"):
        pack_tiny(tokens, tmp_path / "out")
    with pytest.raises(BadInput, match="'Web' and 'web' differ in case only"):
        forecast(tokens, contexts=(64,), config=PackConfig(context=64))


def test_one_document_gives_one_row(tiny_tokenizer: Path, tmp_path: Path) -> None:
    path = write_texts(tmp_path / "x.jsonl", ["a"])
    tokens = tokenize_tiny(path, tiny_tokenizer, tmp_path / "tokens")
    config = PackConfig(context=64, fim_rate=1.0)
    (row,) = rows_of(pack_tiny(tokens, tmp_path / "out", config=config))
    vocabulary = load_vocabulary(tokens)
    assert row["input_ids"][1:] == [vocabulary.control.eos] + [vocabulary.control.pad] * 62
    assert (row["n_tokens"], row["piece_lengths"], row["piece_flags"]) == (2, [2], [0])


def test_a_packed_set_is_no_token_set(tiny_packed: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"this folder holds dsv3data.packed, not dsv3data.tokens"):
        pack_tiny(tiny_packed, tmp_path / "out")


def test_a_foreign_tokenizer_in_the_token_set_is_refused(tiny_tokens: Path, tmp_path: Path) -> None:
    tokens = copy_of(tiny_tokens, tmp_path / "tokens")
    path = tokens / "tokenizer.json"
    path.write_bytes(path.read_bytes() + b"\n")
    manifest = read_manifest(tokens)
    files = tuple(
        describe_file(tokens, record.name) if record.name == path.name else record
        for record in manifest.files
    )
    write_manifest(tokens, dataclasses.replace(manifest, files=files))
    with pytest.raises(IntegrityError, match="the tokenizer in the token set has hash"):
        pack_tiny(tokens, tmp_path / "out")


def test_documents_that_do_not_match_the_manifest_are_noticed(
    tiny_tokens: Path, tmp_path: Path
) -> None:
    tokens = copy_of(tiny_tokens, tmp_path / "tokens")
    manifest = read_manifest(tokens)
    write_manifest(tokens, dataclasses.replace(manifest, keys_digest="1" * 32))
    with pytest.raises(IntegrityError, match="or other ones than the token set lists"):
        pack_tiny(tokens, tmp_path / "out")
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_shards_of_an_earlier_attempt_are_removed(tiny_tokens: Path, tmp_path: Path) -> None:
    out = pack_tiny(tiny_tokens, tmp_path / "out")
    shutil.copy(next(out.glob("packed-*.arrow")), out / "packed-zz-00009.arrow")
    pack_tiny(tiny_tokens, out)
    assert not (out / "packed-zz-00009.arrow").exists()


def test_domain_and_partition_name_the_shard(tiny_packed: Path) -> None:
    rows = list(rows_of(tiny_packed))
    names = [f"packed-{row['domain']}-{row['partition']:05d}.arrow" for row in rows]
    assert sorted(set(names)) == [record.name for record in read_manifest(tiny_packed).shards()]
    assert len({row_name(row) for row in rows}) == len(rows)


def shard_hashes(folder: Path) -> dict[str, str]:
    return {
        record.name: record.sha256
        for record in read_manifest(folder).files
        if record.name != "tokenizer.json"
    }


def test_several_contexts_have_the_bytes_of_single_runs(
    tiny_tokens: Path, tiny_packed: Path, tmp_path: Path
) -> None:
    outs = {CONTEXT: tmp_path / "a", 2 * CONTEXT: tmp_path / "b"}
    results = pack_contexts(tiny_tokens, outs=outs, config=PACK_CONFIG, sink=NullSink())
    assert [result.context for result in results] == [CONTEXT, 2 * CONTEXT]
    assert published(outs[CONTEXT]) == published(tiny_packed)
    double = dataclasses.replace(PACK_CONFIG, context=2 * CONTEXT)
    alone = pack_tiny(tiny_tokens, tmp_path / "c", config=double)
    assert published(outs[2 * CONTEXT]) == published(alone)


def test_each_epoch_is_another_packing_of_the_same_documents(
    tiny_tokens: Path, tiny_packed: Path, tmp_path: Path
) -> None:
    config = dataclasses.replace(PACK_CONFIG, epoch=1)
    other = pack_tiny(tiny_tokens, tmp_path / "out", config=config)
    verify(other, sink=NullSink())
    assert read_manifest(other).keys_digest == read_manifest(tiny_packed).keys_digest
    flags = [
        {p["key"]: bool(p["flag"]) for ps in lineage_of(folder).values() for p in ps}
        for folder in (tiny_packed, other)
    ]
    assert flags[0].keys() == flags[1].keys()
    changed = sum(flags[0][key] != flags[1][key] for key in flags[0])
    assert 0.4 < changed / len(flags[0]) < 0.6  # at rate 0.5 half of the choices differ


@pytest.mark.parametrize("memory", [1, 1 << 40])
def test_memory_reaches_no_byte(
    tiny_tokens: Path, tiny_packed: Path, tmp_path: Path, memory: int
) -> None:
    """With the smallest buffer every batch is written by itself."""
    manifest = read_manifest(tiny_tokens)
    partitions = partitions_of(manifest, PACK_CONFIG)
    with scattered(
        tiny_tokens,
        manifest,
        load_vocabulary(tiny_tokens),
        partitions=partitions,
        kept=range(len(partitions)),
        exclusions=Exclusions(),
        folder=tmp_path / "documents",
        memory_bytes=memory,
        sink=NullSink(),
    ) as shares:
        found = [(share.sha256, read_slices(share.slices)) for share in shares.values()]
        alone = [
            gather_documents(
                tiny_tokens,
                manifest,
                load_vocabulary(tiny_tokens),
                partitions=partitions,
                unit=unit,
                exclusions=Exclusions(),
            )
            for unit in shares
        ]
    assert not (tmp_path / "documents").exists()
    for (_, documents), other in zip(found, alone, strict=True):
        assert np.array_equal(documents.values, other.values)
        assert np.array_equal(documents.words, other.words)
        assert documents.source.to_pylist() == other.source.to_pylist()
    assert len({sha256 for sha256, _ in found}) == len(found)


def test_fewer_workers_than_asked_for_are_said(tiny_tokens: Path, tmp_path: Path) -> None:
    class Notes(NullSink):
        said: ClassVar[list[str]] = []

        def note(self, text: str) -> None:
            self.said.append(text)

    pack_contexts(
        tiny_tokens,
        outs={CONTEXT: tmp_path},
        config=PACK_CONFIG,
        sink=Notes(),
        workers=3,
        memory_bytes=700 << 20,
    )
    assert "1 of 3 workers: --memory suffices for no more" in Notes.said


def test_no_more_documents_are_held_than_the_buffer_takes(
    tiny_tokens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = read_manifest(tiny_tokens)
    partitions = partitions_of(manifest, PACK_CONFIG)
    batches = [*token_batches(tiny_tokens, manifest)]
    limit = sum(found.batch.nbytes for found in batches) // 5
    held: list[int] = []
    flush = scatter._Buffer.flush

    def noted(buffer: scatter._Buffer) -> None:
        held.append(buffer.size)
        flush(buffer)

    monkeypatch.setattr(scatter._Buffer, "flush", noted)
    shares = scatter.group(
        batches,
        load_vocabulary(tiny_tokens),
        partitions=partitions,
        kept=range(len(partitions)),
        exclusions=Exclusions(),
        folder=tmp_path,
        buffer_bytes=limit,
    )
    assert 3 <= len(held) <= 6
    assert max(held) <= limit + max(found.batch.nbytes for found in batches) * 1.1
    assert sum(share.tokens for share in shares.values()) == manifest.counts["tokens"]


def test_too_little_memory_for_a_partition_is_refused(
    tiny_tokens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BadConfig, match=r"the largest partition, .* takes about") as caught:
        pack_tiny(tiny_tokens, tmp_path / "out", memory_bytes=1 << 20)
    assert caught.value.fix == "--memory 1G"
    monkeypatch.setattr(stage, "_BYTES_PER_TOKEN", 1 << 20)  # as if it were a large partition
    with pytest.raises(BadConfig, match=r"the largest partition, .* takes about") as caught:
        pack_tiny(tiny_tokens, tmp_path / "out", memory_bytes=2 << 30)
    assert ", or smaller partitions, which give other bytes: --set" not in caught.value.fix
    monkeypatch.setattr(stage, "_LEAST_PARTITION", 1)
    with pytest.raises(BadConfig, match=r"the largest partition, .* takes about") as caught:
        pack_tiny(tiny_tokens, tmp_path / "out", memory_bytes=2 << 30)
    assert "G, or smaller partitions, which give other bytes: --set" in caught.value.fix
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_an_excluded_document_touches_only_its_partition(
    tiny_tokens: Path, tiny_packed: Path, tmp_path: Path
) -> None:
    out = copy_of(tiny_packed, tmp_path / "out")
    gone = next(iter(lineage_of(tiny_packed).values()))[0]
    listing = tmp_path / "quarantine"
    place = json.dumps({"source": gone["source"], "position": gone["position"]})
    listing.write_text(f"# bad\n\n{place}\n")
    exclusions = read_exclusions(listing)
    with pytest.raises(BadConfig, match=r"exclude.documents_listed: 0 → 1"):
        pack_tiny(tiny_tokens, out, exclusions=exclusions)
    times = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    pack_tiny(tiny_tokens, out, exclusions=exclusions, update=True)
    verify(out, sink=NullSink())
    before, after = shard_hashes(tiny_packed), shard_hashes(out)
    touched = {name for name in after if after[name] != before[name]}
    assert len(touched) == 2  # a shard and its lineage
    kept = [path for path in out.glob("packed-*") if path.name not in touched]
    assert kept
    assert all(path.stat().st_mtime_ns == times[path.name] for path in kept)
    by_key = tmp_path / "by-key"
    by_key.write_text(gone["key"].hex())
    clean = pack_tiny(tiny_tokens, tmp_path / "clean", exclusions=read_exclusions(by_key))
    assert shard_hashes(clean) == after
    assert read_manifest(out).input["excluded"]["documents"] == 1
    assert gone["key"] not in {p["key"] for ps in lineage_of(out).values() for p in ps}
    with pytest.raises(BadConfig, match="--update changes which documents are packed, not how"):
        pack_tiny(tiny_tokens, out, config=dataclasses.replace(PACK_CONFIG, seed=9), update=True)
    assert shard_hashes(pack_tiny(tiny_tokens, out, update=True)) == before


@pytest.mark.parametrize(
    "change", [{"fim_domain_rates": ("cod=0.5",)}, {"fim_line_domains": ("cod",)}]
)
def test_a_domain_that_is_not_there_is_refused(
    change: dict[str, Any], tiny_tokens: Path, tmp_path: Path
) -> None:
    config = dataclasses.replace(PACK_CONFIG, **change)
    domains = ", ".join(sorted(read_manifest(tiny_tokens).counts["domains"]))
    for act in (
        lambda: pack_tiny(tiny_tokens, tmp_path / "x", config=config),
        lambda: forecast(tiny_tokens, contexts=(64,), config=config),
    ):
        with pytest.raises(BadInput, match="has no document of domain 'cod'") as caught:
            act()
        assert caught.value.fix == f"its domains are {domains}"
    assert not (tmp_path / "x").exists()


def test_a_removed_source_leaves_the_bytes_of_a_set_without_it(
    tiny_corpus: Path, tiny_tokenizer: Path, tiny_tokens: Path, tmp_path: Path
) -> None:
    less = tmp_path / "less"
    shutil.copytree(tiny_corpus, less)
    (tmp_path / "more").mkdir()
    write_jsonl(tmp_path / "more" / "extra.jsonl", [{"text": "A b c.\n", "domain": "web"}])
    small = tokenize_tiny(less, tiny_tokenizer, tmp_path / "small")
    large = tokenize_tiny([less, tmp_path / "more"], tiny_tokenizer, tmp_path / "large")
    assert read_manifest(large).counts["documents"] == read_manifest(small).counts["documents"] + 1
    with pytest.raises(BadInput, match="no document of a source named 'extra") as caught:
        pack_tiny(large, tmp_path / "x", exclusions=read_exclusions(None, ["extra.json"]))
    assert caught.value.fix == "did you mean 'extra.jsonl'?"
    out = pack_tiny(large, tmp_path / "out")
    before = written(out)
    pack_tiny(large, out, exclusions=read_exclusions(None, ["extra.jsonl"]), update=True)
    assert root_of(out) == root_of(pack_tiny(small, tmp_path / "clean"))
    assert len(packed_again(out, before)) == 1


def test_a_whole_domain_that_goes_and_comes_back_touches_no_other(
    small_sets: Callable[..., Path], tmp_path: Path
) -> None:
    """ "another" sorts before "web"."""
    tokens, larger = small_sets("a"), small_sets("a", "b")
    clean = [pack_tiny(folder, tmp_path / f"packed-{folder.name}") for folder in (tokens, larger)]
    roots = [root_of(folder) for folder in clean]
    out = copy_of(clean[1], tmp_path / "out")
    before = written(out)
    assert len(before) > 1
    pack_tiny(larger, out, exclusions=read_exclusions(None, ["b.jsonl"]), update=True)
    verify(out, sink=NullSink())
    assert (root_of(out), packed_again(out, before)) == (roots[0], set())
    pack_tiny(larger, out, update=True)
    verify(out, sink=NullSink())
    assert (root_of(out), packed_again(out, before)) == (roots[1], {"packed-another-00000.arrow"})
    before = written(clean[0])
    pack_tiny(larger, clean[0], update=True)
    assert packed_again(clean[0], before) == {"packed-another-00000.arrow"}
    assert root_of(clean[0]) == roots[1]


def test_a_source_whose_removal_changes_the_number_of_partitions(
    small_sets: Callable[..., Path], tmp_path: Path
) -> None:
    less, more = small_sets("a", "b"), small_sets("a", "b", "c")
    config = dataclasses.replace(PACK_CONFIG, partition_tokens=1_000)
    out = pack_tiny(more, tmp_path / "out", config=config)
    before = written(out)
    without = read_exclusions(None, ["c.jsonl"])
    pack_tiny(more, out, config=config, exclusions=without, update=True)
    verify(out, sink=NullSink())
    assert root_of(out) == root_of(pack_tiny(less, tmp_path / "clean", config=config))
    after = written(out)
    assert len(after) < len(before)
    assert packed_again(out, before) == {name for name in after if "-web-" in name}
    again = root_of(pack_tiny(more, out, config=config, update=True))
    assert again == root_of(pack_tiny(more, tmp_path / "all", config=config))


def written(folder: Path) -> dict[str, int]:
    """When each packed shard was written."""
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("packed-*")}


def packed_again(folder: Path, before: dict[str, int]) -> set[str]:
    return {name for name, time in written(folder).items() if before.get(name) != time}


@pytest.fixture
def small_sets(tiny_tokenizer: Path, tmp_path: Path) -> Callable[..., Path]:
    """Token sets of some of three sources: "a" and, larger, "c" of one domain, "b" of another."""
    lines = {
        "a": [{"text": "A b c.\n" * n, "domain": "web"} for n in (1, 90)],
        "b": [{"text": "d e f", "domain": "another"}],
        "c": [{"text": f"G h {n}.\n" * 40, "domain": "web"} for n in range(40)],
    }

    def make(*names: str) -> Path:
        folder = tmp_path / "-".join(("in", *names))
        folder.mkdir()
        for name in names:
            write_jsonl(folder / f"{name}.jsonl", lines[name])
        return tokenize_tiny(folder, tiny_tokenizer, tmp_path / "-".join(("tokens", *names)))

    return make


@pytest.mark.parametrize(
    "line", ["xyz", "ab" * 15, '{"source": "x"}', '{"source": 1, "position": 2}']
)
def test_a_list_that_names_no_document_is_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "list"
    path.write_text(line)
    with pytest.raises(BadInput, match="line 1 names no document:"):
        read_exclusions(path)
    with pytest.raises(BadInput, match="the list of documents cannot be read"):
        read_exclusions(tmp_path / "absent")


def test_nothing_left_is_refused(tiny_tokens: Path, tmp_path: Path) -> None:
    names = ["web.jsonl", "chinese.jsonl", "code.jsonl"]
    with pytest.raises(BadInput, match="no document is left to pack"):
        pack_tiny(tiny_tokens, tmp_path / "out", exclusions=read_exclusions(None, names))


def test_documents_that_change_between_reading_and_packing_are_noticed(
    tiny_tokens: Path, tmp_path: Path
) -> None:
    manifest = read_manifest(tiny_tokens)
    partitions = partitions_of(manifest, PACK_CONFIG)
    with scattered(
        tiny_tokens,
        manifest,
        load_vocabulary(tiny_tokens),
        partitions=partitions,
        kept=range(len(partitions)),
        exclusions=Exclusions(),
        folder=tmp_path / "documents",
        memory_bytes=1 << 30,
        sink=NullSink(),
    ) as shares:
        (path,) = (tmp_path / "documents").iterdir()
        data = bytearray(path.read_bytes())
        share = next(share for share in shares.values() if share.slices[0].path == path)
        data[share.slices[0].offset + share.slices[0].size - 9] ^= 1
        path.write_bytes(data)
        with pytest.raises(IntegrityError, match="documents changed while they were packed"):
            read_slices(share.slices)


def test_a_forecast_of_a_damaged_shard_is_refused(tiny_tokens: Path, tmp_path: Path) -> None:
    tokens = copy_of(tiny_tokens, tmp_path / "tokens")
    record = read_manifest(tokens).shards()[0]
    data = bytearray((tokens / record.name).read_bytes())
    start = record.segments[1].offset
    data[start : start + 64] = b"\xfe" * 64
    (tokens / record.name).write_bytes(data)
    with pytest.raises(IntegrityError, match="the shard cannot be read"):
        forecast(tokens, contexts=(64,), config=PACK_CONFIG)
