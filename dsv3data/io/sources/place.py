"""Where the bytes of an input lie: on this machine, or behind a URL.

Readers know only `Place`. What differs between a disk and an object store is in `local_place.py`
and `remote_place.py`; the second one, and fsspec with it, is loaded when a URL is given.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

import pyarrow as pa

CHUNK_BYTES = 1 << 20
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


class Place(Protocol):
    """One file as it was when it was found. Plain data: it travels to worker processes."""

    @property
    def size(self) -> int:
        """Bytes."""

    def __str__(self) -> str:
        """Path or URL, for people."""

    def chunks(self, start: int = 0, *, stop: int | None = None) -> Iterator[bytes]:
        """Raw bytes from `start` to the end of the file.

        `stop` is only a hint: a reader that leaves off soon after it has caused little to be read
        in vain.

        Raises:
            BadInput: the file has gone or is another one now.
            EnvironmentFault: it may not be read, or a disk or connection fails.
        """

    def arrow_file(self) -> pa.NativeFile:
        """The file for Arrow's readers, which jump about in it."""

    def arrow_file_of(self, parts: Iterable[tuple[int, bytes]]) -> pa.NativeFile:
        """The same when (offset, bytes) of all that a reader will look at come by: they are taken
        to their end, and nothing comes over a network twice."""

    def check_unchanged(self) -> None:
        """Raise BadInput if the file is not the one that was found: what was read may be a mix."""


def is_url(text: str) -> bool:
    """Whether an input is a URL and not a path of this machine."""
    return _URL.match(text) is not None


def walk(root: Path | str) -> Iterator[tuple[str, Place]]:
    """The file `root` itself, or the files below the folder `root`, hidden ones left out.

    A file's name is its own, or relative to the folder, with `/` separators: the same for a folder
    of this machine and for its copy behind a URL.

    Raises:
        BadInput: no such input, or one that cannot be listed.
        EnvironmentFault: no credentials, or no connection.
    """
    if isinstance(root, str) and is_url(root):
        from dsv3data.io.sources.remote_place import walk_remote

        return walk_remote(root)
    from dsv3data.io.sources.local_place import walk_local

    return walk_local(Path(root))


def links_below(root: Path | str) -> list[str]:
    """Names of links to files and folders below the folder `root`, which `walk` passes over."""
    if isinstance(root, str) and is_url(root):
        return []
    from dsv3data.io.sources.local_place import local_links

    return list(local_links(Path(root)))
