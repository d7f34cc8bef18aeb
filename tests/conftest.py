"""Data that many tests read: a tiny corpus and what the pipeline makes of it, built once a session.
And what makes a test's result its own: the same random numbers wherever it stands, and a process
that no file of tests leaves changed.

These folders are read only by convention: a test that damages one works on `copy_of` it.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tiny_data import pack_tiny, tokenize_tiny, train_tiny_tokenizer, write_corpus

if "PYTEST_XDIST_WORKER" in os.environ:
    # Test processes share the cores, and torch's threads spin while they wait for one another.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

for _name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS", "LINES"):
    os.environ.pop(_name, None)  # what a terminal or a CI service wishes to see

# How long an example takes says something about the machine only; every run draws the same ones.
settings.register_profile(
    "same", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("same")

# Of the environment: what was there, and what our program and those beside it listen to. Libraries
# add variables of their own when they are first used.
_HEARD = ("DSV3DATA_", "PYTHONPATH", "AWS_", "SLURM_", "COLUMNS", "NO_COLOR")
_at_the_start: dict[str, object] = {}


def _process_state() -> dict[str, object]:
    """What tests of one process share, and can spoil for those after them."""
    umask = os.umask(0o022)
    os.umask(umask)
    signals = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
    return {
        "the working directory": Path.cwd(),
        "the umask": umask,
        **{f"the handler of {number.name}": signal.getsignal(number) for number in signals},
        **{f"${name}": value for name, value in os.environ.items()},
    }


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    """Whether alone, first or last: torch draws the same numbers, where a test gives no seed."""
    if not _at_the_start:
        _at_the_start.update(_process_state())
    if (torch := sys.modules.get("torch")) is not None:
        torch.manual_seed(0)
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """The last test of a file fails if the file leaves the process otherwise than it found it.
    Until then fixtures of the file may live."""
    result = yield
    if nextitem is not None and nextitem.path == item.path:
        return result
    before, now = dict(_at_the_start), _process_state()
    _at_the_start.clear()
    changed = {
        name: f"{before.get(name)} → {now.get(name)}"
        for name in (before.keys() | now.keys()) - {"$PYTEST_CURRENT_TEST"}
        if before.get(name) != now.get(name)
        and (name in before or not name.startswith("$") or name[1:].startswith(_HEARD))
    }
    assert not changed, f"{item.path.name} leaves changed: {changed}"
    return result


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
