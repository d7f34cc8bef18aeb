"""Documents from files: discovery, work units, and readers for each format.

`discover` finds the files, `plan_units` cuts them into units fixed by the data, `read_unit` yields
each document of a unit exactly once, as a `Document` or as a `Rejected` with its reason.
"""

from dsv3data.io.sources.discover import SourceFile, discover
from dsv3data.io.sources.documents import Document, ReadOptions, Rejected
from dsv3data.io.sources.place import is_url
from dsv3data.io.sources.raw import InputLog
from dsv3data.io.sources.read import input_sha256, read_unit
from dsv3data.io.sources.units import Span, Unit, plan_units

__all__ = [
    "Document",
    "InputLog",
    "ReadOptions",
    "Rejected",
    "SourceFile",
    "Span",
    "Unit",
    "discover",
    "input_sha256",
    "is_url",
    "plan_units",
    "read_unit",
]
