"""Memory that a process has freed, given back to the system."""

from __future__ import annotations

import ctypes


def give_back_memory() -> None:
    """Return what was freed to the system, where the C library can.

    Without this a process keeps about as much as it once held in arrays, and more with each unit.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
