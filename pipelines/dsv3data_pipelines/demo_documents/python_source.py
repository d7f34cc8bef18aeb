"""Python files of the running interpreter: its standard library and its installed packages."""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from dsv3data_pipelines.demo_documents.selection import Candidate, in_keyed_order, read_utf8

_LEFT_OUT_FOLDERS = frozenset({"__pycache__", "site-packages", "dist-packages"})
# They hold files that are broken on purpose.
_STDLIB_TEST_FOLDERS = frozenset({"test", "tests", "idle_test"})
# Our own packages are left out: a change of this project should not change the demo's documents.
OWN_PREFIX = "dsv3data"


@dataclass(frozen=True, kw_only=True)
class PythonPlaces:
    """Where Python files lie: one standard library, any number of package folders."""

    stdlib: Path
    packages: tuple[Path, ...]

    @classmethod
    def of_this_interpreter(cls) -> PythonPlaces:
        packages = (Path(sysconfig.get_path("purelib")), Path(sysconfig.get_path("platlib")))
        return cls(
            stdlib=Path(sysconfig.get_path("stdlib")),
            packages=tuple(dict.fromkeys(packages)),
        )


def python_source_candidates(places: PythonPlaces, *, seed: int) -> Iterator[Candidate]:
    """The standard library first; installed packages only fill what it leaves free."""
    for tier in (stdlib_files(places), package_files(places)):
        files = (Candidate(id=id_, read=partial(read_utf8, path)) for id_, path in tier)
        yield from in_keyed_order(files, seed)


def stdlib_files(places: PythonPlaces) -> Iterator[tuple[str, Path]]:
    """(id, path) such as ("python/json/decoder.py", …), without tests."""
    left_out = _LEFT_OUT_FOLDERS | _STDLIB_TEST_FOLDERS
    for path in _python_files(places.stdlib, left_out):
        yield f"python/{path.relative_to(places.stdlib).as_posix()}", path


def package_files(places: PythonPlaces) -> Iterator[tuple[str, Path]]:
    """(id, path) such as ("packages/numpy/linalg/__init__.py", …), without this project."""
    for root in places.packages:
        for path in _python_files(root, _LEFT_OUT_FOLDERS):
            inside = path.relative_to(root)
            if not inside.parts[0].startswith(OWN_PREFIX):
                yield f"packages/{inside.as_posix()}", path


def _python_files(root: Path, left_out: frozenset[str]) -> Iterator[Path]:
    """Sorted walk that follows no links to folders and skips names that are not UTF-8."""
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = sorted(filter(str.isprintable, set(subfolders) - left_out))
        for name in sorted(filter(str.isprintable, names)):
            if name.endswith(".py"):
                yield Path(folder, name)
