"""The counting stage: the same counts for any units, workers and memory; usable and provable."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from dsv3data.audit.verify import verify
from dsv3data.contracts.errors import BadConfig, BadInput, IntegrityError
from dsv3data.contracts.manifest import WORD_COUNTS
from dsv3data.contracts.progress import NullSink
from dsv3data.io.manifest_file import describe_file, read_manifest, write_manifest
from dsv3data.io.sources import Document, ReadOptions, discover, plan_units, read_unit
from dsv3data_tokenizer import count as count_module
from dsv3data_tokenizer.config import TokenizerTrainConfig
from dsv3data_tokenizer.count import (
    COUNTS_NAME,
    SAMPLE_NAME,
    CountConfig,
    CountResult,
    count_corpus,
)
from dsv3data_tokenizer.forecast import forecast
from dsv3data_tokenizer.pretokenizer import deepseek_v3_pre_tokenizer
from dsv3data_tokenizer.train import train_tokenizer
from dsv3data_tokenizer.word_counts import read_counts, write_counts
from folders import copy_of, flip_bit, published
from run_cli import run_cli


def count(inputs: Path, out: Path, **options: Any) -> CountResult:
    config = CountConfig(unit_bytes=options.pop("unit_bytes", 16 << 10))
    return count_corpus([inputs], out=out, config=config, sink=NullSink(), **options)


@pytest.fixture(scope="module")
def counted(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("counted") / "counts"
    count(tiny_corpus, out)
    return out


def texts_of(folder: Path) -> list[str]:
    options = ReadOptions()
    files, _ = discover([folder], text_files=options.text_files)
    return [
        item.data.decode()
        for unit in plan_units(files, unit_bytes=1 << 30)
        for item in read_unit(unit, options)
        if isinstance(item, Document)
    ]


def test_counts_are_those_of_the_reference_pre_tokenizer(tiny_corpus: Path, counted: Path) -> None:
    pre_tokenizer = deepseek_v3_pre_tokenizer()
    expected = Counter(
        text[start:stop].encode()
        for text in texts_of(tiny_corpus)
        for _, (start, stop) in pre_tokenizer.pre_tokenize_str(text)
    )
    table = read_counts(counted / COUNTS_NAME)
    assert dict(zip(*(table[name].to_pylist() for name in ("word", "count")), strict=True)) == (
        expected
    )


@pytest.mark.parametrize("options", [{"workers": 2}, {"unit_bytes": 1 << 20}, {"memory_bytes": 1}])
def test_the_same_file_for_other_workers_units_and_memory(
    options: dict[str, Any],
    tiny_corpus: Path,
    counted: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if "memory_bytes" in options:
        monkeypatch.setattr(count_module, "_LEAST_LIMIT_BYTES", 1)  # every batch is a run
    count(tiny_corpus, tmp_path / "out", **options)
    again = (tmp_path / "out" / COUNTS_NAME).read_bytes()
    assert again == (counted / COUNTS_NAME).read_bytes()
    assert not [*(tmp_path / "out" / ".work").glob("runs-*")]


def test_again_does_nothing_and_a_damaged_file_is_made_anew(
    tiny_corpus: Path, counted: Path, tmp_path: Path
) -> None:
    folder = copy_of(counted, tmp_path / "counts")
    flip_bit(folder / COUNTS_NAME, 1000, 2)
    count(tiny_corpus, folder)
    assert published(folder) == published(counted)


def test_verify_proves_counts_and_finds_damage(counted: Path, tmp_path: Path) -> None:
    facts = verify(counted, sink=NullSink()).facts
    assert facts["words"] == read_counts(counted / COUNTS_NAME).num_rows
    folder = copy_of(counted, tmp_path / "counts")
    flip_bit(folder / COUNTS_NAME, 2000, 2)
    with pytest.raises(IntegrityError, match=r"SHA-256 differs"):
        verify(folder, sink=NullSink())


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"word": [b"b", b"a"], "count": [1, 1]}, "the words are not in order"),
        ({"word": [b"a", b"a"], "count": [1, 1]}, "the words are not in order"),
        ({"word": [b"a", b"b"], "count": [1, 0]}, "a count is below 1"),
        ({"word": [b"a"], "count": [1]}, "words is 1 in the data"),
    ],
)
def test_verify_refuses_forged_counts(
    rows: dict[str, list[Any]], message: str, counted: Path, tmp_path: Path
) -> None:
    folder = copy_of(counted, tmp_path / "counts")
    manifest = read_manifest(folder, expect=(WORD_COUNTS,))
    schema = read_counts(folder / COUNTS_NAME).schema
    write_counts(folder / COUNTS_NAME, [pa.record_batch(rows, schema=schema)])
    files = tuple(describe_file(folder, name) for name in (COUNTS_NAME, SAMPLE_NAME))
    changes = {"files": files, "counts": {"words": 2}}
    write_manifest(folder, type(manifest)(**{**manifest.__dict__, **changes}))
    with pytest.raises(IntegrityError, match=message):
        verify(folder, sink=NullSink())


def test_verify_refuses_words_out_of_order_over_batches(counted: Path, tmp_path: Path) -> None:
    folder = copy_of(counted, tmp_path / "counts")
    manifest = read_manifest(folder, expect=(WORD_COUNTS,))
    schema = read_counts(folder / COUNTS_NAME).schema
    parts = [{"word": [word], "count": [1]} for word in (b"b", b"a")]
    write_counts(folder / COUNTS_NAME, [pa.record_batch(part, schema=schema) for part in parts])
    files = tuple(describe_file(folder, name) for name in (COUNTS_NAME, SAMPLE_NAME))
    changes = {"files": files, "counts": {"words": 2}}
    write_manifest(folder, type(manifest)(**{**manifest.__dict__, **changes}))
    with pytest.raises(IntegrityError, match="the words are not in order"):
        verify(folder, sink=NullSink())


def train(inputs: list[Path], out: Path, **options: Any) -> bytes:
    config = TokenizerTrainConfig(vocab_size=options.pop("vocab_size", 600))
    train_tokenizer(inputs, out=out, config=config, sink=NullSink(), **options)
    return (out / "tokenizer.json").read_bytes()


def test_counts_serve_several_vocabularies_and_add_up(
    tiny_corpus: Path, counted: Path, tmp_path: Path
) -> None:
    direct = train([tiny_corpus], tmp_path / "direct")
    assert train([counted], tmp_path / "from-counts", from_counts=True) == direct
    parts = []
    for path in sorted(tiny_corpus.iterdir()):
        count(path, tmp_path / f"counts-{path.stem}")
        parts.append(tmp_path / f"counts-{path.stem}")
    assert len(parts) > 1
    assert train(parts, tmp_path / "from-parts", from_counts=True) == direct
    larger = train([counted], tmp_path / "larger", from_counts=True, vocab_size=700)
    assert larger == train([tiny_corpus], tmp_path / "larger-direct", vocab_size=700)


def test_damaged_counts_are_not_trained_on(counted: Path, tmp_path: Path) -> None:
    folder = copy_of(counted, tmp_path / "counts")
    flip_bit(folder / COUNTS_NAME, 3000, 2)
    with pytest.raises(IntegrityError, match=r"SHA-256 differs"):
        train([folder], tmp_path / "out", from_counts=True)


def test_no_usable_document_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"body": "x"}\n')
    with pytest.raises(BadInput, match="the input has no usable document: all 1 records were"):
        count(tmp_path / "in.jsonl", tmp_path / "out")


def test_too_small_a_unit_is_refused() -> None:
    with pytest.raises(BadConfig, match="unit_bytes must be at least 1024 bytes, not 10"):
        TokenizerTrainConfig(unit_bytes=10)


def test_sql_reads_the_counts(counted: Path) -> None:
    words = read_counts(counted / COUNTS_NAME)  # found by its name in the query
    total = duckdb.sql('select sum("count"), count(*) from words').fetchall()[0]
    assert total == (sum(words["count"].to_pylist()), words.num_rows)


def test_the_forecast_is_near(tiny_corpus: Path, counted: Path) -> None:
    facts = forecast([tiny_corpus], TokenizerTrainConfig(), workers=1, sink=NullSink())
    words = read_counts(counted / COUNTS_NAME).num_rows
    assert words <= facts["unique_words_estimate"] < 1.5 * words
    assert facts["files"] == len([*tiny_corpus.iterdir()])


def test_the_commands(tiny_corpus: Path, tmp_path: Path) -> None:
    counted = run_cli("tokenizer", "count", tiny_corpus, "--out", tmp_path / "counts", "--json")
    assert counted.code == 0, counted.err
    assert counted.json["words"] > 1000
    trained = run_cli(
        *("tokenizer", "train", tmp_path / "counts", "--counts", "--vocab-size", "600"),
        *("--out", tmp_path / "tok", "--memory", "512M", "--json"),
    )
    assert trained.code == 0, trained.err
    assert trained.json["peak_memory_bytes"] > 1 << 20
    refused = run_cli(
        "tokenizer", "count", tiny_corpus, "--out", tmp_path / "x", "--memory", "huge"
    )
    assert refused.code == 2
    assert "is no size; write for example 512M or 8G" in refused.err
    mixed = run_cli(
        "tokenizer", "train", tmp_path / "counts", "--counts", "--dry-run", "--out", tmp_path / "x"
    )
    assert mixed.code == 2
    assert "with --counts there is none" in mixed.err
