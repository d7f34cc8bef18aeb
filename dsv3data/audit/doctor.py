"""`dsv3data doctor`: can this machine do the work?"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

State = Literal["ok", "missing", "problem"]

_REQUIRED = ("click", "numba", "numpy", "orjson", "pyarrow", "rich", "tokenizers", "zstandard")
_OPTIONAL = {
    "fastokens": "pip install fastokens; without it tokenizing is many times slower",
    "isal": "pip install isal; without it checksums are slower",
    "torch": "pip install 'dsv3data[train]'",
    "safetensors": "pip install 'dsv3data[train]'",
    "triton": "pip install 'dsv3data[gpu]'",
}
_LOW_DISK_BYTES = 2 << 30
_LOW_MEMORY_BYTES = 4 << 30


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing looked at. `fix` says what to do when the state is not ok."""

    name: str
    state: State
    value: str
    fix: str = ""


def examine(folder: Path) -> list[Finding]:
    """Versions, cores, memory, disk, GPU and write permission below `folder`."""
    return [
        Finding(name="dsv3data", state="ok", value=_version("dsv3data") or "not installed"),
        _python(),
        *(_package(name, "pip install dsv3data", optional=False) for name in _REQUIRED),
        *(_package(name, fix, optional=True) for name, fix in _OPTIONAL.items()),
        Finding(name="cores", state="ok", value=str(len(os.sched_getaffinity(0)))),
        _memory(),
        _disk(folder),
        _write_permission(folder),
        _gpu(),
    ]


def as_tree(findings: list[Finding]) -> dict[str, Any]:
    """Findings by name, for JSON."""
    return {
        "ok": all(finding.state != "problem" for finding in findings),
        "findings": {
            finding.name: {"state": finding.state, "value": finding.value, "fix": finding.fix}
            for finding in findings
        },
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _python() -> Finding:
    return Finding(
        name="python", state="ok", value=f"{platform.python_version()} on {platform.platform()}"
    )


def _package(name: str, fix: str, *, optional: bool) -> Finding:
    version = _version(name)
    if version is not None:
        return Finding(name=name, state="ok", value=version)
    state: State = "missing" if optional else "problem"
    return Finding(name=name, state=state, value="not installed", fix=fix)


def _memory() -> Finding:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    state: State = "ok" if total >= _LOW_MEMORY_BYTES else "problem"
    return Finding(
        name="memory",
        state=state,
        value=f"{total / 2**30:.1f} GiB",
        fix="4 GiB are the least" if state != "ok" else "",
    )


def _disk(folder: Path) -> Finding:
    free = shutil.disk_usage(_existing(folder)).free
    state: State = "ok" if free >= _LOW_DISK_BYTES else "problem"
    return Finding(
        name="disk",
        state=state,
        value=f"{free / 2**30:.1f} GiB free at {folder}",
        fix="" if state == "ok" else "free some space or choose another --out",
    )


def _write_permission(folder: Path) -> Finding:
    try:
        with tempfile.TemporaryFile(dir=_existing(folder)):
            return Finding(name="write permission", state="ok", value=f"can write at {folder}")
    except OSError as error:
        return Finding(
            name="write permission",
            state="problem",
            value=f"cannot write at {folder}: {error.strerror}",
            fix="change the folder's permissions or choose another",
        )


def _existing(folder: Path) -> Path:
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return folder


def _gpu() -> Finding:
    """Asks the driver's own tool: importing torch would take seconds."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return Finding(name="gpu", state="missing", value="none: training runs on the CPU in fp32")
    query = [tool, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return Finding(
            name="gpu", state="problem", value=f"nvidia-smi fails: {error}", fix="check the driver"
        )
    return Finding(name="gpu", state="ok", value="; ".join(answer.stdout.strip().splitlines()))
