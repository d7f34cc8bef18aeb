"""Data that many tests read: a tiny corpus and what the pipeline makes of it, built once a session.

These folders are read only by convention: a test that damages one works on `copy_of` it.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tiny_data import pack_tiny, tokenize_tiny, train_tiny_tokenizer, write_corpus

if "PYTEST_XDIST_WORKER" in os.environ:
    # Test processes share the cores, and torch's threads spin while they wait for one another.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def tiny_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three JSONL files of three domains, about 200 KB."""
    return write_corpus(tmp_path_factory.mktemp("tiny") / "corpus")


@pytest.fixture(scope="session")
def tiny_tokenizer(tiny_corpus: Path) -> Path:
    """The folder of a tokenizer with 1,500 entries, trained on the tiny corpus."""
    return train_tiny_tokenizer(tiny_corpus, tiny_corpus.parent / "tokenizer")


@pytest.fixture(scope="session")
def tiny_tokens(tiny_corpus: Path, tiny_tokenizer: Path) -> Path:
    """The token set of the tiny corpus, in several units."""
    return tokenize_tiny(tiny_corpus, tiny_tokenizer, tiny_corpus.parent / "tokens")


@pytest.fixture(scope="session")
def tiny_packed(tiny_tokens: Path) -> Path:
    """The packed set of the tiny corpus: rows of 128 ids, half of the documents FIM."""
    return pack_tiny(tiny_tokens, tiny_tokens.parent / "packed")
