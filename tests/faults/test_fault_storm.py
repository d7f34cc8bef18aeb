"""The storm: many kills and many flipped bits. `make storm` runs it at its full size.

`STORM_KILLS` is the number for each of tokenize and pack, `STORM_FLIPS` for each of a tokenizer,
a token set and a packed set; the seed is printed, and `DSV3DATA_TEST_SEED` repeats a storm.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dsv3data.contracts.manifest import MANIFEST_NAME
from dsv3data.testing import assert_flips_found
from folders import copy_of, everything, published, root_of
from random_kill import names_in, run_and_kill
from warm_cli import WarmCli

KILLS = int(os.environ.get("STORM_KILLS", "4"))
FLIPS = int(os.environ.get("STORM_FLIPS", "120"))
MOST_KILLS_PER_FOLDER = 4
WORKERS = ("1", "1", "1", "1", "2")  # two workers are other processes to kill, and slow to start

pytestmark = pytest.mark.timeout(0)
Command = Callable[[Path], list[str | Path]]


@pytest.fixture(params=["tokenize", "pack"])
def command(
    request: pytest.FixtureRequest, small_corpus: Path, small_tokens: Path, tiny_tokenizer: Path
) -> Command:
    """The words of a run over several units."""

    def words(out: Path) -> list[str | Path]:
        if request.param == "tokenize":
            inputs = ["tokenize", small_corpus, "--tokenizer", tiny_tokenizer]
            return [*inputs, "--unit-bytes", "8192", "--engine", "huggingface", "--out", out]
        rest = ["--context", "128", "--fim-rate", "0.5", "--set", "partition_tokens=4000"]
        return ["pack", small_tokens, *rest, "--out", out]

    return words


def test_killed_and_run_again_until_it_finishes(
    command: Command, warm: WarmCli, fast_tmp: Path, rng: random.Random
) -> None:
    assert warm.run(*command(fast_tmp / "clean"), "--workers", "1").code == 0
    whole = names_in(fast_tmp / "clean")
    clean = published(fast_tmp / "clean")
    root = root_of(fast_tmp / "clean")
    kills = folders = runs = unfinished = 0
    while kills < KILLS:
        out = fast_tmp / f"out-{folders}"
        folders += 1
        assert runs <= 20 * KILLS, "runs end before they can be killed"
        for _ in range(rng.randint(1, MOST_KILLS_PER_FOLDER)):
            words = [*command(out), "--workers", rng.choice(WORKERS)]
            run = run_and_kill(warm, words, out, whole=whole, rng=rng)
            assert run.was_killed or run.code == 0, run.err
            runs += 1
            kills += run.was_killed
            left = published(out) if out.exists() else {}
            assert left.items() <= clean.items()
            unfinished += MANIFEST_NAME not in left
        _finish(warm, [*command(out), "--workers", "1"])
        assert root_of(out) == root
        assert published(out) == clean
    print(  # noqa: T201
        f"\n{kills} kills in {runs} runs over {folders} folders, {unfinished} times before the"
        f" manifest: every folder ended with root {root[:16]}… and the bytes of a clean run"
    )


def _finish(warm: WarmCli, words: list[str | Path]) -> None:
    """Run to the end. Workers of a killed parent may hold on for a moment."""
    end = time.monotonic() + 240
    while (run := warm.run(*words)).code == 5 and "is in use by" in run.err:
        assert time.monotonic() < end, run.err
        time.sleep(0.1)
    assert run.code == 0, run.err


@pytest.mark.parametrize("kind", ["tokenizer", "tokens", "packed"])
def test_every_flipped_bit_is_found(
    kind: str, request: pytest.FixtureRequest, fast_tmp: Path, rng: random.Random
) -> None:
    folder = copy_of(request.getfixturevalue(f"tiny_{kind}"), fast_tmp / kind)
    before = everything(folder)
    report = assert_flips_found(folder, flips=FLIPS, seed=rng.getrandbits(32))
    assert everything(folder) == before
    assert sum(report.verified.values()) == FLIPS
    assert len(report.verified) >= 6
    print(  # noqa: T201
        f"\n{FLIPS} flipped bits in {report.files} files, {kind}: all found by verify: "
        f"{report.verified}; by the reader: {report.read}"
    )
