"""Slurm: an array job for the units, and a job after it that publishes.

Both are datatrove's `SlurmPipelineExecutor`. Whether work is done is for the ledger to say, so its
completion marks, which know nothing of the config, are not asked.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from datatrove.executor import SlurmPipelineExecutor

from dsv3data.contracts.errors import BadConfig, EnvironmentFault
from dsv3data.stages.shared_run import SharedRun
from dsv3data.stages.stage import Stage
from dsv3data_pipelines.executors.steps import DoShareInJob, PublishInJob

_OURS = ("array", "dependency", "error", "output", "requeue")
_OPTION = re.compile(r"[a-z][a-z-]*")


@dataclass(frozen=True, kw_only=True)
class SlurmJobs:
    """Ids of the two jobs."""

    units: str
    publish: str


class _Job(SlurmPipelineExecutor):  # type: ignore[misc]
    """datatrove's executor, for paths with spaces, any sbatch option, and exact exit codes."""

    options: Mapping[str, str]

    def get_sbatch_args(self, max_array: int = 1) -> dict[str, str]:
        given = {**super().get_sbatch_args(max_array), **self.options}
        return {
            name: shlex.quote(str(value)) if value else ""  # "": an option without a value
            for name, value in given.items()
            if value is not None
        }

    def get_launch_file_contents(self, sbatch_args: dict[str, str], run_script: str) -> str:
        # `exec`: signals reach the task itself, and its exit code is the job's.
        pipeline = self.logging_dir.resolve_paths("executor.pik")
        words = [sys.executable, "-m", "datatrove.tools.launch_pickled_pipeline", pipeline]
        script: str = super().get_launch_file_contents(sbatch_args, f"exec {shlex.join(words)}")
        return script

    def launch_merge_stats(self) -> None:
        """Not a job of its own: the manifest has the counts."""


def submit(
    stage: Stage, run: SharedRun, *, tasks: int, at_once: int | None, options: Mapping[str, str]
) -> SlurmJobs:
    """Submit both jobs and return at once.

    Args:
        at_once: most tasks that run at the same time.
        options: of sbatch, for both jobs: `time`, `partition`, `mem-per-cpu` …

    Raises:
        BadConfig: an option that sbatch cannot have, or that is ours to set.
        EnvironmentFault: there is no Slurm here, or sbatch refused.
    """
    _check(options)
    try:
        limit = _max_array_size()
        tasks_per_job = -(-tasks // limit)
        units = _job(
            stage,
            run,
            DoShareInJob(run, stage.units),
            tasks=tasks,
            options=options,
            workers=at_once or -1,
            max_array_size=limit,
            tasks_per_job=tasks_per_job,
        )
        # After any end of the tasks: what is missing is said, not shown by a job that never runs.
        last = _job(
            stage,
            run,
            PublishInJob(run, stage),
            tasks=1,
            options=options,
            depends=units,
            run_on_dependency_fail=True,
        )
        last.run()
    except FileNotFoundError as error:
        raise EnvironmentFault(
            f"there is no Slurm on this machine: {error.filename} is not found",
            where="--executor slurm",
            effect="nothing was submitted",
            fix="run this on a machine from which you submit jobs, or use another --executor",
        ) from error
    except subprocess.CalledProcessError as error:
        raise EnvironmentFault(
            f"Slurm refused: {shlex.join(map(str, error.cmd[:1]))} ended with code"
            f" {error.returncode}",
            where=str(run.folder),
            effect="no unit was started; a job that was accepted before can be cancelled",
            fix="read what it printed above; give what it misses with --submit, as in"
            " --submit partition=NAME",
        ) from error
    return SlurmJobs(units=str(units.job_id), publish=str(last.job_id))


def jobs_left(jobs: SlurmJobs) -> bool:
    """Whether the publishing job is waiting or running."""
    done = subprocess.run(
        ["squeue", "--noheader", "--format=%T", f"--jobs={jobs.publish}"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:  # Slurm forgets ended jobs; it may also be out of reach for a moment
        return "Invalid job id" not in done.stderr
    return bool(done.stdout.strip())


def _job(
    stage: Stage, run: SharedRun, step: Any, *, tasks: int, options: Mapping[str, str], **more: Any
) -> _Job:
    job = _Job(
        pipeline=[step],
        tasks=tasks,
        time="24:00:00",
        partition=None,
        qos=None,
        job_name=f"dsv3data-{stage.name}",
        logging_dir=str(run.folder / step.name.split()[0]),
        skip_completed=False,
        with_srun=False,
        **more,
    )
    job.options = options
    return job


def _max_array_size() -> int:
    """Slurm's limit of indices in an array job."""
    shown = subprocess.run(
        ["scontrol", "show", "config"], capture_output=True, text=True, check=True
    ).stdout
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", shown, flags=re.MULTILINE)
    return int(found[1]) if found else 1001


def _check(options: Mapping[str, str]) -> None:
    for name, value in options.items():
        if name in _OURS or not _OPTION.fullmatch(name) or "\n" in value:
            raise BadConfig(
                f"{name!r} is no option of sbatch that can be set here",
                where=f"--submit {name}={value.splitlines()[0] if value else ''}",
                effect="nothing was submitted",
                fix="give long options of sbatch without dashes, as in --submit time=12:00:00;"
                f" not {', '.join(_OURS)}",
            )
