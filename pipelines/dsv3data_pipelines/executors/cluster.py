"""A stage on a cluster: begin, hand the tasks over, publish or leave that to the last job."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dsv3data.contracts.errors import EnvironmentFault, Stopped
from dsv3data.contracts.manifest import Manifest
from dsv3data.contracts.progress import Sink
from dsv3data.io.manifest_file import read_manifest
from dsv3data.stages.shared_run import SharedRun, begin_run, errors_of, gather
from dsv3data.stages.stage import Stage
from dsv3data.stages.stopping import stop_on_signals
from dsv3data_pipelines.executors.progress import (
    PUBLISH,
    PUBLISHED_NAME,
    Follower,
    note_run,
    publishing_ended,
)

if TYPE_CHECKING:
    from dsv3data_pipelines.executors.slurm import SlurmJobs

_LOOK_SECONDS = 0.5
_ASK_SECONDS = 15.0  # Slurm is asked less often than the file system
_NEEDS = {"slurm": ("datatrove",), "ray": ("datatrove", "ray")}


@dataclass(frozen=True, kw_only=True)
class Submitted:
    """Jobs that go on without us."""

    jobs: Mapping[str, str]
    logs: Path


def run_on_cluster(
    stage: Stage,
    *,
    executor: Literal["slurm", "ray"],
    tasks: int,
    at_once: int | None,
    options: Mapping[str, str],
    wait: bool,
    command: str,
    fresh: bool,
    sink: Sink,
) -> Manifest | Submitted:
    """Deal the units of a stage to `tasks` tasks; the published manifest, or the jobs that lead to
    it. The bytes are those of a run on one machine.

    Args:
        at_once: most tasks that run at the same time (None: no limit of ours).
        options: of sbatch, or of Ray tasks.
        wait: stay until Slurm's jobs have ended. With Ray we always stay.
        command: what a person types to run it again.

    Raises:
        EnvironmentFault: the executor is not installed; units are missing at the end, by name.
        Dsv3DataError: whatever stopped a task, as on one machine.
    """
    _require(executor)
    from loguru import logger

    logger.disable("datatrove")  # here; the tasks have logs of their own
    run = begin_run(stage.out, stage.plan, command=command, fresh=fresh, sink=sink)
    if executor == "ray":
        return _with_ray(stage, run, tasks, at_once, options, sink)
    return _with_slurm(stage, run, tasks, at_once, options, wait, sink)


def _with_slurm(
    stage: Stage,
    run: SharedRun,
    tasks: int,
    at_once: int | None,
    options: Mapping[str, str],
    wait: bool,
    sink: Sink,
) -> Manifest | Submitted:
    from dsv3data_pipelines.executors.slurm import jobs_left, submit

    jobs = submit(stage, run, tasks=tasks, at_once=at_once, options=options)
    note_run(run, stage, executor="slurm", tasks=tasks, jobs=asdict(jobs))
    if not wait:
        return Submitted(jobs=asdict(jobs), logs=run.folder)
    _follow(stage, run, sink, jobs, jobs_left)
    return _published(stage, run)


def _with_ray(
    stage: Stage,
    run: SharedRun,
    tasks: int,
    at_once: int | None,
    options: Mapping[str, str],
    sink: Sink,
) -> Manifest:
    from dsv3data_pipelines.executors.ray import run_tasks
    from dsv3data_pipelines.executors.steps import publish

    note_run(run, stage, executor="ray", tasks=tasks, jobs={})
    look = Follower(stage, sink).look
    run_tasks(stage, run, tasks=tasks, at_once=at_once, options=options, look=look, sink=sink)
    look()
    return publish(stage, run, sink=sink)


def _follow(
    stage: Stage,
    run: SharedRun,
    sink: Sink,
    jobs: SlurmJobs,
    jobs_left: Callable[[SlurmJobs], bool],
) -> None:
    """Show progress until the job that publishes has left its note, or Slurm knows of none."""
    follower = Follower(stage, sink)
    asked = time.monotonic()
    try:
        with stop_on_signals():
            while not publishing_ended(run):
                follower.look()
                time.sleep(_LOOK_SECONDS)
                if time.monotonic() - asked >= _ASK_SECONDS:
                    if not jobs_left(jobs):
                        break
                    asked = time.monotonic()
    except Stopped as error:
        raise Stopped(
            "no longer waiting for the jobs",
            where=f"Slurm jobs {jobs.units} and {jobs.publish}",
            effect="they go on",
            fix=f"scancel {jobs.units} {jobs.publish} ends them; `dsv3data progress {stage.out}`"
            " shows how far they are",
        ) from error
    follower.look()


def _published(stage: Stage, run: SharedRun) -> Manifest:
    """The manifest that the last job published, or why it did not."""
    if not (run.folder / PUBLISHED_NAME).is_file():
        for _, error in errors_of(run):
            raise error
        gather(run, stage.units)  # says what is missing
        raise EnvironmentFault(
            "all units are done, but the job that publishes ended without doing so",
            where=str(run.folder / PUBLISH),
            effect="there is no new manifest",
            fix=f"look at its log; then run it again: {run.command}",
        )
    manifest = read_manifest(stage.out)
    stage.check(manifest)
    return manifest


def _require(executor: str) -> None:
    for name in _NEEDS[executor]:
        if importlib.util.find_spec(name) is None:
            extra = "ray" if executor == "ray" else "cluster"
            raise EnvironmentFault(
                f"--executor {executor} needs {name}, which is not installed",
                where="this Python environment",
                effect="nothing was started",
                fix=f"pip install 'dsv3data[{extra}]'",
            )
