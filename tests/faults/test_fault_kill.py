"""kill -9 at every named place and at random moments: nothing half done has a final name, and the
same command run again ends with the bytes of an undisturbed run."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

import dsv3data
import dsv3data_cli
import dsv3data_pipelines
import dsv3data_tokenizer
from dsv3data.audit.verify import verify
from dsv3data.contracts.manifest import MANIFEST_NAME
from dsv3data.contracts.progress import NullSink
from dsv3data.io.atomic import PARTIAL_SUFFIX
from dsv3data.io.failpoints import VARIABLE
from dsv3data.stages import stopping
from folders import published
from held import held_at, is_alive, is_held, let_go, wait_until, waiting_at
from random_kill import names_in, run_and_kill
from warm_cli import Finished, WarmCli

STAGES = ("tokenizer", "tokenize", "pack")
REACHED_BY = {
    "atomic.before_rename": STAGES,
    "atomic.after_rename": STAGES,
    "unit.before_record": ("tokenize", "pack"),
    "unit.after_record": ("tokenize", "pack"),
    "output.before_manifest": ("tokenize", "pack"),
    "atomic_folder.before_rename": (),  # tested on its own below
}
VISITS = (1, 2, 5, 13)
KILLS_AT_RANDOM = {"tokenizer": 6, "tokenize": 26, "pack": 26}
KILLS_PER_FOLDER = 4
# A process has done a unit, and has others before it.
IN_THE_MIDDLE = held_at("unit.after_record")

Command = Callable[[str, Path], list[str | Path]]


@dataclass(frozen=True)
class CleanRun:
    """What an undisturbed run of a stage gives, and how many names it makes."""

    files: dict[str, str]
    names: int


@pytest.fixture
def command(small_corpus: Path, small_tokens: Path, tiny_tokenizer: Path) -> Command:
    """(stage, out) → the words of a run in one process, over several units. None of them loads and
    proves the fast engine, which takes longer than all else that they do."""

    def words(stage: str, out: Path) -> list[str | Path]:
        if stage == "tokenizer":
            return ["tokenizer", "train", small_corpus, "--vocab-size", "400", "--out", out]
        if stage == "tokenize":
            rest = ["--workers", "1", "--unit-bytes", "16384", "--engine", "huggingface"]
            return ["tokenize", small_corpus, "--tokenizer", tiny_tokenizer, "--out", out, *rest]
        rest = ["--workers", "1", "--context", "128", "--fim-rate", "0"]
        rest += ["--set", "partition_tokens=8000"]
        return ["pack", small_tokens, "--out", out, *rest]

    return words


@pytest.fixture(scope="module")
def clean_runs() -> dict[str, CleanRun]:
    return {}


@pytest.fixture
def clean(
    clean_runs: dict[str, CleanRun], warm: WarmCli, command: Command, fast_tmp: Path
) -> Callable[[str], CleanRun]:
    """Stage → its undisturbed run, done once."""

    def of(stage: str) -> CleanRun:
        if stage not in clean_runs:
            out = fast_tmp / "clean"
            assert warm.run(*command(stage, out)).code == 0
            clean_runs[stage] = CleanRun(published(out), names_in(out))
        return clean_runs[stage]

    return of


def assert_nothing_half_done(out: Path, clean_run: CleanRun) -> None:
    """Whatever has a final name is byte for byte the file of a clean run."""
    left = published(out) if out.exists() else {}
    assert left.items() <= clean_run.files.items()
    if MANIFEST_NAME in left:
        assert left == clean_run.files, "a manifest beside missing files"


def assert_completed(finished: Finished, out: Path, clean_run: CleanRun) -> None:
    assert finished.code == 0, finished.err
    assert published(out) == clean_run.files
    assert not [*out.rglob(f"*{PARTIAL_SUFFIX}")]


def test_every_failpoint_of_the_code_is_known_here() -> None:
    found = set()
    for package in (dsv3data, dsv3data_cli, dsv3data_pipelines, dsv3data_tokenizer):
        for path in Path(str(package.__file__)).parent.rglob("*.py"):
            found |= set(re.findall(r'failpoint\("([^"]+)"\)', path.read_text(encoding="utf-8")))
    data_path = {name for name in found if not name.startswith("checkpoint.")}
    assert data_path == set(REACHED_BY)


@pytest.mark.parametrize(
    ("stage", "name"), [(stage, name) for name, stages in REACHED_BY.items() for stage in stages]
)
def test_killed_at_a_failpoint_then_run_again(
    stage: str,
    name: str,
    warm: WarmCli,
    command: Command,
    clean: Callable[[str], CleanRun],
    fast_tmp: Path,
) -> None:
    clean_run = clean(stage)
    killed = 0
    for visit in VISITS:
        out = fast_tmp / f"visit-{visit}"
        first = warm.run(*command(stage, out), env={VARIABLE: f"{name}@{visit}"})
        if first.code == 0:
            break  # fewer visits than that in a whole run
        assert first.was_killed, first.err
        killed += 1
        assert_nothing_half_done(out, clean_run)
        assert_completed(warm.run(*command(stage, out)), out, clean_run)
    assert killed >= 1
    assert killed >= 3 or name == "output.before_manifest"


@pytest.mark.parametrize("stage", STAGES)
def test_killed_at_random_moments_then_run_again(
    stage: str,
    warm: WarmCli,
    command: Command,
    clean: Callable[[str], CleanRun],
    fast_tmp: Path,
    rng: random.Random,
) -> None:
    clean_run = clean(stage)
    killed = folders = 0
    unfinished_seen = False
    while killed < KILLS_AT_RANDOM[stage] or not unfinished_seen:
        folders += 1
        assert folders < 100, "runs end before they can be killed"
        out = fast_tmp / f"out-{folders}"
        for _ in range(KILLS_PER_FOLDER):
            run = run_and_kill(warm, command(stage, out), out, whole=clean_run.names, rng=rng)
            assert run.was_killed or run.code == 0, run.err
            killed += run.was_killed
            assert_nothing_half_done(out, clean_run)
            unfinished_seen |= out.exists() and not (out / MANIFEST_NAME).exists()
        assert_completed(warm.run(*command(stage, out)), out, clean_run)
    verify(out, sink=NullSink())


def test_a_folder_is_not_published_before_its_last_step(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom pathlib import Path\nfrom dsv3data.io.atomic import atomic_folder\n"
        "with atomic_folder(Path(sys.argv[1])) as folder:\n    (folder / 'a').write_text('b')\n"
    )
    out = tmp_path / "folder"
    words = [sys.executable, "-c", program, str(out)]
    env = {**os.environ, VARIABLE: "atomic_folder.before_rename"}
    assert subprocess.run(words, env=env, check=False).returncode == -signal.SIGKILL
    assert not out.exists()
    assert subprocess.run(words, check=True).returncode == 0
    assert [path.name for path in out.iterdir()] == ["a"]


def test_killed_parent_takes_its_workers_along_and_the_rest_is_done_by_one_process(
    command: Command, clean: Callable[[str], CleanRun], warm: WarmCli, fast_tmp: Path
) -> None:
    out = fast_tmp / "out"
    parent = warm.start(*command("tokenize", out), "--workers", "2", env=IN_THE_MIDDLE)
    workers = _held_workers_of(parent)
    os.kill(parent, signal.SIGKILL)
    assert warm.wait(parent).was_killed
    wait_until(lambda: not any(map(is_alive, workers)))
    assert_nothing_half_done(out, clean("tokenize"))
    assert_completed(warm.run(*command("tokenize", out)), out, clean("tokenize"))


def test_a_killed_worker_ends_the_run_with_a_named_error_and_loses_nothing(
    command: Command, clean: Callable[[str], CleanRun], warm: WarmCli, fast_tmp: Path
) -> None:
    out = fast_tmp / "out"
    pid = warm.start(*command("tokenize", out), "--workers", "2", env=IN_THE_MIDDLE)
    first, second = _held_workers_of(pid)
    os.kill(first, signal.SIGKILL)
    let_go(second)
    run = warm.wait(pid)
    assert run.code == 5
    assert "a worker process died" in run.err
    assert_nothing_half_done(out, clean("tokenize"))
    assert_completed(warm.run(*command("tokenize", out)), out, clean("tokenize"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_unit_under_way_be_finished_and_the_run_continues(
    number: signal.Signals,
    command: Command,
    clean: Callable[[str], CleanRun],
    warm: WarmCli,
    fast_tmp: Path,
) -> None:
    out, at_work = fast_tmp / "out", fast_tmp / "at work"
    waiting = waiting_at("unit.before_record", 2, at_work)
    pid = warm.start(*command("pack", out), env=waiting)
    wait_until(at_work.exists)
    assert len(_units_done(out)) == 1
    os.kill(pid, number)
    wait_until(lambda: "once more drops them" in warm.told(pid))
    at_work.unlink()
    run = warm.wait(pid)
    assert run.code == 75, run.err
    assert f"{number.name}: finishing the units under way; once more drops them\n" in run.err
    assert f"stopped by {number.name}\n" in run.err
    assert len(_units_done(out)) == 2
    assert_nothing_half_done(out, clean("pack"))
    assert not (out / MANIFEST_NAME).exists()
    assert not [*out.rglob(f"*{PARTIAL_SUFFIX}")]
    assert_completed(warm.run(*command("pack", out)), out, clean("pack"))


def test_a_second_signal_drops_what_workers_have_under_way(
    command: Command, clean: Callable[[str], CleanRun], warm: WarmCli, fast_tmp: Path
) -> None:
    out = fast_tmp / "out"
    held = held_at("unit.before_record", 2)
    pid = warm.start(*command("tokenize", out), "--workers", "2", env=held)
    workers = _held_workers_of(pid)
    done = _units_done(out)
    # The workers hold still, so that the run cannot end by itself.
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: "once more drops them" in warm.told(pid))
    time.sleep(stopping.REPEAT_SECONDS)
    os.kill(pid, signal.SIGTERM)
    run = warm.wait(pid)
    assert run.code == 75, run.err
    assert "stopped by SIGTERM\n" in run.err
    wait_until(lambda: not any(map(is_alive, workers)))
    assert _units_done(out) == done
    assert_nothing_half_done(out, clean("tokenize"))
    assert_completed(warm.run(*command("tokenize", out)), out, clean("tokenize"))


def _units_done(out: Path) -> list[str]:
    return sorted(path.name for path in (out / ".work").glob("unit-*.json"))


def _held_workers_of(pid: int) -> list[int]:
    """Both worker processes, once each has done a unit and holds still."""
    wait_until(lambda: is_held(pid) or [*map(is_held, _workers_of(pid))] == [True, True])
    return _workers_of(pid)


def _workers_of(pid: int) -> list[int]:
    """The process's child loads what its workers share, and forks them."""
    return [worker for nursery in _children_of(pid) for worker in _children_of(nursery)]


def _children_of(pid: int) -> list[int]:
    return [*map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
