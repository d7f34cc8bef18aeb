"""kill -9 at a random moment of a run.

Moments are counted in names that the run has made in its folder, not in seconds: so they are spread
over the whole run on a machine of any speed.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from held import is_alive, wait_until
from warm_cli import Finished, WarmCli

_LONGEST_SECONDS = 0.1  # for moments between two names


def run_and_kill(
    warm: WarmCli, words: Sequence[str | Path], out: Path, *, whole: int, rng: random.Random
) -> Finished:
    """Begin a command that writes into `out`, and kill it somewhere before `out` has the `whole`
    number of names, or a moment later; it may have ended by then."""
    wanted = rng.randint(min(names_in(out), whole), whole)
    pid = warm.start(*words)
    wait_until(lambda: names_in(out) >= wanted or not is_alive(pid))
    time.sleep(rng.choice((0.0, 0.1, 1.0)) * rng.random() * _LONGEST_SECONDS)
    os.kill(pid, signal.SIGKILL)
    return warm.wait(pid)


def names_in(folder: Path) -> int:
    """Files and folders at any depth, while others make and take them."""
    try:
        return sum(1 for _ in folder.rglob("*"))
    except FileNotFoundError:
        return names_in(folder)
