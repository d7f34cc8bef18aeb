"""Files behind URLs that fsspec understands: s3://, gs://, https:// and others.

Credentials, endpoints and proxies are those of fsspec's and the store's own configuration
(environment, ~/.aws, ~/.config/fsspec): none of them reaches a plan or a manifest.
"""

from __future__ import annotations

import io
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from dsv3data.contracts.errors import BadInput, Dsv3DataError, EnvironmentFault
from dsv3data.io.atomic import environment_faults
from dsv3data.io.sources.local_place import changed
from dsv3data.io.sources.place import CHUNK_BYTES, Place

# A request costs a round trip of some 30 ms: large steps, one of them ahead of the reader.
_REQUEST_BYTES = 8 << 20
_RETRY_SECONDS = (0.5, 2.0, 5.0)
# What tells one state of an object from another, by the words of different stores.
_VERSION_KEYS = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified", "created")

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class RemotePlace:
    """A `Place` behind a URL; `version` is the store's mark for this state of the object."""

    url: str
    size: int
    version: str

    def __str__(self) -> str:
        return self.url

    def chunks(self, start: int = 0, *, stop: int | None = None) -> Iterator[bytes]:
        """See `Place.chunks`: range requests, the next one under way while one is worked on."""
        ranges = _ranges(start, self.size if stop is None else min(stop, self.size), self.size)
        with ThreadPoolExecutor(1) as ahead:
            following = next(ranges, None)
            coming = ahead.submit(self.read, *following) if following else None
            while coming is not None:
                data = coming.result()
                following = next(ranges, None)
                # Past `stop` a reader wants the rest of one line: nothing is asked for ahead.
                eager = following is not None and (stop is None or following[0] < stop)
                coming = ahead.submit(self.read, *following) if following and eager else None
                for offset in range(0, len(data), CHUNK_BYTES):
                    yield data[offset : offset + CHUNK_BYTES]
                if following and not eager:
                    coming = ahead.submit(self.read, *following)

    def read(self, start: int, stop: int) -> bytes:
        """The bytes [start, stop): all of them, or an error."""

        def request() -> bytes:
            filesystem, path = _filesystem(self.url)
            try:
                data: bytes = filesystem.cat_file(path, start=start, end=stop)
                if len(data) != stop - start:
                    raise ConnectionError(f"{len(data):,} of {stop - start:,} bytes came")
            except OSError as error:
                if _final_fault(self.url, error) is None:
                    self.check_unchanged()  # an object that has shrunk is no broken connection
                raise
            return data

        if start >= stop:
            return b""
        return _with_retries(self.url, request)

    def arrow_file(self) -> pa.NativeFile:
        """See `Place.arrow_file`."""
        return pa.PythonFile(io.BufferedReader(_Seekable(self), 1 << 16), mode="r")

    def arrow_file_of(self, parts: Iterable[tuple[int, bytes]]) -> pa.NativeFile:
        """See `Place.arrow_file_of`: a copy with holes, in the temporary folder (TMPDIR), mapped
        into memory. It has no name, and goes when the last one who reads it does."""
        with environment_faults(Path(tempfile.gettempdir())), tempfile.TemporaryFile() as copy:
            copy.truncate(self.size)
            for offset, data in parts:
                copy.seek(offset)
                copy.write(data)
            copy.flush()
            return pa.memory_map(f"/proc/self/fd/{copy.fileno()}")

    def check_unchanged(self) -> None:
        """See `Place.check_unchanged`."""
        facts = _facts(self.url)
        if (facts.get("size"), _version(facts)) != (self.size, self.version):
            raise changed(self)


class _Seekable(io.RawIOBase):
    """A remote file for those who seek: each read is one request."""

    def __init__(self, place: RemotePlace) -> None:
        self._place = place
        self._offset = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._offset

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._offset, io.SEEK_END: self._place.size}
        self._offset = base[whence] + offset
        return self._offset

    def readinto(self, buffer: Any) -> int:
        stop = min(self._offset + len(buffer), self._place.size)
        data = self._place.read(self._offset, stop)
        buffer[: len(data)] = data
        self._offset += len(data)
        return len(data)


def walk_remote(root: str) -> Iterator[tuple[str, Place]]:
    """See `place.walk`."""
    facts = _facts(root, fresh=True)
    if facts["type"] == "file":
        yield root.rstrip("/").rsplit("/", 1)[-1], _place(root, facts)
        return

    def request() -> Mapping[str, Mapping[str, Any]]:
        filesystem, path = _filesystem(root)
        found: Mapping[str, Mapping[str, Any]] = filesystem.find(path, detail=True)
        return found

    filesystem, path = _filesystem(root)
    for key, facts in sorted(_with_retries(root, request).items()):
        name = key.removeprefix(path.rstrip("/")).lstrip("/")
        hidden = any(part.startswith(".") for part in name.split("/"))
        if name and not hidden and not name.endswith("/") and facts["type"] == "file":
            yield name, _place(filesystem.unstrip_protocol(key), facts)


def _place(url: str, facts: Mapping[str, Any]) -> RemotePlace:
    size = facts.get("size")
    if size is None:
        raise BadInput(
            "the server does not say how large the file is",
            where=url,
            effect="nothing was started",
            fix="copy the file to a disk or an object store first",
        )
    return RemotePlace(url=url, size=int(size), version=_version(facts))


def _version(facts: Mapping[str, Any]) -> str:
    return next((str(facts[key]) for key in _VERSION_KEYS if facts.get(key)), "")


def _facts(url: str, *, fresh: bool = True) -> Mapping[str, Any]:
    def request() -> Mapping[str, Any]:
        filesystem, path = _filesystem(url)
        if fresh:
            filesystem.invalidate_cache()
        facts: Mapping[str, Any] = filesystem.info(path)
        return facts

    return _with_retries(url, request)


def _filesystem(url: str) -> tuple[Any, str]:
    from fsspec.core import url_to_fs

    filesystem, path = url_to_fs(url)
    return filesystem, str(path)


def _ranges(start: int, stop: int, size: int) -> Iterator[tuple[int, int]]:
    """Requests up to `stop`, then small ones that double, to the end."""
    while start < stop:
        yield start, min(start + _REQUEST_BYTES, stop)
        start = min(start + _REQUEST_BYTES, stop)
    step = 1 << 16
    while start < size:
        yield start, min(start + step, size)
        start, step = start + step, min(2 * step, _REQUEST_BYTES)


def _with_retries(url: str, request: Callable[[], Result]) -> Result:
    """The request's result; connections that break are tried again, for some seconds."""
    for seconds in (*_RETRY_SECONDS, None):
        try:
            return request()
        except Dsv3DataError:
            raise
        except Exception as error:  # stores raise what they like; each has its line in `_fault`
            final = _final_fault(url, error)
            if final is not None:
                raise final from error
            if seconds is None:
                raise _no_connection(url, error) from error
            time.sleep(seconds)
    raise AssertionError("the last attempt returns or raises")


def _final_fault(url: str, error: Exception) -> Dsv3DataError | None:
    """The error for a person, if asking again cannot help."""
    if isinstance(error, FileNotFoundError):
        return BadInput(
            "there is no such object",
            where=url,
            effect="its documents are missing, so nothing was published",
            fix="check bucket and path; a folder is named by its prefix, e.g. s3://bucket/corpus",
        )
    if isinstance(error, PermissionError) or "Credentials" in type(error).__name__:
        return EnvironmentFault(
            f"the store refuses access: {str(error)[:200]}",
            where=url,
            effect="nothing was read",
            fix="give credentials as the store's own tools take them, for S3 AWS_PROFILE, or "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (AWS_ENDPOINT_URL for other servers)",
        )
    if isinstance(error, ImportError):
        return EnvironmentFault(
            f"this kind of URL needs a package that is not installed: {error}",
            where=url,
            effect="nothing was started",
            fix="for s3:// pip install 'dsv3data[s3]'",
        )
    if isinstance(error, ValueError) and "rotocol" in str(error):
        return BadInput(
            f"no such kind of URL: {error}",
            where=url,
            effect="nothing was started",
            fix="check its beginning, for example s3://",
        )
    return None


def _no_connection(url: str, error: Exception) -> EnvironmentFault:
    return EnvironmentFault(
        f"the store does not answer as it should: {type(error).__name__}: {str(error)[:200]}",
        where=url,
        effect=f"given up after {len(_RETRY_SECONDS) + 1} attempts; all finished units are kept",
        fix="check the connection and the endpoint, and run the same command again to continue",
    )
