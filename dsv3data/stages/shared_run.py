"""One run of a stage by many tasks, on any machines that see the same output folder.

    run = begin_run(out, plan, …)             one process, before all others
    do_share(run, units, rank=3, world=8)     each of the tasks, in any order, also twice
    records = gather(run, units)              one process, after all of them; then publish

Unit i belongs to task i mod `world`. What is true is in the ledger alone: a task that died, was
started again or runs twice at the same time changes no byte, since each unit's files depend on the
data only and are renamed into place when complete. A task that has done its share leaves a note
with the names of its units, so that gathering need not read all input and output once more; units
without such a note are checked by their hashes, as on one machine.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsv3data.contracts.config import config_hash
from dsv3data.contracts.errors import Dsv3DataError, EnvironmentFault
from dsv3data.contracts.progress import Sink
from dsv3data.io.atomic import make_folder, write_atomic
from dsv3data.io.ledger import WORK_FOLDER, Ledger, UnitRecord
from dsv3data.io.sealed import read_sealed, seal
from dsv3data.stages.output import join_output, open_output
from dsv3data.stages.stopping import LocalFlag, finish_units, stopped
from dsv3data.stages.units import UnitTask, complete_unit

_SHOWN = 8
_STOP_NAME = "stop.json"


@dataclass(frozen=True, kw_only=True)
class SharedRun:
    """A run that was begun. Plain data: it travels to the tasks.

    Attributes:
        token: names the run; no byte of the output knows it.
        plan_hash: `config_hash` of the plan in the ledger.
        command: what a person types to run it again.
    """

    out: Path
    token: str
    plan_hash: str
    command: str

    @property
    def folder(self) -> Path:
        """Where notes of tasks and logs lie."""
        return self.out / WORK_FOLDER / f"run-{self.token}"


def begin_run(
    out: Path, plan: Mapping[str, Any], *, command: str, fresh: bool, sink: Sink
) -> SharedRun:
    """Prepare `out` for the plan, alone, and leave it to the tasks.

    Raises:
        EnvironmentFault: another process, or a task of an earlier run, works there.
        BadConfig: the folder holds work of another plan (and not `fresh`).
    """
    run = SharedRun(
        out=out, token=secrets.token_hex(4), plan_hash=config_hash(plan), command=command
    )
    with open_output(out, plan, fresh=fresh, sink=sink):
        make_folder(run.folder)
    return run


def share_of(units: Sequence[Any], *, rank: int, world: int) -> Sequence[Any]:
    """The units of one task."""
    return units[rank::world]


def do_share(
    run: SharedRun, units: Sequence[UnitTask], *, rank: int, world: int, sink: Sink
) -> list[UnitRecord]:
    """Complete the units of task `rank` of `world`, and note that they are done.

    An error is noted too, for whoever gathers, before it is raised.

    Raises:
        Stopped: on request, by a signal (see `finish_units`) or by `ask_to_stop`, when the unit
            under way is finished.
    """
    share, stop, flag = (
        share_of(units, rank=rank, world=world),
        run.folder / _STOP_NAME,
        LocalFlag(),
    )
    with join_output(run.out, plan_hash=run.plan_hash):
        with finish_units(sink, flag), noted_errors(run, f"{rank:05d}"):
            records = [
                complete_unit(unit, sink) for unit in share if not (flag.value or stop.exists())
            ]
        if len(records) < len(share):
            raise stopped(f"the command that began the run, {run.command}")
        names = [unit.name for unit in share]
        write_atomic(run.folder / f"task-{rank:05d}.json", seal({"units": names}))
    return records


def ask_to_stop(run: SharedRun) -> None:
    """Let all tasks of the run end when the units that they have under way are finished."""
    write_atomic(run.folder / _STOP_NAME, seal({}))


def gather(run: SharedRun, units: Sequence[UnitTask]) -> list[UnitRecord]:
    """The records of all units, in their order. Call it while holding `open_output`.

    Raises:
        Dsv3DataError: what stopped the first task that an error stopped.
        EnvironmentFault: units are not done, by name.
    """
    ledger, noted = Ledger(run.out), _noted_units(run)
    records = {unit.name: _done(unit, ledger, noted=unit.name in noted) for unit in units}
    missing = [name for name, record in records.items() if record is None]
    if not missing:
        return [record for record in records.values() if record is not None]
    for _, error in errors_of(run):
        raise error
    more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
    raise EnvironmentFault(
        f"{len(missing)} of {len(units)} units are not done: {', '.join(missing[:_SHOWN])}{more}",
        where=str(run.out),
        effect="nothing was published; all finished units are kept",
        fix=f"look at the logs in {run.folder}; then run it again, which does only these units:"
        f" {run.command}",
    )


@contextmanager
def noted_errors(run: SharedRun, name: str) -> Iterator[None]:
    """Leave a note of an error that ends the block; remove the one of an earlier try."""
    note = run.folder / f"error-{name}.json"
    try:
        yield
    except Dsv3DataError as error:
        write_atomic(note, seal(_error_tree(error)))
        raise
    note.unlink(missing_ok=True)


def errors_of(run: SharedRun) -> Iterator[tuple[str, Dsv3DataError]]:
    """What stopped tasks of the run: (name of the task, the error), in the order of the names."""
    for path in sorted(run.folder.glob("error-*.json")):
        yield path.stem.removeprefix("error-"), _error_from(read_sealed(path, fix=""))


def _done(unit: UnitTask, ledger: Ledger, *, noted: bool) -> UnitRecord | None:
    entered = ledger.entered(unit.name, plan_hash=unit.plan_hash)
    if entered is None or (noted and _sizes_hold(entered, ledger.out)):
        return entered
    return ledger.finished(unit.name, plan_hash=unit.plan_hash, input_sha256=unit.input_sha256())


def _sizes_hold(record: UnitRecord, out: Path) -> bool:
    paths = [(out / file.name, file.size) for file in record.files]
    return all(path.is_file() and path.stat().st_size == size for path, size in paths)


def _noted_units(run: SharedRun) -> set[str]:
    notes = run.folder.glob("task-*.json")
    return {name for note in notes for name in read_sealed(note, fix="")["units"]}


def _error_tree(error: Dsv3DataError) -> dict[str, str]:
    return {
        "kind": type(error).__name__,
        "what": error.what,
        "where": error.where,
        "effect": error.effect,
        "fix": error.fix,
    }


def _error_from(tree: Mapping[str, str]) -> Dsv3DataError:
    kinds = {kind.__name__: kind for kind in Dsv3DataError.__subclasses__()}
    kind = kinds.get(tree["kind"], Dsv3DataError)
    return kind(tree["what"], where=tree["where"], effect=tree["effect"], fix=tree["fix"])
