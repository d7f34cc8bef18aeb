"""A corpus of some megabytes, and what one machine makes of it."""

from __future__ import annotations

import json
import sysconfig
from pathlib import Path

import pytest

from dsv3data.packing.config import PackConfig
from tiny_data import pack_tiny, tokenize_tiny

MEGABYTES = 3
UNIT_BYTES = 1 << 18


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
    return ["--context", "256", "--set", "partition_tokens=200000"]


@pytest.fixture(scope="session")
def local_tokens(python_corpus: Path, tiny_tokenizer: Path) -> Path:
    """The token set of one machine."""
    out = python_corpus.parent / "tokens"
    return tokenize_tiny(python_corpus, tiny_tokenizer, out, unit_bytes=UNIT_BYTES)


@pytest.fixture(scope="session")
def local_packed(local_tokens: Path) -> Path:
    """The packed set of one machine."""
    config = PackConfig(context=256, partition_tokens=200_000)
    return pack_tiny(local_tokens, local_tokens.parent / "packed", config=config)
