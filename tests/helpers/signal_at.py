"""A stop request at a chosen moment: during a given call of a function."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest


def signal_at_call(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, call: int) -> list[int]:
    """SIGTERM to this process during that call (from 1) of `owner.name`; the numbers of its calls,
    a list that grows."""
    real, calls = getattr(owner, name), list[int]()

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        calls.append(len(calls) + 1)
        if len(calls) == call:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(*args, **kwargs)

    monkeypatch.setattr(owner, name, interrupted)
    return calls
