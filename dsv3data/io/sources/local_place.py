"""Files of this machine."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NoReturn

import pyarrow as pa

from dsv3data.contracts.errors import BadInput
from dsv3data.io.sources.place import CHUNK_BYTES, Place


@dataclass(frozen=True, kw_only=True)
class LocalPlace:
    """A `Place` on a disk; `changed_ns` is the time of its last change, as the system gives it."""

    path: Path
    size: int
    changed_ns: int

    def __str__(self) -> str:
        return str(self.path)

    def chunks(self, start: int = 0, *, stop: int | None = None) -> Iterator[bytes]:
        """See `Place.chunks`."""
        try:
            file = self.path.open("rb")
        except OSError as error:
            raise self._unreadable(error) from error
        with file:
            file.seek(start)
            while chunk := self._read(file):
                yield chunk

    def arrow_file(self) -> pa.NativeFile:
        """See `Place.arrow_file`: the file mapped into memory."""
        return pa.memory_map(str(self.path))

    def arrow_file_of(self, parts: Iterable[tuple[int, bytes]]) -> pa.NativeFile:
        """See `Place.arrow_file_of`."""
        for _ in parts:
            pass
        return self.arrow_file()

    def check_unchanged(self) -> None:
        """See `Place.check_unchanged`."""
        try:
            found = self.path.stat()
        except OSError as error:
            raise self._unreadable(error) from error
        if (found.st_size, found.st_mtime_ns) != (self.size, self.changed_ns):
            raise changed(self)

    def _read(self, file: BinaryIO) -> bytes:
        try:
            return file.read(CHUNK_BYTES)
        except OSError as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: OSError) -> BadInput:
        return BadInput(
            f"the input file cannot be read: {error.strerror}",
            where=str(self.path),
            effect="its documents are missing, so nothing was published",
            fix="check that the file is there and readable, and run the same command again",
        )


def changed(place: Place) -> BadInput:
    """The error for a file that another process writes while we read it."""
    return BadInput(
        "the input file was changed while it was read",
        where=str(place),
        effect="what was read of it may be a mix of old and new; it was not published",
        fix="wait until nothing writes to the input, and run the same command again",
    )


def walk_local(root: Path) -> Iterator[tuple[str, Place]]:
    """See `place.walk`. Links are followed for a file given itself, never inside a folder."""
    if root.is_file():
        yield root.name, _found(root)
        return
    if not root.is_dir():
        raise BadInput(
            "the input is neither a file nor a folder" if root.exists() else "no such input",
            where=str(root),
            effect="nothing was started",
            fix="check the path",
        )
    for path in _entries(root):
        if stat.S_ISREG(path.lstat().st_mode):
            yield path.relative_to(root).as_posix(), _found(path)


def local_links(root: Path) -> Iterator[str]:
    """See `place.links_below`."""
    if root.is_dir():
        for path in _entries(root):
            if path.is_symlink():
                yield path.relative_to(root).as_posix()


def _entries(root: Path) -> Iterator[Path]:
    """Whatever is below a folder and not hidden, the folders that are walked into left out."""
    # `Path.rglob` passes over what it may not read.
    for folder, subfolders, names in os.walk(root, onerror=_refuse_folder):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        links = [name for name in subfolders if Path(folder, name).is_symlink()]
        yield from (Path(folder, name) for name in sorted([*names, *links]) if name[0] != ".")


def _found(path: Path) -> LocalPlace:
    facts = path.stat()
    return LocalPlace(path=path, size=facts.st_size, changed_ns=facts.st_mtime_ns)


def _refuse_folder(error: OSError) -> NoReturn:
    raise BadInput(
        f"a folder of the input cannot be read: {error.strerror}",
        where=str(error.filename),
        effect="nothing was started: its documents would be missing",
        fix="make it readable, or move it out of the input",
    ) from error
