"""Running units: order of results, failures and signals."""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dsv3data.contracts.errors import BadInput, EnvironmentFault, Stopped
from dsv3data.contracts.manifest import FileRecord
from dsv3data.contracts.progress import NullSink, Sink
from dsv3data.io.atomic import write_atomic
from dsv3data.io.manifest_file import describe_file
from dsv3data.stages import stopping, units
from dsv3data.stages.stopping import LocalFlag, finish_units
from dsv3data.stages.units import complete_unit, run_units
from fated_units import fated_units


@dataclass(frozen=True)
class Task:
    """A unit that writes its name, or ends as `fate` says."""

    name: str
    out: Path
    fate: str = ""
    size: int = 3
    plan_hash: str = "p"

    def input_sha256(self) -> str:
        return self.name

    def run(self, sink: Sink) -> tuple[list[FileRecord], Mapping[str, Any]]:
        if self.fate.startswith("interrupt"):
            signal.raise_signal(signal.SIGTERM)
        if self.fate == "interrupt twice":
            signal.raise_signal(signal.SIGINT)
        if self.fate.endswith("raise"):
            raise BadInput("this unit is bad", where=self.name)
        if self.fate == "once" and (self.out / self.name).exists():
            raise AssertionError("done twice")
        write_atomic(self.out / self.name, self.name.encode())
        sink.advance(self.size, things=1)
        return [describe_file(self.out, self.name)], {"things": 1}


class Total(NullSink):
    done = 0

    def advance(self, amount: int, **counts: int) -> None:
        self.done += amount


def test_records_come_in_the_order_of_the_tasks_and_only_once(tmp_path: Path) -> None:
    tasks = [Task(f"u{number}", tmp_path, "once") for number in range(5)]
    for _ in range(2):
        sink = Total()
        records = run_units(tasks, workers=1, sink=sink)
        assert [record.files[0].name for record in records] == [task.name for task in tasks]
        assert sink.done == 15


def test_workers_begin_with_the_largest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []

    def one_after_the_other(work: Any, tasks: Sequence[Task], **_: Any) -> list[Any]:
        begun.extend(task.name for task in tasks)
        return [work(task, NullSink()) for task in tasks]

    monkeypatch.setattr(units, "map_in_processes", one_after_the_other)
    tasks = [Task(f"u{size}", tmp_path, size=size) for size in (2, 7, 5, 7)]
    tasks[3] = Task("second", tmp_path, size=7)
    # A unit of the same name belongs to another folder, as with several contexts in one `pack`.
    tasks.append(Task("u2", tmp_path / "other", size=2, plan_hash="q"))
    records = run_units(tasks, workers=2, sink=NullSink())
    assert begun == ["u7", "second", "u5", "u2", "u2"]
    assert [record.files[0].name for record in records] == ["u2", "u7", "u5", "second", "u2"]
    assert [record.plan_hash for record in records] == [task.plan_hash for task in tasks]


def test_a_unit_whose_file_is_damaged_is_done_again(tmp_path: Path) -> None:
    tasks = [Task("a", tmp_path), Task("b", tmp_path)]
    run_units(tasks, workers=1, sink=NullSink())
    (tmp_path / "a").write_bytes(b"?")
    before = (tmp_path / "b").stat().st_ino
    run_units(tasks, workers=1, sink=NullSink())
    assert (tmp_path / "a").read_bytes() == b"a"
    assert (tmp_path / "b").stat().st_ino == before


def test_an_error_of_a_unit_is_the_error_of_the_run_and_finished_units_stay(
    tmp_path: Path,
) -> None:
    with pytest.raises(BadInput, match="this unit is bad"):
        run_units([Task("a", tmp_path), Task("b", tmp_path, "raise")], workers=1, sink=NullSink())
    assert (tmp_path / ".work" / "unit-a.json").exists()
    run_units([Task("a", tmp_path, "once")], workers=1, sink=NullSink())


class Listener(NullSink):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def interrupted(out: Path, fate: str) -> tuple[list[str], list[str]]:
    """Files that a run leaves whose second of three units meets this fate; what was told."""
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    tasks, sink = [Task("a", out), Task("b", out, fate), Task("c", out)], Listener()
    with pytest.raises(Stopped, match="stopped by SIGTERM") as caught:
        run_units(tasks, workers=1, sink=sink)
    assert caught.value.exit_code == 75
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
    return sorted(path.name for path in out.glob("**/[!.]*") if path.is_file()), sink.notes


TOLD = ["SIGTERM: finishing the units under way; once more drops them"]


def test_a_signal_lets_the_unit_under_way_be_finished_and_none_begin(tmp_path: Path) -> None:
    files = ["a", "b", "unit-a.json", "unit-b.json"]
    assert interrupted(tmp_path, "interrupt") == (files, TOLD)
    tasks = [Task(name, tmp_path, "once") for name in "abc"]
    assert len(run_units(tasks, workers=1, sink=NullSink())) == 3


def test_a_second_signal_drops_the_unit_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stopping, "REPEAT_SECONDS", 0.0)
    assert interrupted(tmp_path, "interrupt twice") == (["a", "unit-a.json"], TOLD)


def test_signals_that_come_together_are_one_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stopping, "REPEAT_SECONDS", math.inf)
    files = ["a", "b", "unit-a.json", "unit-b.json"]
    assert interrupted(tmp_path, "interrupt twice") == (files, TOLD)


def test_an_error_of_the_unit_under_way_is_not_hidden_by_a_signal(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="this unit is bad"):
        run_units([Task("a", tmp_path, "interrupt, raise")], workers=1, sink=NullSink())


def test_a_signal_after_the_unit_goes_to_who_listened_before(tmp_path: Path) -> None:
    """So a task that Slurm warns of its time limit is requeued by datatrove."""
    heard: list[int] = []

    def unit_with_a_warning() -> None:
        flag = LocalFlag()
        with finish_units(NullSink(), flag):
            signal.raise_signal(signal.SIGUSR1)
            assert (flag.value, heard) == (signal.SIGUSR1, [])

    before = signal.signal(signal.SIGUSR1, lambda number, frame: heard.append(number))
    try:
        with pytest.raises(Stopped, match="stopped by SIGUSR1"):
            unit_with_a_warning()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert heard == [signal.SIGUSR1]


def test_nothing_to_do(tmp_path: Path) -> None:
    assert run_units([], workers=4, sink=NullSink()) == []


def test_a_worker_that_dies_is_explained(tmp_path: Path) -> None:
    units = fated_units(tmp_path, {3: "die"})
    with pytest.raises(EnvironmentFault, match="a worker process died") as caught:
        run_units(units, workers=2, sink=NullSink())
    place, _, units_named = caught.value.where.partition(", in one of the units ")
    assert place == str(tmp_path)
    assert "u3" in units_named.split(", ")
    assert "use fewer --workers" in caught.value.fix
    records = run_units(fated_units(tmp_path, {}), workers=2, sink=NullSink())
    assert [record.files[0].name for record in records] == [unit.name for unit in units]


@dataclass(frozen=True)
class ReadsOnce(Task):
    """Hashes while it reads; may be asked for its hash only if there is something to compare."""

    def run_hashing(self, sink: Sink) -> tuple[list[FileRecord], Mapping[str, Any], str]:
        return (*self.run(sink), self.name)

    def input_sha256(self) -> str:
        assert (self.out / ".work" / f"unit-{self.name}.json").exists(), "read twice"
        return self.name


def test_a_unit_that_hashes_while_it_reads_is_read_once(tmp_path: Path) -> None:
    unit = ReadsOnce("u0", tmp_path, "once")
    record = complete_unit(unit, NullSink())
    assert record.input_sha256 == "u0"
    assert complete_unit(unit, NullSink()) == record
    (tmp_path / "u0").unlink()
    assert complete_unit(unit, NullSink()) == record


@dataclass(frozen=True)
class Warm(Task):
    """Says that it was asked to load what units share."""

    def warm_up(self) -> Sequence[Callable[[], None]]:
        return [self._load, pytest.fail]

    def _load(self) -> None:
        raise AssertionError(f"{self.name} is asked")


def test_what_units_share_is_loaded_for_the_first_that_is_not_done(tmp_path: Path) -> None:
    tasks = [Warm(name, tmp_path) for name in "abc"]
    complete_unit(tasks[0], NullSink())
    with pytest.raises(AssertionError, match="b is asked") as caught:
        run_units(tasks, workers=2, sink=NullSink())
    assert "in _load" in str(caught.value.__cause__)  # the other process's traceback
    for task in tasks:
        complete_unit(task, NullSink())
    assert len(run_units(tasks, workers=2, sink=NullSink())) == 3
