"""Doing work units: once each, by any number of processes, again only where a hash no longer holds.

A stage turns its input into tasks that depend on the data alone. Each task's result is entered in
the ledger of the output folder, so that a run that was killed continues where it stopped, and a
finished one that is run again only checks hashes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

from dsv3data.contracts.errors import EnvironmentFault
from dsv3data.contracts.manifest import FileRecord
from dsv3data.contracts.progress import Sink
from dsv3data.io.failpoints import failpoint
from dsv3data.io.ledger import Ledger, UnitRecord
from dsv3data.stages.processes import WorkerDied, map_in_processes, shared_flag
from dsv3data.stages.stopping import Flag, LocalFlag, finish_units, stop_on_signals


class UnitTask(Protocol):
    """A unit of a stage. Instances are plain data: they travel to worker processes."""

    @property
    def name(self) -> str:
        """Names the unit in the ledger."""

    @property
    def size(self) -> int:
        """Work in the unit of the stage's progress phase."""

    @property
    def out(self) -> Path:
        """The output folder."""

    @property
    def plan_hash(self) -> str:
        """Hash of everything but the input bytes that shapes the result."""

    def input_sha256(self) -> str:
        """Hash of the bytes that the unit reads."""

    def run(self, sink: Sink) -> tuple[list[FileRecord], Mapping[str, Any]]:
        """Publish the unit's files below `out`; their records and the unit's counts."""


@runtime_checkable
class HashingTask(UnitTask, Protocol):
    """A unit that hashes its input while it reads it, so that it reads it once."""

    def run_hashing(self, sink: Sink) -> tuple[list[FileRecord], Mapping[str, Any], str]:
        """`run`, and what `input_sha256` gives for the bytes that were read."""


@runtime_checkable
class WarmTask(UnitTask, Protocol):
    """A unit with much to load, which is the same for all units of a run."""

    def warm_up(self) -> Sequence[Callable[[], None]]:
        """The calls by which the process that forks the workers loads it: see
        `map_in_processes`."""


Task = TypeVar("Task", bound=UnitTask)


def run_units(tasks: Sequence[Task], *, workers: int, sink: Sink) -> list[UnitRecord]:
    """Complete all tasks; their records in the order of the tasks.

    On SIGINT or SIGTERM the units under way are finished; a second one drops them, and they leave
    nothing under a final name. What is finished is in the ledger.

    Raises:
        Stopped: on a signal.
        EnvironmentFault: a worker process died.
    """
    at_once = min(workers, len(tasks))
    flag: Flag = shared_flag() if at_once > 1 else LocalFlag()
    with stop_on_signals(), finish_units(sink, flag):
        if at_once > 1:
            return _run_in_processes(tasks, at_once, sink, flag)
        return [complete_unit(task, sink) for task in tasks if not flag.value]


def complete_unit(task: UnitTask, sink: Sink) -> UnitRecord:
    """Do one unit, or find it done: the record of either."""
    ledger = Ledger(task.out)
    record = _finished(task, ledger)
    if record is not None:
        sink.advance(task.size)
        return record
    if isinstance(task, HashingTask):
        files, counts, input_sha256 = task.run_hashing(sink)
    else:
        input_sha256 = task.input_sha256()
        files, counts = task.run(sink)
    failpoint("unit.before_record")
    record = UnitRecord(
        plan_hash=task.plan_hash, input_sha256=input_sha256, files=tuple(files), counts=counts
    )
    ledger.record(task.name, record)
    failpoint("unit.after_record")
    return record


def _finished(task: UnitTask, ledger: Ledger) -> UnitRecord | None:
    """The ledger's record if it holds. The input is read only if there is one."""
    if ledger.entered(task.name, plan_hash=task.plan_hash) is None:
        return None
    input_sha256 = task.input_sha256()
    return ledger.finished(task.name, plan_hash=task.plan_hash, input_sha256=input_sha256)


def _run_in_processes(
    tasks: Sequence[Task], workers: int, sink: Sink, flag: Flag
) -> list[UnitRecord]:
    """The records of all tasks, or of those that were begun before the flag was set.

    The largest are begun first, so that no worker waits long for the last one of another.
    """
    order = sorted(range(len(tasks)), key=lambda number: -tasks[number].size)
    ordered = [tasks[number] for number in order]
    try:
        records = map_in_processes(
            complete_unit,
            ordered,
            workers=workers,
            prepare=_warm_up(ordered),
            sink=sink,
            flag=flag,
        )
    except WorkerDied as error:
        names = ", ".join(ordered[number].name for number in error.left)
        raise EnvironmentFault(
            "a worker process died",
            where=f"{tasks[0].out}" + (f", in one of the units {names}" if names else ""),
            effect="nothing unfinished has a final name; all finished units are kept",
            fix="look for the out-of-memory killer, use fewer --workers, run the command again",
        ) from error
    in_place = sorted(zip(order, records, strict=True), key=lambda pair: pair[0])
    return [record for _, record in in_place if record is not None]


def _warm_up(tasks: Sequence[UnitTask]) -> Sequence[Callable[[], None]]:
    """How to load what the first unit needs that is not done; nothing where all are."""
    for task in tasks:
        if not isinstance(task, WarmTask):
            break
        if Ledger(task.out).entered(task.name, plan_hash=task.plan_hash) is None:
            return task.warm_up()
    return ()
