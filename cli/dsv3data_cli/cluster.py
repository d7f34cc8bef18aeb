"""--executor slurm|ray: running a stage as tasks on a cluster, and telling what was submitted."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dsv3data_cli.output import Output

if TYPE_CHECKING:
    from rich.console import Console

    from dsv3data.contracts.manifest import Manifest
    from dsv3data.stages.stage import Stage


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """What the options of `executor_options` ask for."""

    executor: Literal["slurm", "ray"]
    tasks: int
    at_once: int | None
    options: dict[str, str]
    wait: bool

    def run(self, stage: Stage, *, fresh: bool, output: Output) -> Manifest | None:
        """The published manifest; None if jobs were submitted, which this prints."""
        from dsv3data_pipelines.executors import Submitted, run_on_cluster

        done = run_on_cluster(
            stage,
            executor=self.executor,
            tasks=self.tasks,
            at_once=self.at_once,
            options=self.options,
            wait=self.wait,
            command=shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
            fresh=fresh,
            sink=output.sink,
        )
        if not isinstance(done, Submitted):
            return done
        tree = {
            "out": str(stage.out),
            "units": len(stage.units),
            "tasks": self.tasks,
            "jobs": dict(done.jobs),
            "logs": str(done.logs),
        }
        output.result(tree, lambda console: _render(console, tree))
        return None


def _render(console: Console, tree: dict[str, Any]) -> None:
    jobs = tree["jobs"]
    for line in (
        f"submitted: {tree['units']:,} units in {tree['tasks']:,} tasks as job {jobs['units']},"
        f" publishing as job {jobs['publish']}",
        f"progress:  dsv3data progress {shlex.quote(tree['out'])}",
        f"logs:      {tree['logs']}",
        f"cancel:    scancel {jobs['units']} {jobs['publish']}",
    ):
        console.print(line, soft_wrap=True)
