"""Machines that give little: few open files."""

from __future__ import annotations

from pathlib import Path

from folders import published
from run_cli import run_cli
from tiny_data import tokenize_tiny


def test_few_open_files_give_the_same_bytes(
    small_corpus: Path, small_tokens: Path, tiny_tokenizer: Path, tmp_path: Path
) -> None:
    words = ["tokenize", small_corpus, "--tokenizer", tiny_tokenizer, "--unit-bytes", "16384"]
    done = run_cli(*words, "--out", tmp_path / "few", "--workers", "1", open_files=32)
    assert done.code == 0, done.err
    assert published(tmp_path / "few") == published(small_tokens)


def test_too_few_are_refused_in_words_and_the_run_goes_on_later(
    small_corpus: Path, small_tokens: Path, tiny_tokenizer: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = ["tokenize", small_corpus, "--tokenizer", tiny_tokenizer, "--unit-bytes", "16384"]
    done = run_cli(*words, "--out", out, "--workers", "2", open_files=9)
    assert done.code == 5
    assert "the operating system refused: Too many open files" in done.err
    tokenize_tiny(small_corpus, tiny_tokenizer, out, unit_bytes=16 << 10)
    assert published(out) == published(small_tokens)
