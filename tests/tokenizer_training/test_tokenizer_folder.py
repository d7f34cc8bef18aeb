"""The tokenizer's folder: every file is listed, proven, and belongs to the same tokenizer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dsv3data.audit.verify import verify
from dsv3data.contracts.progress import NullSink
from dsv3data.encoding.vocabulary import load_vocabulary
from dsv3data.io.manifest_file import read_manifest
from dsv3data_tokenizer.config import TokenizerTrainConfig
from dsv3data_tokenizer.debias import debias_table, parse_debias
from dsv3data_tokenizer.exports import tiktoken_ranks
from dsv3data_tokenizer.train import train_tokenizer
from folders import published
from run_cli import run_cli

FILES = {
    "README.md",
    "debias.json",
    "report.json",
    "tokenizer.json",
    "tokenizer.tiktoken",
    "tokenizer_config.json",
}


@pytest.fixture(scope="module")
def ladder(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer of 900 entries with rungs of 400 and 600 beside it."""
    out = tmp_path_factory.mktemp("ladder") / "tok"
    result = run_cli(
        *("tokenizer", "train", tiny_corpus, "--vocab-size", "900", "--ladder", "400,600"),
        *("--out", out),
    )
    assert result.code == 0, result.err
    return out


def test_the_manifest_lists_every_file_and_verify_proves_them(ladder: Path) -> None:
    for folder in (ladder, ladder.with_name("tok-400"), ladder.with_name("tok-600")):
        assert {record.name for record in read_manifest(folder).files} == FILES
        verify(folder, sink=NullSink())


def test_a_rung_is_what_training_with_its_size_gives(
    ladder: Path, tiny_corpus: Path, tmp_path: Path
) -> None:
    for size in (400, 600):
        config = TokenizerTrainConfig(vocab_size=size)
        train_tokenizer([tiny_corpus], out=tmp_path / f"{size}", config=config, sink=NullSink())
        direct = (tmp_path / f"{size}" / "tokenizer.json").read_bytes()
        assert (ladder.with_name(f"tok-{size}") / "tokenizer.json").read_bytes() == direct


def test_the_ladder_again_changes_nothing(ladder: Path, tiny_corpus: Path) -> None:
    rung = ladder.with_name("tok-400")
    before = published(rung)
    result = run_cli(
        *("tokenizer", "train", tiny_corpus, "--vocab-size", "900", "--ladder", "400"),
        *("--out", ladder, "--json"),
    )
    assert result.json["reused"] is True
    assert published(rung) == before


def test_a_rung_above_the_top_is_refused(ladder: Path, tiny_corpus: Path) -> None:
    result = run_cli(
        *("tokenizer", "train", tiny_corpus, "--vocab-size", "900", "--ladder", "1000"),
        *("--out", ladder),
    )
    assert result.code == 3
    assert "the vocabulary cannot be cut" in result.err
    assert not (ladder.with_name("tok-1000") / "manifest.json").exists()


def test_sizes_that_are_no_numbers_are_usage_errors(tiny_corpus: Path, tmp_path: Path) -> None:
    words = ("tokenizer", "train", tiny_corpus, "--out", tmp_path / "x", "--ladder", "4k")
    result = run_cli(*words)
    assert result.code == 2
    assert "'4k' is not a number, or numbers with commas" in result.err


def test_side_files_belong_to_the_tokenizer(ladder: Path) -> None:
    vocabulary = load_vocabulary(ladder)
    assert (ladder / "tokenizer.tiktoken").read_bytes() == tiktoken_ranks(vocabulary)
    table = parse_debias((ladder / "debias.json").read_bytes(), vocabulary, where="debias.json")
    assert table.id.tolist() == debias_table(vocabulary).id.tolist()
    report = json.loads((ladder / "report.json").read_text(encoding="utf-8"))
    card = (ladder / "README.md").read_text(encoding="utf-8")
    assert report["sha256"] == vocabulary.sha256
    assert vocabulary.sha256 in card
    assert "900 entries" in card
