"""The frame around every stage: lock, plan, left-overs, and the manifest as the last act."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dsv3data.contracts.manifest import Manifest
from dsv3data.contracts.progress import Sink
from dsv3data.io.atomic import remove_partials, set_aside
from dsv3data.io.failpoints import failpoint
from dsv3data.io.ledger import Ledger
from dsv3data.io.lock import OutputLock
from dsv3data.io.manifest_file import write_manifest


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


def finish_output(out: Path, manifest: Manifest, *, pattern: str) -> None:
    """Remove shards of earlier attempts that the manifest does not list; publish the manifest."""
    listed = {record.name for record in manifest.files}
    for path in out.glob(pattern):
        if path.name not in listed:
            path.unlink()
    failpoint("output.before_manifest")
    write_manifest(out, manifest)
