"""Machines that give little: few open files."""

from __future__ import annotations

import subprocess
from pathlib import Path

from folders import published
from run_cli import CliResult, command_line
from tiny_data import tokenize_tiny


def limited(files: int, *words: str | Path) -> CliResult:
    """Run the command line with at most so many open files."""
    script = f'ulimit -n {files}; exec "$@"'
    done = subprocess.run(
        ["bash", "-c", script, "bash", *command_line(words)], capture_output=True, text=True
    )
    return CliResult(done.returncode, done.stdout, done.stderr)


def test_few_open_files_give_the_same_bytes(
    small_corpus: Path, small_tokens: Path, tiny_tokenizer: Path, tmp_path: Path
) -> None:
    words = ["tokenize", small_corpus, "--tokenizer", tiny_tokenizer, "--unit-bytes", "16384"]
    done = limited(32, *words, "--out", tmp_path / "few", "--workers", "1")
    assert done.code == 0, done.err
    assert published(tmp_path / "few") == published(small_tokens)


def test_too_few_are_refused_in_words_and_the_run_goes_on_later(
    small_corpus: Path, small_tokens: Path, tiny_tokenizer: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = ["tokenize", small_corpus, "--tokenizer", tiny_tokenizer, "--unit-bytes", "16384"]
    done = limited(9, *words, "--out", out, "--workers", "2")
    assert done.code == 5
    assert "the operating system refused: Too many open files" in done.err
    tokenize_tiny(small_corpus, tiny_tokenizer, out, unit_bytes=16 << 10)
    assert published(out) == published(small_tokens)
