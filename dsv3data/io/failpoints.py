"""Named places where a test can kill the process, as a power cut would, or find it in its work.

`DSV3DATA_FAILPOINT=name` (or `name@3` for the third visit) makes `failpoint(name)` send SIGKILL to
its own process; `name@3:STOP` sends SIGSTOP instead, so that it holds still there until SIGCONT;
`name@3:WAIT=path` makes that file, and goes on when it has been taken away: a process that waits so
still sees signals, whoever sends them.
Unset, the cost is one dictionary look-up.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from pathlib import Path

VARIABLE = "DSV3DATA_FAILPOINT"
_visits: Counter[str] = Counter()


def failpoint(name: str) -> None:
    """Die or hold still here if the environment asks for it."""
    wanted = os.environ.get(VARIABLE)
    if not wanted:
        return
    place, _, what = wanted.partition(":")
    wanted_name, _, visit = place.partition("@")
    if wanted_name != name:
        return
    _visits[name] += 1
    if _visits[name] != int(visit or 1):
        return
    action, _, path = what.partition("=")
    if action == "WAIT":
        Path(path).touch()
        while Path(path).exists():
            time.sleep(0.005)
    else:
        # To this thread, so that it goes no further.
        signal.raise_signal(signal.SIGSTOP if action == "STOP" else signal.SIGKILL)
