"""What the fault tests share: a warm command line, folders in memory, seeds that are printed."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tiny_data import tokenize_tiny
from warm_cli import WarmCli, warm_cli

_MEMORY = Path("/dev/shm")
_ENOUGH_BYTES = 256 << 20  # of the room there; containers have as little as 64 MiB
SEED_VARIABLE = "DSV3DATA_TEST_SEED"


@pytest.fixture(scope="session")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmCli]:
    """The command line as quickly forked processes."""
    with warm_cli(tmp_path_factory.mktemp("warm")) as cli:
        yield cli


@pytest.fixture
def fast_tmp(tmp_path: Path) -> Iterator[Path]:
    """A folder where fsync costs nothing, if there is one: SIGKILL does not tell the difference."""
    if not os.access(_MEMORY, os.W_OK) or shutil.disk_usage(_MEMORY).free < _ENOUGH_BYTES:
        yield tmp_path
        return
    folder = Path(tempfile.mkdtemp(prefix="dsv3data-", dir=_MEMORY))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    """Randomness of a seed for each test, the same in every run; DSV3DATA_TEST_SEED gives another.
    pytest shows it when the test fails."""
    seed = int(os.environ.get(SEED_VARIABLE) or zlib.crc32(request.node.name.encode()))
    print(f"{request.node.name}: {SEED_VARIABLE}={seed}")  # noqa: T201
    return random.Random(seed)


@pytest.fixture(scope="session")
def small_corpus(tiny_corpus: Path) -> Path:
    """The first twelve documents of each file of the tiny corpus: quick enough to do often."""
    folder = tiny_corpus.parent / "small-corpus"
    folder.mkdir()
    for path in sorted(tiny_corpus.iterdir()):
        with path.open("rb") as file:
            (folder / path.name).write_bytes(b"".join(itertools.islice(file, 12)))
    return folder


@pytest.fixture(scope="session")
def small_tokens(small_corpus: Path, tiny_tokenizer: Path) -> Path:
    """The token set of the small corpus, in several units."""
    return tokenize_tiny(
        small_corpus, tiny_tokenizer, small_corpus.parent / "small-tokens", unit_bytes=16 << 10
    )
