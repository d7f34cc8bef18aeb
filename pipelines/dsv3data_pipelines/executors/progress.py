"""How far a run of many tasks has come, from the ledger alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dsv3data.contracts.errors import BadInput
from dsv3data.contracts.progress import Sink
from dsv3data.io.atomic import write_atomic
from dsv3data.io.ledger import WORK_FOLDER
from dsv3data.io.sealed import read_sealed, seal
from dsv3data.stages.shared_run import SharedRun, errors_of
from dsv3data.stages.stage import Stage

PUBLISH = "publish"
PUBLISHED_NAME = "published.json"
_LAST_RUN = "last-run.json"
_UNIT = "unit-*.json"


@dataclass(frozen=True, kw_only=True)
class RunProgress:
    """What is known of the last run that was dealt to tasks.

    Attributes:
        units_done: units in the ledger; what an earlier run finished counts as well.
        tasks_done: tasks that have finished their share.
        failed: what stopped tasks, by rank or "publish".
        jobs: ids that the scheduler gave.
    """

    stage: str
    executor: str
    units: int
    units_done: int
    tasks: int
    tasks_done: int
    failed: Mapping[str, str]
    published: bool
    jobs: Mapping[str, str]
    logs: Path


def note_run(
    run: SharedRun, stage: Stage, *, executor: str, tasks: int, jobs: Mapping[str, str]
) -> None:
    """Remember the run as the folder's last one."""
    names = [unit.name for unit in stage.units]
    tree = {
        "token": run.token,
        "stage": stage.name,
        "executor": executor,
        "units": len(stage.units),
        "names": [min(names), max(names)] if names else ["", ""],
        "tasks": tasks,
        "jobs": dict(jobs),
    }
    write_atomic(run.out / WORK_FOLDER / _LAST_RUN, seal(tree))


def publishing_ended(run: SharedRun) -> bool:
    """Whether the last step has published, or said why not."""
    notes = (PUBLISHED_NAME, f"error-{PUBLISH}.json")
    return any((run.folder / name).exists() for name in notes)


def run_progress(out: Path) -> RunProgress:
    """Look at the last run in `out`. Reads names and small files only.

    Raises:
        BadInput: there was none.
    """
    work = out / WORK_FOLDER
    if not (work / _LAST_RUN).is_file():
        raise BadInput(
            "no run of many tasks was started for this folder",
            where=str(out),
            effect="nothing was read",
            fix="give the --out of a command with --executor slurm or ray",
        )
    last = read_sealed(work / _LAST_RUN, fix="run the command again")
    first, last_name = (f"unit-{name}" for name in last["names"])
    run = SharedRun(out=out, token=last["token"], plan_hash="", command="")
    return RunProgress(
        stage=last["stage"],
        executor=last["executor"],
        units=last["units"],
        units_done=sum(first <= path.stem <= last_name for path in work.glob(_UNIT)),
        tasks=last["tasks"],
        tasks_done=sum(1 for _ in run.folder.glob("task-*.json")),
        failed={name: error.what for name, error in errors_of(run)},
        published=(run.folder / PUBLISHED_NAME).is_file(),
        jobs=last["jobs"],
        logs=run.folder,
    )


class Follower:
    """Tells a sink about units that came into the ledger since the last look."""

    def __init__(self, stage: Stage, sink: Sink) -> None:
        self._folder = stage.out / WORK_FOLDER
        self._sizes = {f"unit-{unit.name}.json": unit.size for unit in stage.units}
        self._sink = sink
        sink.phase(stage.name, total=stage.size, unit=stage.measure)

    def look(self) -> None:
        """Cost: one listing of the ledger's folder."""
        for name in [path.name for path in self._folder.glob(_UNIT) if path.name in self._sizes]:
            self._sink.advance(self._sizes.pop(name), units=1)
