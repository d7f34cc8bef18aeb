"""Publication: nothing appears under its final name before it is complete and on disk.

Write beside, fsync, rename, fsync the folder. Measured on this design's predecessor: overwriting in
place under kill -9 left 23 of 25 files corrupt, this sequence none.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from dsv3data.contracts.errors import EnvironmentFault
from dsv3data.io.failpoints import failpoint

PARTIAL_SUFFIX = ".partial"
# Two machines may have the same pid at work on the same file.
_TOKEN = secrets.token_hex(4)


@contextmanager
def atomic_writer(path: Path) -> Iterator[BinaryIO]:
    """A binary file that becomes `path` when the block ends without an exception.

    Raises:
        EnvironmentFault: no space, no permission, read-only or failing disk; the partial file is
            removed and an earlier `path` is untouched.
    """
    partial = _partial_of(path)
    with environment_faults(path):
        try:
            with partial.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            failpoint("atomic.before_rename")
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        fsync_folder(path.parent)
        failpoint("atomic.after_rename")


def start_writing(file: BinaryIO, start: int, size: int) -> None:
    """Let the disk begin with bytes that were given to `file`, so that its fsync has less to wait
    for. Only advice: a system that does not take it loses nothing."""
    if hasattr(os, "posix_fadvise"):
        with suppress(OSError):
            os.posix_fadvise(file.fileno(), start, size, os.POSIX_FADV_DONTNEED)


def write_atomic(path: Path, data: bytes) -> None:
    """Publish `data` as `path`."""
    with atomic_writer(path) as file:
        file.write(data)


def create_atomic(path: Path, data: bytes) -> bool:
    """Publish `data` as `path` unless something has that name; whether it was published.

    Of two processes on any machines one succeeds: link(2) is atomic on network disks as well.
    """
    partial = _partial_of(path)
    with environment_faults(path):
        try:
            with partial.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            failpoint("atomic.before_rename")
            path.hardlink_to(partial)
        except FileExistsError:
            return False
        finally:
            partial.unlink(missing_ok=True)
        fsync_folder(path.parent)
        failpoint("atomic.after_rename")
    return True


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A fresh sibling folder that becomes `path` when the block ends; `path` must not exist.

    The caller's files in it are fsynced here before the rename.
    """
    partial = _partial_of(path)
    with environment_faults(path):
        try:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            yield partial
            for file in sorted(partial.rglob("*")):
                _fsync_path(file)
            fsync_folder(partial)
            failpoint("atomic_folder.before_rename")
            partial.rename(path)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        fsync_folder(path.parent)


def fsync_folder(path: Path) -> None:
    """Make renames inside a folder durable."""
    _fsync_path(path)


def make_folder(path: Path) -> None:
    """`mkdir -p` whose failure is an `EnvironmentFault`."""
    with environment_faults(path):
        path.mkdir(parents=True, exist_ok=True)


def remove_partials(folder: Path) -> int:
    """Delete what killed writers left in a folder we hold the lock of; returns how many."""
    partials = [*folder.glob(f".*{PARTIAL_SUFFIX}")]
    for path in partials:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    return len(partials)


def set_aside(path: Path) -> Path:
    """Rename a folder to the first free `NAME.N.old`, so that `--fresh` never deletes work."""
    number = 1
    while (aside := path.with_name(f"{path.name}.{number}.old")).exists():
        number += 1
    with environment_faults(path):
        path.rename(aside)
        fsync_folder(path.parent)
    return aside


@contextmanager
def environment_faults(path: Path) -> Iterator[None]:
    """Turn operating-system errors on a path that we write into `EnvironmentFault`."""
    try:
        yield
    except OSError as error:
        raise _explain(error, path) from error


def _partial_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}-{_TOKEN}{PARTIAL_SUFFIX}")


def _explain(error: OSError, path: Path) -> EnvironmentFault:
    reason = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        free = "unknown"
        with suppress(OSError):
            free = f"{shutil.disk_usage(_nearest_existing(path)).free:,}"
        return EnvironmentFault(
            f"no room to write: {reason} ({free} bytes free on that disk)",
            where=str(path),
            effect="the file was not published; everything finished before it is kept",
            fix="free space (or raise the file-size limit) and run the same command again",
        )
    named = str(error.filename or path)
    where = str(path) if named.endswith(PARTIAL_SUFFIX) else named
    if error.errno in (errno.EEXIST, errno.ENOTDIR):
        return EnvironmentFault(
            "cannot write: a file is where a folder should be",
            where=where,
            effect="nothing was published under this name",
            fix="give another --out, or move the file away",
        )
    return EnvironmentFault(
        f"cannot write: {reason}",
        where=where,
        effect="nothing was published under this name",
        fix="check that the folder exists, is writable by you and is not on a read-only disk",
    )


def _nearest_existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path


def _fsync_path(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
