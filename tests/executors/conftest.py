"""A corpus of a megabyte, and what one machine makes of it."""

from __future__ import annotations

import json
import sysconfig
from pathlib import Path

import pytest

from dsv3data.packing.config import PackConfig
from run_cli import run_cli
from tiny_data import pack_tiny, tokenize_tiny

FILES = 3
FILE_BYTES = 350_000
UNIT_BYTES = 80_000


@pytest.fixture(scope="session")
def python_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Modules of Python's own library as JSONL, three files."""
    folder = tmp_path_factory.mktemp("python") / "corpus of python"  # paths may have spaces
    folder.mkdir()
    sources = iter(sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")))
    for number in range(FILES):
        with (folder / f"part-{number}.jsonl").open("w", encoding="utf-8") as file:
            while file.tell() < FILE_BYTES:
                text = next(sources).read_text(encoding="utf-8")
                file.write(json.dumps({"text": text, "domain": f"part{number}"}) + "\n")
    return folder


@pytest.fixture(scope="session")
def tokenize_words(python_corpus: Path, tiny_tokenizer: Path) -> list[str | Path]:
    """The command, less --out and the executor: 13 units or so."""
    return [
        "tokenize",
        python_corpus,
        "--tokenizer",
        tiny_tokenizer,
        "--unit-bytes",
        str(UNIT_BYTES),
    ]


@pytest.fixture(scope="session")
def pack_words() -> list[str | Path]:
    """Options of pack: several partitions for each of three domains."""
    return ["--context", "256", "--set", "partition_tokens=70000"]


@pytest.fixture(scope="session")
def local_tokens(python_corpus: Path, tiny_tokenizer: Path) -> Path:
    """The token set of one machine."""
    out = python_corpus.parent / "tokens"
    return tokenize_tiny(python_corpus, tiny_tokenizer, out, unit_bytes=UNIT_BYTES)


@pytest.fixture(scope="session")
def local_packed(local_tokens: Path) -> Path:
    """The packed set of one machine."""
    config = PackConfig(context=256, partition_tokens=70_000)
    return pack_tiny(local_tokens, local_tokens.parent / "packed", config=config)


@pytest.fixture(scope="session")
def count_words(python_corpus: Path) -> list[str | Path]:
    """The command that counts, less --out and the executor: shares of domains, so that the input
    is measured first."""
    sample = 'sample.weights=["part0=0.5", "part1=0.25", "part2=0.25"]'
    words = ["tokenizer", "count", python_corpus, "--memory", "1G"]
    return [*words, "--set", "unit_bytes=200000", "--set", sample]


@pytest.fixture(scope="session")
def local_counts(count_words: list[str | Path], python_corpus: Path) -> Path:
    """The counts of one machine."""
    out = python_corpus.parent / "counts"
    done = run_cli(*count_words, "--out", out, "--workers", "1")
    assert done.code == 0, done.err
    return out
