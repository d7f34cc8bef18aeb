"""One writer per output folder, or the tasks of one run.

The lock is the kernel's (`flock`), so it dies with its holder: a stale lock of a killed process
needs no guess about pids. The file's text only tells a second process who is in the way.

Correctness does not rest on it: where a file system keeps such locks per machine, two processes on
two machines write the same bytes under names of their own and rename them; a lock saves their work
and tells the user.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from pathlib import Path
from types import TracebackType

from dsv3data.contracts.errors import EnvironmentFault
from dsv3data.io.atomic import environment_faults, make_folder

LOCK_NAME = ".lock"
_LOOK_SECONDS = 0.05


class OutputLock:
    """Context manager that holds an output folder for this process, creating it if needed.

    Raises:
        EnvironmentFault: another live process holds it (named by pid, host and since when), or the
            file system has no locks.
    """

    _mode = fcntl.LOCK_EX

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOCK_NAME
        self._descriptor = -1

    def __enter__(self) -> OutputLock:
        make_folder(self.path.parent)
        with environment_faults(self.path):
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._descriptor, self._mode | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = _describe(self.path)
            os.close(self._descriptor)
            raise EnvironmentFault(
                f"the output folder is in use by {holder}",
                where=str(self.path.parent),
                effect="nothing was started; the other process is undisturbed",
                fix="wait for it to end, or give another --out",
            ) from error
        except OSError as error:
            os.close(self._descriptor)
            raise EnvironmentFault(
                f"the file system of the output folder has no locks (flock): {error.strerror}",
                where=str(self.path),
                effect="nothing was started",
                fix="mount it with locks (Lustre: -o flock; NFS: without nolock), or another --out",
            ) from error
        try:
            with environment_faults(self.path):
                os.ftruncate(self._descriptor, 0)
                os.pwrite(self._descriptor, _self_description().encode(), 0)
        except EnvironmentFault:  # a full disk: `__exit__` will not run
            os.close(self._descriptor)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._descriptor)


class SharedOutputLock(OutputLock):
    """Held by every task of a run that many processes do: they admit each other, and no one else.

    The lock file names the task that came last.
    """

    _mode = fcntl.LOCK_SH


def wait_until_free(folder: Path, *, seconds: float) -> None:
    """Return when nobody holds an output folder any more, at the latest after so many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            with OutputLock(folder):
                return
        except EnvironmentFault:
            time.sleep(_LOOK_SECONDS)


def _self_description() -> str:
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    return json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": since})


def _describe(path: Path) -> str:
    try:
        holder = json.loads(path.read_text())
        return f"pid {holder['pid']} on {holder['host']} since {holder['since']}"
    except (OSError, ValueError, KeyError):
        return "another process"
