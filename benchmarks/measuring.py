"""What the benchmarks share: the machine, and the operating system's figures for a command."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PROGRAM = Path(sys.executable).with_name("dsv3data")


def machine(*packages: str) -> dict[str, Any]:
    """Where and with what a result was measured; versions of those packages that are there."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    here = Path(__file__).parent
    done = subprocess.run(command, cwd=here, capture_output=True, text=True, check=False)
    versions = {name: found for name in packages if (found := _version(name))}
    return {
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "processor": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "commit": done.stdout.strip(),
        **({"versions": versions} if versions else {}),
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def measured(
    command: Sequence[object], *, environment: Mapping[str, str] | None = None
) -> tuple[dict[str, Any], str]:
    """Run a command; figures of it with its children, and what it printed.

    Wall and CPU time in seconds, start included, peak memory of the largest process in MiB, and the
    load of the machine before. A command that fails ends the benchmark with its messages.
    """
    load_before = os.getloadavg()[0]
    started = time.monotonic()
    words = [str(word) for word in command]
    with tempfile.TemporaryFile("w+") as messages:
        process = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=messages, text=True, env=environment
        )
        assert process.stdout is not None
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - started
        messages.seek(0)
        if code := os.waitstatus_to_exitcode(status):
            raise SystemExit(f"exit code {code}: {' '.join(words)}\n{messages.read()}")
    figures = {
        "wall_s": round(seconds, 3),
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 3),
        "peak_rss_mib": round(usage.ru_maxrss / 1024),
        "load_before": round(load_before, 1),
    }
    return figures, output


def dsv3data(*words: object) -> tuple[dict[str, Any], str]:
    """`measured` for the installed command line; what it prints is JSON."""
    return measured([PROGRAM, *words, "--json", "--quiet"])
