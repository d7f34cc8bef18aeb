"""Named places where a test can kill the process, as a power cut would.

`DSV3DATA_FAILPOINT=name` (or `name@3` for the third visit) makes `failpoint(name)` send SIGKILL to
its own process. Unset, the cost is one dictionary look-up.
"""

from __future__ import annotations

import os
import signal
from collections import Counter

VARIABLE = "DSV3DATA_FAILPOINT"
_visits: Counter[str] = Counter()


def failpoint(name: str) -> None:
    """Die here if the environment asks for it."""
    wanted = os.environ.get(VARIABLE)
    if not wanted:
        return
    wanted_name, _, visit = wanted.partition("@")
    if wanted_name != name:
        return
    _visits[name] += 1
    if _visits[name] >= int(visit or 1):
        os.kill(os.getpid(), signal.SIGKILL)
