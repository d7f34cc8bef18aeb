"""Hostile and broken sources: Parquet whose footer or pages lie, bombs, too few file handles, and a
store that goes away in the middle of a run."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import s3fs

from dsv3data.contracts.errors import EnvironmentFault
from folders import published
from local_s3 import cutting_line, endpoint, local_s3, use
from read_sets import counts_of, rejections_in, texts_in
from run_cli import run_cli
from tiny_data import tokenize_tiny, write_texts
from warm_cli import WarmCli

MIB = 1 << 20


def words(source: Path, tokenizer: Path, out: Path) -> list[str | Path]:
    return ["tokenize", source, "--tokenizer", tokenizer, "--out", out, "--workers", "1"]


def table_file(path: Path) -> Path:
    rows = {"text": [f"row {row} {'x' * (row % 50)}" for row in range(500)], "n": range(500)}
    pq.write_table(pa.table(rows), path, row_group_size=100, compression="none")
    return path


@pytest.mark.slow
def test_parquet_with_a_flipped_bit_anywhere_gives_an_answer_and_no_crash(
    tiny_tokenizer: Path, fast_tmp: Path, warm: WarmCli, rng: random.Random
) -> None:
    """The footer (sizes, counts, offsets) and the page headers (a page of a thousand million
    values) are where a bit makes a reader allocate, jump or loop."""
    path = table_file(fast_tmp / "x.parquet")
    whole = path.read_bytes()
    metadata = pq.ParquetFile(path).metadata
    columns = [metadata.row_group(group).column(0) for group in range(metadata.num_row_groups)]
    pages = [column.data_page_offset for column in columns]
    pages += [column.dictionary_page_offset for column in columns if column.has_dictionary_page]
    footer = range(len(whole) - 8 - int.from_bytes(whole[-8:-4], "little"), len(whole))
    offsets = [rng.choice(footer) for _ in range(9)]
    offsets += [rng.choice(pages) + rng.randrange(24) for _ in range(8)]
    codes = []
    for number, offset in enumerate(offsets):
        data = bytearray(whole)
        data[offset] ^= 1 << rng.randrange(8)
        path.write_bytes(bytes(data))
        run = warm.run(*words(path, tiny_tokenizer, fast_tmp / f"out-{number}"))
        assert run.code in (0, 3, 6), (offset, run)
        assert "Traceback" not in run.err
        assert run.code != 3 or "x.parquet" in run.err
        assert run.peak_bytes < 600 * MIB
        codes.append(run.code)
    assert 3 in codes


def test_a_parquet_page_that_claims_a_thousand_million_values_is_refused_in_little_memory(
    tiny_tokenizer: Path, fast_tmp: Path, warm: WarmCli
) -> None:
    path = fast_tmp / "x.parquet"
    rows = pa.table({"text": [f"row {row}" for row in range(500)]})
    pq.write_table(rows, path, row_group_size=100, compression="none", use_dictionary=False)
    whole = path.read_bytes()
    start = pq.ParquetFile(path).metadata.row_group(1).column(0).data_page_offset
    header = whole[start : start + 60]
    # Thrift: whole numbers are doubled, in groups of seven bits. Its statistics make room.
    forged = header.replace(b"\x15\xc8\x01", b"\x15\x80\xa8\xd6\xb9\x07", 1)
    forged = forged.replace(b"\x28\x07row 199", b"\x28\x04row ", 1)
    assert len(forged) == len(header)
    path.write_bytes(whole.replace(header, forged))
    run = warm.run(*words(path, tiny_tokenizer, fast_tmp / "out"))
    assert run.code == 3
    assert "the Parquet file cannot be read: " in run.err
    assert run.peak_bytes < 300 * MIB


def test_a_parquet_dictionary_bomb_is_read_in_bounded_memory(
    tiny_tokenizer: Path, fast_tmp: Path, warm: WarmCli
) -> None:
    path = fast_tmp / "x.parquet"
    bomb = pa.DictionaryArray.from_arrays(pa.array([0] * 2_000, pa.int32()), ["a" * 2 * MIB])
    texts = pa.chunked_array([bomb])
    pq.write_table(pa.table({"text": texts}), path, store_schema=False)
    assert path.stat().st_size < MIB
    limit = ["--set", f"read.max_document_bytes={MIB}"]
    run = warm.run(*words(path, tiny_tokenizer, fast_tmp / "out"), *limit)
    assert run.code == 6, run.err
    assert run.peak_bytes < 500 * MIB
    assert {item["reason"] for item in rejections_in(fast_tmp / "out")} == {"too-large"}
    assert counts_of(fast_tmp / "out")["rejected"] == 2_000


def test_a_csv_bomb_is_rejected_in_bounded_memory(
    tiny_tokenizer: Path, fast_tmp: Path, warm: WarmCli
) -> None:
    path, out = fast_tmp / "x.csv.gz", fast_tmp / "out"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(b'text,n\nbefore,1\n"')
        file.write(b'a"",\n' * (4 * MIB // 5))
        for _ in range(200):
            file.write(b"a" * MIB)
        file.write(b'",2\nafter,3\n')
    run = warm.run(*words(path, tiny_tokenizer, out), "--set", f"read.max_document_bytes={MIB}")
    assert run.code == 6, run.err
    assert run.peak_bytes < 300 * MIB
    assert texts_in(out) == ["before", "after"]
    (rejection,) = rejections_in(out)
    assert (rejection["reason"], rejection["line"], rejection["position"]) == ("too-large", 3, 1)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_few_file_handles_are_enough(tiny_tokenizer: Path, fast_tmp: Path, workers: str) -> None:
    (fast_tmp / "in").mkdir()
    for number in range(300):
        write_texts(fast_tmp / "in" / f"{number:03d}.jsonl", [f"text {number}"])
    command = ["tokenize", fast_tmp / "in", "--tokenizer", tiny_tokenizer, "--unit-bytes", "2048"]
    done = run_cli(*command, "--out", fast_tmp / "out", "--workers", workers, open_files=40)
    assert done.code == 0, done.err
    assert len(texts_in(fast_tmp / "out")) == 300


def test_a_connection_that_keeps_breaking_is_named_and_the_run_continues(
    tiny_corpus: Path, tiny_tokenizer: Path, fast_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tokenize_tiny(tiny_corpus, tiny_tokenizer, fast_tmp / "here")
    out = fast_tmp / "out"
    monkeypatch.setattr("dsv3data.io.sources.remote_place._RETRY_SECONDS", (0.01,))
    with local_s3() as server:
        url = server.upload(tiny_corpus, "bucket", "in")
        with cutting_line(server.port, after_bytes=60_000, times=1_000) as port:
            use(monkeypatch, {**server.env, **endpoint(port)})
            monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
            with pytest.raises(EnvironmentFault, match="does not answer as it should") as caught:
                tokenize_tiny(url, tiny_tokenizer, out, unit_bytes=100 << 10)
        assert caught.value.where.startswith(url)
        assert not (out / "manifest.json").exists()
        use(monkeypatch, server.env)
        tokenize_tiny(url, tiny_tokenizer, out, unit_bytes=100 << 10)
    whole = tokenize_tiny(tiny_corpus, tiny_tokenizer, fast_tmp / "whole", unit_bytes=100 << 10)
    assert published(out) == published(whole)
    assert counts_of(out) == counts_of(here)


def test_the_command_stops_when_the_reference_disagrees_and_says_what_to_do(
    tiny_corpus: Path, tiny_tokenizer: Path, fast_tmp: Path
) -> None:
    """An engine that is right on the probe and wrong on a document: exit 4, also from a worker."""
    (fast_tmp / "path").mkdir()
    (fast_tmp / "path" / "sitecustomize.py").write_text(_WRONG_ENGINE)
    command = ["tokenize", tiny_corpus, "--tokenizer", tiny_tokenizer, "--out", fast_tmp / "out"]
    options = ["--unit-bytes", "32768", "--workers", "2", "--check-rate", "1"]
    fast = ["--engine", "fastokens"]  # whichever is faster just now
    run = run_cli(*command, *options, *fast, env={"PYTHONPATH": str(fast_tmp / "path")})
    assert run.code == 4, run.err
    assert "gives other ids than the reference: token " in run.err
    assert "where: code.jsonl at " in run.err
    assert "fix: run the command again with --engine huggingface --fresh" in run.err
    assert not (fast_tmp / "out" / "manifest.json").exists()
    again = run_cli(*command, *options[:4], "--engine", "huggingface", "--fresh", "--json")
    assert again.code == 0, again.err
    documents = sum(len(path.read_bytes().splitlines()) for path in tiny_corpus.iterdir())
    assert json.loads(again.out)["documents"] == documents


_WRONG_ENGINE = """
import sys
import types

import fastokens


class Tokenizer:
    def __init__(self, inner):
        self.inner = inner

    @staticmethod
    def from_json_str(text):
        return Tokenizer(fastokens.Tokenizer.from_json_str(text))

    def encode_batch_flat(self, texts):
        return self.inner.encode_batch_flat([text.replace("def ", "fed ") for text in texts])


module = types.ModuleType("fastokens")
module.Tokenizer = Tokenizer
sys.modules["fastokens"] = module
"""
