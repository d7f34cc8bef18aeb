"""Processes that hold still in the middle of their work until a test lets them go on.

A test asks a process to stop itself at a failpoint (`held_at`), waits until it has, does its deed,
and lets it go on: nothing depends on who is faster.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from dsv3data.io.failpoints import VARIABLE


def held_at(name: str, visit: int = 1) -> dict[str, str]:
    """The environment in which a process holds still at that visit of a failpoint."""
    return {VARIABLE: f"{name}@{visit}:STOP"}


def waiting_at(name: str, visit: int, until_gone: Path) -> dict[str, str]:
    """The environment in which a process makes this file at that visit of a failpoint, and goes on
    once it has been taken away. Meanwhile it sees signals."""
    return {VARIABLE: f"{name}@{visit}:WAIT={until_gone}"}


def is_held(pid: int) -> bool:
    """Whether the process holds still. One that has ended never will: that is an error."""
    assert is_alive(pid), f"process {pid} has ended instead of holding still"
    return _state(pid) == "T"


def is_alive(pid: int) -> bool:
    """Whether the process has not ended, waited for or not."""
    try:
        return _state(pid) not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def let_go(*pids: int) -> None:
    """Let processes go on."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def wait_until(condition: Callable[[], object], seconds: float = 600) -> None:
    """Return when the condition holds. The time is for machines that hardly move."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
