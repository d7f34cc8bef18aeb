"""The frame around every stage: lock, plan, left-overs, and the manifest as the last act."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dsv3data.contracts.manifest import RUN_NAME, Manifest
from dsv3data.contracts.progress import Sink
from dsv3data.io.atomic import remove_partials, set_aside, write_atomic
from dsv3data.io.failpoints import failpoint
from dsv3data.io.ledger import Ledger
from dsv3data.io.lock import OutputLock, SharedOutputLock
from dsv3data.io.manifest_file import write_manifest

_VERSIONS = ("dsv3data", "numpy", "pyarrow", "tokenizers")


@contextmanager
def open_output(out: Path, plan: Mapping[str, Any], *, fresh: bool, sink: Sink) -> Iterator[None]:
    """Hold `out` for the plan: alone, without left-overs of killed writers.

    Raises:
        EnvironmentFault: another process writes there, or the folder cannot be written.
        BadConfig: the folder holds work of another plan (and not `fresh`).
    """
    if fresh and out.exists():
        with OutputLock(out):  # never move a folder from under a running process
            sink.note(f"old output moved to {set_aside(out)}")
    with OutputLock(out):
        ledger = Ledger(out)
        remove_partials(out)
        remove_partials(ledger.folder)
        ledger.open_plan(plan)
        yield


@contextmanager
def join_output(out: Path, *, plan_hash: str) -> Iterator[None]:
    """Hold `out` together with the other tasks of a run that `open_output` has prepared.

    Raises:
        EnvironmentFault: a process that wants to be alone is there.
        BadConfig: the folder no longer holds work of that plan.
    """
    with SharedOutputLock(out):
        Ledger(out).check_plan(plan_hash)
        yield


def finish_output(out: Path, manifest: Manifest, *, shards: str = "") -> None:
    """Remove shards (a glob) of earlier attempts that the manifest does not list; publish it."""
    listed = {record.name for record in manifest.files}
    for path in out.glob(shards) if shards else ():
        if path.name not in listed:
            path.unlink()
    failpoint("output.before_manifest")
    write_manifest(out, manifest)


def write_run_facts(out: Path, *, seconds: float, workers: int, **more: Any) -> None:
    """OUT/run.json: when, where and with what the last run was done. No hash covers it."""
    facts = {
        "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "seconds": round(seconds, 3),
        "workers": workers,
        "host": platform.node(),
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in _VERSIONS},
        **more,
    }
    write_atomic(out / RUN_NAME, (json.dumps(facts, indent=1) + "\n").encode())
