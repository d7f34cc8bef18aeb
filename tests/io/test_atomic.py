"""Publication: complete under the final name, or not there at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from dsv3data.contracts.errors import EnvironmentFault
from dsv3data.io import atomic
from dsv3data.io.atomic import (
    atomic_folder,
    atomic_writer,
    create_atomic,
    make_folder,
    remove_partials,
    set_aside,
    start_writing,
    write_atomic,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_file_appears_at_the_end_of_the_block(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    with atomic_writer(path) as file:
        file.write(b"new")
        assert not path.exists()
        assert len(names(tmp_path)) == 1
        assert names(tmp_path)[0].startswith(".x.json.")
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["x.json"]


def test_starting_to_write_is_advice_that_may_be_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[int, int]] = []

    def refuse(file: int, start: int, size: int, advice: int) -> None:
        told.append((start, size))
        raise OSError(errno.EINVAL, "not here")

    monkeypatch.setattr(os, "posix_fadvise", refuse, raising=False)
    monkeypatch.setattr(os, "POSIX_FADV_DONTNEED", 4, raising=False)
    with atomic_writer(tmp_path / "x") as file:
        file.write(b"new")
        start_writing(file, 0, 3)
    assert told == [(0, 3)]
    assert (tmp_path / "x").read_bytes() == b"new"


def half_write(path: Path, error: BaseException) -> None:
    with atomic_writer(path) as file:
        file.write(b"half")
        raise error


def half_fill(path: Path, error: BaseException) -> None:
    with atomic_folder(path) as folder:
        (folder / "a").write_bytes(b"a")
        raise error


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt])
def test_an_exception_leaves_the_old_file(tmp_path: Path, kind: type[BaseException]) -> None:
    path = tmp_path / "x"
    write_atomic(path, b"old")
    with pytest.raises(kind):
        half_write(path, kind())
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["x"]


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, "no room to write: No space left on device"),
        (errno.EDQUOT, "no room to write: "),
        (errno.EFBIG, "no room to write: File too large"),
        (errno.EACCES, "cannot write: Permission denied"),
        (errno.EROFS, "cannot write: Read-only file system"),
        (errno.EIO, "cannot write: Input/output error"),
        (errno.ENOTDIR, "cannot write: a file is where a folder should be"),
    ],
)
def test_faults_of_the_disk_are_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, message: str
) -> None:
    path = tmp_path / "x"
    write_atomic(path, b"old")

    def fail(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(atomic.os, "fsync", fail)
    with pytest.raises(EnvironmentFault) as caught:
        write_atomic(path, b"new")
    assert message in caught.value.what
    assert caught.value.where == str(path)
    assert caught.value.exit_code == 5
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["x"]


def test_free_bytes_are_named_where_there_is_no_room(tmp_path: Path) -> None:
    with (
        pytest.raises(EnvironmentFault, match=r"\([\d,]+ bytes free on that disk\)"),
        atomic.environment_faults(tmp_path / "not" / "yet" / "there"),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("name", ["absent/x", "file/x"])
def test_a_folder_that_is_none_is_an_environment_fault(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(EnvironmentFault, match="cannot write") as caught:
        write_atomic(tmp_path / name, b"")
    assert "absent" in caught.value.where or "file" in caught.value.where
    assert ".partial" not in caught.value.where


def test_making_a_folder_below_a_file_is_an_environment_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(EnvironmentFault, match="cannot write"):
        make_folder(tmp_path / "file" / "out")


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "out") as folder:
        (folder / "deep").mkdir()
        (folder / "deep" / "a").write_bytes(b"a")
        assert not (tmp_path / "out").exists()
    assert (tmp_path / "out" / "deep" / "a").read_bytes() == b"a"
    assert names(tmp_path) == ["out"]


def test_a_folder_of_a_failed_block_is_gone(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="stop"):
        half_fill(tmp_path / "out", ValueError("stop"))
    assert names(tmp_path) == []


def test_a_folder_never_replaces_one_that_holds_something(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").write_bytes(b"old")
    with pytest.raises(EnvironmentFault), atomic_folder(tmp_path / "out"):
        pass
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["old"]


def test_partials_of_killed_writers_are_removed_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / ".a.1.partial").write_bytes(b"")
    (tmp_path / ".b.2.partial").mkdir()
    (tmp_path / ".b.2.partial" / "x").write_bytes(b"")
    (tmp_path / "c.partial").write_bytes(b"")
    (tmp_path / ".lock").write_bytes(b"")
    assert remove_partials(tmp_path) == 2
    assert names(tmp_path) == [".lock", "c.partial"]


def test_work_set_aside_is_never_overwritten(tmp_path: Path) -> None:
    for content in ("first", "second"):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / content).write_bytes(b"")
        set_aside(tmp_path / "out")
    assert names(tmp_path) == ["out.1.old", "out.2.old"]
    assert names(tmp_path / "out.1.old") == ["first"]
    assert names(tmp_path / "out.2.old") == ["second"]


def test_a_name_that_is_taken_is_not_taken_again(tmp_path: Path) -> None:
    path = tmp_path / "x"
    assert create_atomic(path, b"first")
    assert not create_atomic(path, b"second")
    assert path.read_bytes() == b"first"
    assert names(tmp_path) == ["x"]
