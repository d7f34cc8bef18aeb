"""--wait, with a Slurm that does what a test says."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dsv3data.contracts.errors import BadConfig, EnvironmentFault, Stopped
from dsv3data.contracts.manifest import Manifest
from dsv3data.contracts.progress import NullSink
from dsv3data.stages.shared_run import SharedRun, begin_run, do_share
from dsv3data.stages.stage import Stage
from dsv3data_pipelines.executors import Submitted, cluster, run_on_cluster, slurm
from dsv3data_pipelines.executors.slurm import SlurmJobs
from dsv3data_pipelines.executors.steps import publish
from fated_units import fated_stage

Act = Callable[[Stage, SharedRun], object]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Act], Manifest | Submitted]:
    """Run a stage whose jobs do as `act` does."""

    def run(act: Act) -> Manifest | Submitted:
        def submit(stage: Stage, run: SharedRun, **options: Any) -> SlurmJobs:
            act(stage, run)
            return SlurmJobs(units="12", publish="13")

        monkeypatch.setattr(slurm, "submit", submit)
        return run_on_cluster(
            fated_stage(tmp_path / "out", {}),
            executor="slurm",
            tasks=1,
            at_once=None,
            options={},
            wait=True,
            command="the command",
            fresh=False,
            sink=NullSink(),
        )

    monkeypatch.setattr(slurm, "jobs_left", lambda jobs: False)
    monkeypatch.setattr(cluster, "_ASK_SECONDS", 0.0)
    return run


def all_units(stage: Stage, run: SharedRun) -> None:
    do_share(run, stage.units, rank=0, world=1, sink=NullSink())


def test_units_and_publishing_done(run: Callable[[Act], Manifest]) -> None:
    def act(stage: Stage, run: SharedRun) -> None:
        all_units(stage, run)
        publish(stage, run, sink=NullSink())

    assert len(run(act).files) == 7


def test_units_not_done(run: Callable[[Act], Manifest]) -> None:
    with pytest.raises(EnvironmentFault, match="7 of 7 units are not done"):
        run(lambda stage, run: None)


def test_units_done_but_not_published(run: Callable[[Act], Manifest]) -> None:
    with pytest.raises(EnvironmentFault, match="the job that publishes ended without") as caught:
        run(all_units)
    assert "all units are done, but the job" in caught.value.what
    assert caught.value.fix == "look at its log; then run it again: the command"


def test_who_stops_waiting_is_told_that_the_jobs_go_on(
    run: Callable[[Act], Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(jobs: SlurmJobs) -> bool:
        signal.raise_signal(signal.SIGINT)
        return True

    monkeypatch.setattr(slurm, "jobs_left", interrupt)
    with pytest.raises(Stopped, match="no longer waiting for the jobs") as caught:
        run(all_units)
    assert caught.value.where == "Slurm jobs 12 and 13"
    assert "scancel 12 13" in caught.value.fix


def test_a_slurm_out_of_reach_has_not_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = SlurmJobs(units="1", publish="2")

    def squeue(code: int, out: str, err: str) -> bool:
        class Done:
            returncode, stdout, stderr = code, out, err

        monkeypatch.setattr(slurm.subprocess, "run", lambda *words, **more: Done)
        return slurm.jobs_left(jobs)

    assert squeue(0, "PENDING\n", "")
    assert squeue(1, "", "slurm_load_jobs error: Unable to contact slurm controller")
    assert not squeue(0, "", "")
    assert not squeue(1, "", "slurm_load_jobs error: Invalid job id specified")


@pytest.mark.parametrize(
    "option", [{"output": "x"}, {"--time": "1"}, {"time": "1\nrm"}, {"Time": "1"}, {"": ""}]
)
def test_an_option_that_sbatch_cannot_have_here(tmp_path: Path, option: dict[str, str]) -> None:
    stage = fated_stage(tmp_path, {})
    run = begin_run(tmp_path, stage.plan, command="", fresh=False, sink=NullSink())
    with pytest.raises(BadConfig, match="is no option of sbatch that can be set here"):
        slurm.submit(stage, run, tasks=1, at_once=None, options=option)
