"""A stage as datatrove steps. They hold plain data and open files in `run`."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, Generic, TypeVar

from datatrove.pipeline.base import PipelineStep
from datatrove.utils.logging import logger

from dsv3data.contracts.errors import Dsv3DataError
from dsv3data.contracts.manifest import Manifest
from dsv3data.contracts.meter import Meter
from dsv3data.contracts.progress import Sink
from dsv3data.contracts.terminal import printable
from dsv3data.io.atomic import write_atomic
from dsv3data.io.sealed import seal
from dsv3data.stages.output import open_output, write_run_facts
from dsv3data.stages.shared_run import SharedRun, do_share, gather, noted_errors, share_of
from dsv3data.stages.stage import Stage
from dsv3data.stages.stopping import stop_on_signals
from dsv3data.stages.units import UnitTask
from dsv3data_pipelines.executors.progress import PUBLISH, PUBLISHED_NAME

Thing = TypeVar("Thing")
_LOG_SECONDS = 30.0


class DoShare(PipelineStep):  # type: ignore[misc]
    """Completes the units of its rank. Passes on the documents that it is given, untouched."""

    type = "dsv3data"
    name = "units of a stage"

    def __init__(self, run: SharedRun, units: Sequence[UnitTask]) -> None:
        super().__init__()
        self.shared_run = run
        self.units = _Carried(units)

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        """One share of the run; counts units and output bytes in datatrove's statistics."""
        yield from data or ()
        units = self.units.value
        share = share_of(units, rank=rank, world=world_size)
        sink = LogSink(f"task {rank} of {world_size}", total=sum(unit.size for unit in share))
        with self.track_time("unit"):
            records = do_share(self.shared_run, units, rank=rank, world=world_size, sink=sink)
        for record in records:
            self.stat_update("units")
            self.stat_update("output", value=sum(file.size for file in record.files), unit="B")


class DoShareInJob(DoShare):
    """`DoShare` in a process of its own, which ends with the exit code of our command line."""

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        with _exit_codes():
            yield from super().run(data, rank, world_size)


class PublishInJob(PipelineStep):  # type: ignore[misc]
    """The last step, after all tasks, in a process of its own."""

    type = "dsv3data"
    name = PUBLISH

    def __init__(self, run: SharedRun, stage: Stage) -> None:
        super().__init__()
        self.shared_run = run
        self.stage = _Carried(stage)

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        """Publish the manifest."""
        yield from data or ()
        with _exit_codes():
            manifest = publish(self.stage.value, self.shared_run, sink=LogSink("publish"))
        logger.info(f"root {manifest.root}")


def publish(stage: Stage, run: SharedRun, *, sink: Sink) -> Manifest:
    """Gather the records of all units and publish the manifest, alone in the output folder.

    Raises:
        Dsv3DataError: units are missing, or what `stage.publish` and `stage.check` raise.
    """
    started = time.monotonic()
    with noted_errors(run, PUBLISH), open_output(stage.out, stage.plan, fresh=False, sink=sink):
        sink.phase("publish")
        records = gather(run, stage.units)
        manifest = stage.publish(records)
        seconds = time.monotonic() - started  # of publishing; the tasks' clocks are elsewhere
        tasks = sum(1 for _ in run.folder.glob("task-*.json"))
        write_run_facts(stage.out, seconds=seconds, workers=tasks, **stage.facts(records))
    write_atomic(run.folder / PUBLISHED_NAME, seal({"root": manifest.root}))
    stage.check(manifest)
    return manifest


class LogSink:
    """Writes progress to the task's log, a line now and then."""

    def __init__(self, name: str, *, total: int | None = None) -> None:
        self._name = name
        self._meter = Meter(total=total)
        self._last = time.monotonic()

    def phase(self, name: str, *, total: int | None = None, unit: str = "") -> None:
        logger.info(f"{self._name}: {name}")

    def advance(self, amount: int, **counts: int) -> None:
        self._meter.advance(amount, **counts)
        now = time.monotonic()
        if now - self._last >= _LOG_SECONDS:
            self._last = now
            logger.info(f"{self._name}: {self._meter.done:,} of {self._meter.total or 0:,} done")

    def note(self, text: str) -> None:
        logger.info(printable(text))


class _Carried(Generic[Thing]):
    """Travels with a step; datatrove's JSON of the pipeline names it and does not spell it out."""

    def __init__(self, value: Thing) -> None:
        self.value = value

    def __str__(self) -> str:
        return type(self.value).__name__


@contextlib.contextmanager
def _exit_codes() -> Iterator[None]:
    """Print an expected failure as the command line does, and end the process with its code."""
    try:
        with stop_on_signals():
            yield
    except Dsv3DataError as error:
        sys.stderr.write(printable(str(error)) + "\n")
        raise SystemExit(error.exit_code) from error
