"""One run by many tasks: who does what, twice, not at all, and what is said then."""

from __future__ import annotations

import multiprocessing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from dsv3data.contracts.errors import BadConfig, BadInput, EnvironmentFault, Stopped
from dsv3data.contracts.progress import NullSink
from dsv3data.io.lock import OutputLock, SharedOutputLock
from dsv3data.stages.output import open_output
from dsv3data.stages.shared_run import SharedRun, ask_to_stop, begin_run, do_share, gather
from fated_units import PLAN, FatedUnit, fated_units

COMMAND = "dsv3data something --out here"
Units = list[FatedUnit]


@pytest.fixture
def run(tmp_path: Path) -> SharedRun:
    return begun(tmp_path / "out")


def begun(out: Path, plan: Mapping[str, Any] = PLAN) -> SharedRun:
    return begin_run(out, plan, command=COMMAND, fresh=False, sink=NullSink())


def units_of(run: SharedRun, fates: Mapping[int, str] | None = None, **more: int) -> Units:
    return fated_units(run.out, fates or {}, **more)


def share(run: SharedRun, units: Units, rank: int, world: int) -> None:
    do_share(run, units, rank=rank, world=world, sink=NullSink())


@pytest.mark.parametrize("world", [1, 2, 3, 7, 10])
def test_all_shares_together_are_all_units_in_order(run: SharedRun, world: int) -> None:
    units = units_of(run)
    for rank in reversed(range(world)):
        share(run, units, rank, world)
    assert [record.files[0].name for record in gather(run, units)] == [u.name for u in units]


def test_units_of_tasks_that_reported_are_not_read_again(run: SharedRun) -> None:
    share(run, units_of(run), 0, 1)
    again = units_of(run, dict.fromkeys(range(7), "not read again"))
    assert len(gather(run, again)) == 7


def test_units_without_a_report_are_checked_by_their_hashes(run: SharedRun) -> None:
    units = units_of(run)
    share(run, units, 0, 1)
    (run.folder / "task-00000.json").unlink()
    assert len(gather(run, units)) == 7
    (run.out / "u3").write_bytes(b"x" * 2000)  # of the right size
    with pytest.raises(EnvironmentFault, match="1 of 7 units are not done: u3"):
        gather(run, units)


def test_a_reported_unit_whose_file_has_gone_is_missed(run: SharedRun) -> None:
    units = units_of(run)
    share(run, units, 0, 1)
    (run.out / "u5").unlink()
    with pytest.raises(EnvironmentFault, match="1 of 7 units are not done: u5"):
        gather(run, units)


def test_a_lost_task_is_named_by_its_units_and_the_command_that_does_them(run: SharedRun) -> None:
    units = units_of(run, number=20)
    share(run, units, 1, 2)
    with pytest.raises(EnvironmentFault) as caught:
        gather(run, units)
    assert caught.value.what == (
        "10 of 20 units are not done: u0, u2, u4, u6, u8, u10, u12, u14 and 2 more"
    )
    assert caught.value.effect == "nothing was published; all finished units are kept"
    assert COMMAND in caught.value.fix
    share(begun(run.out), units, 0, 2)
    assert len(gather(run, units)) == 20


def test_the_error_of_a_task_is_the_error_of_the_run(run: SharedRun) -> None:
    units = units_of(run, {2: "raise"})
    with pytest.raises(BadInput, match="this unit is bad"):
        share(run, units, 2, 3)
    share(run, units, 0, 3)
    with pytest.raises(BadInput, match="this unit is bad") as caught:
        gather(run, units)
    assert (caught.value.where, caught.value.fix) == ("u2", "mend it")
    mended = units_of(run)
    share(run, mended, 2, 3)
    with pytest.raises(EnvironmentFault, match="2 of 7 units are not done: u1, u4"):
        gather(run, mended)


def test_a_stopped_task_finishes_its_unit_and_leaves_no_error(run: SharedRun) -> None:
    with pytest.raises(Stopped, match="stopped by SIGTERM"):
        share(run, units_of(run, {4: "interrupt"}), 0, 2)
    assert [*run.folder.iterdir()] == []
    with pytest.raises(EnvironmentFault, match="4 of 7 units are not done: u1, u3, u5, u6"):
        gather(run, units_of(run))
    for rank in range(2):
        share(run, units_of(run), rank, 2)
    assert len(gather(run, units_of(run))) == 7


def test_a_run_that_was_asked_to_stop_begins_no_unit(run: SharedRun) -> None:
    ask_to_stop(run)
    with pytest.raises(Stopped, match=f"stopped by the command that began the run, {COMMAND}"):
        share(run, units_of(run), 0, 2)
    with pytest.raises(EnvironmentFault, match="7 of 7 units are not done"):
        gather(run, units_of(run))
    again = begun(run.out)
    share(again, units_of(again), 0, 1)
    assert len(gather(again, units_of(again))) == 7


def test_the_same_rank_twice_at_the_same_time_does_no_harm(run: SharedRun) -> None:
    units = units_of(run)
    context = multiprocessing.get_context("spawn")
    tasks = [context.Process(target=share, args=(run, units, 0, 1)) for _ in range(3)]
    for task in tasks:
        task.start()
    for task in tasks:
        task.join()
    assert [task.exitcode for task in tasks] == [0, 0, 0]
    assert len(gather(run, units)) == 7
    assert sorted(path.name for path in run.out.iterdir()) == [
        *(".lock", ".work"), *(f"u{index}" for index in range(7))
    ]  # fmt: skip


def test_tasks_admit_each_other_and_nobody_else(run: SharedRun) -> None:
    with SharedOutputLock(run.out), SharedOutputLock(run.out):
        with pytest.raises(EnvironmentFault, match="the output folder is in use by pid"):
            begun(run.out)
        share(run, units_of(run), 0, 1)
    with (
        OutputLock(run.out),
        pytest.raises(EnvironmentFault, match="the output folder is in use by pid"),
    ):
        share(run, units_of(run), 0, 1)


def test_a_task_of_another_plan_is_refused(run: SharedRun) -> None:
    with open_output(run.out, {"config": {"seed": 1}}, fresh=True, sink=NullSink()):
        pass
    with pytest.raises(BadConfig, match="no longer the work that this task was submitted for"):
        share(run, units_of(run), 0, 1)
    with pytest.raises(BadConfig, match="seed: 1 → 0"):
        begun(run.out)


def test_partial_files_of_live_tasks_are_left_alone(run: SharedRun) -> None:
    live = run.out / ".u0.1-00.partial"
    live.write_bytes(b"")
    share(run, units_of(run), 0, 1)
    assert live.exists()
    begun(run.out)
    assert not live.exists()
