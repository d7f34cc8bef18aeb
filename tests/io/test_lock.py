"""One writer per folder, also within one process; the lock ends with its holder."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from pathlib import Path

import pytest

from dsv3data.contracts.errors import EnvironmentFault
from dsv3data.io.lock import OutputLock, SharedOutputLock, wait_until_free


def test_a_second_writer_is_told_who_is_there(tmp_path: Path) -> None:
    out = tmp_path / "not" / "yet"
    with OutputLock(out):
        second = OutputLock(out)
        with pytest.raises(EnvironmentFault) as caught:
            second.__enter__()
    expected = f"the output folder is in use by pid {os.getpid()} on "
    assert caught.value.what.startswith(expected)
    assert caught.value.where == str(out)
    with OutputLock(out):
        pass


def test_a_lock_file_left_over_is_no_lock(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text('{"pid": 1, "host": "elsewhere", "since": "long ago"}')
    with OutputLock(tmp_path):
        assert str(os.getpid()) in (tmp_path / ".lock").read_text()


def test_a_file_system_without_locks_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int, mode: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(EnvironmentFault, match="has no locks") as caught:
        OutputLock(tmp_path).__enter__()
    assert "the file system of the output folder has no locks (flock)" in caught.value.what


def test_waiting_for_others_to_go(tmp_path: Path) -> None:
    other = SharedOutputLock(tmp_path)
    other.__enter__()
    wait_until_free(tmp_path, seconds=0.01)
    with pytest.raises(EnvironmentFault, match="in use by pid"):
        OutputLock(tmp_path).__enter__()
    threading.Timer(0.1, other.__exit__, (None, None, None)).start()
    wait_until_free(tmp_path, seconds=600)
    with OutputLock(tmp_path):
        pass
