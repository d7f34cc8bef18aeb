"""Ray: one Ray task per task of the run.

datatrove's `RayPipelineExecutor` does each rank, but not its own loop over them: that starts an
actor per rank and in it a process pool, which waits for ever when its process is killed. As plain
Ray tasks, Ray sees the death and tries again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import ray
from datatrove.executor import RayPipelineExecutor
from ray.exceptions import RayError

from dsv3data.contracts.errors import BadConfig, EnvironmentFault
from dsv3data.contracts.progress import Sink
from dsv3data.io.lock import wait_until_free
from dsv3data.stages.shared_run import SharedRun, ask_to_stop
from dsv3data.stages.stage import Stage
from dsv3data.stages.stopping import Flag, LocalFlag, finish_units, stop_on_signals, stopped
from dsv3data_pipelines.executors.steps import DoShare

_OPTIONS = ("num_cpus", "num_gpus", "memory", "max_retries")
_LOOK_SECONDS = 0.5
_END_SECONDS = 60.0


def run_tasks(
    stage: Stage,
    run: SharedRun,
    *,
    tasks: int,
    at_once: int | None,
    options: Mapping[str, str],
    look: Callable[[], None],
    sink: Sink,
) -> None:
    """Do all tasks on the Ray cluster of RAY_ADDRESS, the one of this machine, or a new local one.

    Comes back at the first task that fails: what is missing, and why, is for `gather` to say.

    Args:
        at_once: most tasks that run at the same time.
        options: of Ray tasks: `num_cpus`, `num_gpus`, `memory` (bytes), `max_retries`.
        look: called now and then.

    Raises:
        BadConfig: an option that is none of these.
        EnvironmentFault: Ray cannot be started or reached.
        Stopped: on SIGINT or SIGTERM, once the tasks have finished the units under way.
    """
    numbers = _numbers(options)
    executor = RayPipelineExecutor(
        [DoShare(run, stage.units)],
        tasks=tasks,
        logging_dir=str(run.folder / "units"),
        skip_completed=False,
    )
    ours, flag = not ray.is_initialized(), LocalFlag()
    with stop_on_signals():
        if ours:
            _connect()
        try:
            with stop_on_signals(), finish_units(sink, flag):  # Ray has put its own handler there
                _run_all(executor, run, tasks, at_once or tasks, numbers, look, flag)
                wait_until_free(run.out, seconds=_END_SECONDS)  # cancelled tasks take a moment
        finally:
            if ours:
                ray.shutdown()


def _connect() -> None:
    try:
        ray.init(log_to_driver=False, logging_level=logging.ERROR)
    except SystemExit as error:  # Ray's handler of SIGTERM
        raise stopped("SIGTERM") from error
    except Exception as error:  # Ray raises plain ones here
        raise EnvironmentFault(
            f"Ray does not start: {error}",
            where="--executor ray",
            effect="no unit was started",
            fix="check RAY_ADDRESS and the cluster; on a busy machine try again",
        ) from error


def _run_all(
    executor: Any,
    run: SharedRun,
    tasks: int,
    at_once: int,
    options: Mapping[str, Any],
    look: Callable[[], None],
    flag: Flag,
) -> None:
    remote = ray.remote(_run_rank).options(**options)
    shared = ray.put(executor)
    waiting = list(range(tasks))
    running: list[Any] = []
    stopping = False
    while waiting or running:
        while waiting and len(running) < at_once:
            running.append(remote.remote(shared, waiting.pop(0)))
        ended, running = ray.wait(running, timeout=_LOOK_SECONDS)
        look()
        if flag.value and not stopping:
            stopping = True
            waiting.clear()
            ask_to_stop(run)
        try:
            ray.get(ended)
        except RayError:
            if stopping:
                continue  # it has stopped
            for task in running:
                ray.cancel(task, force=True)
            return


def _run_rank(executor: Any, rank: int) -> None:
    executor._run_for_rank(rank)


def _numbers(options: Mapping[str, str]) -> dict[str, Any]:
    numbers: dict[str, Any] = {}
    for name, value in options.items():
        try:
            number = float(value)
        except ValueError:
            number = -1.0
        if name not in _OPTIONS or number < 0:
            raise BadConfig(
                f"{name!r} is no option of Ray tasks with a number",
                where=f"--submit {name}={value}",
                effect="nothing was started",
                fix=f"give one of {', '.join(_OPTIONS)}, as in --submit memory=4e9",
            )
        numbers[name] = int(number) if number == int(number) else number
    return numbers
