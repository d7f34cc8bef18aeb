"""A corpus of some megabytes, and what one machine makes of it."""

from __future__ import annotations

import json
import sysconfig
from pathlib import Path

import pytest

from run_cli import run_cli

MEGABYTES = 3


@pytest.fixture(scope="session")
def python_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python's own library as JSONL, three files."""
    folder = tmp_path_factory.mktemp("python") / "corpus of python"  # paths may have spaces
    folder.mkdir()
    sources = iter(sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")))
    for number in range(MEGABYTES):
        with (folder / f"part-{number}.jsonl").open("w", encoding="utf-8") as file:
            while file.tell() < 1 << 20:
                text = next(sources).read_text(encoding="utf-8")
                file.write(json.dumps({"text": text, "domain": f"part{number}"}) + "\n")
    return folder


@pytest.fixture(scope="session")
def tokenize_words(python_corpus: Path, tiny_tokenizer: Path) -> list[str | Path]:
    """The command, less --out and the executor: 13 units or so."""
    return ["tokenize", python_corpus, "--tokenizer", tiny_tokenizer, "--unit-bytes", "262144"]


@pytest.fixture(scope="session")
def pack_words() -> list[str | Path]:
    """Options of pack: several partitions for each of three domains."""
    return ["--context", "256", "--fim-rate", "0.1", "--set", "partition_tokens=100000"]


@pytest.fixture(scope="session")
def local_tokens(tokenize_words: list[str | Path], python_corpus: Path) -> Path:
    """The token set of one machine."""
    out = python_corpus.parent / "tokens"
    result = run_cli(*tokenize_words, "--out", out, "--workers", "2")
    assert result.code == 0, result.err
    return out


@pytest.fixture(scope="session")
def local_packed(local_tokens: Path, pack_words: list[str | Path]) -> Path:
    """The packed set of one machine."""
    out = local_tokens.parent / "packed"
    result = run_cli("pack", local_tokens, *pack_words, "--out", out, "--workers", "2")
    assert result.code == 0, result.err
    return out
