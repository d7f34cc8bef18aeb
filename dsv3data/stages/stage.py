"""What an executor needs to know of a stage."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsv3data.contracts.manifest import Manifest
from dsv3data.io.ledger import UnitRecord
from dsv3data.stages.units import UnitTask


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A planned stage: plain data that can travel to other machines.

    Attributes:
        name: the command that it belongs to.
        measure: what the sizes of its units count, "B" or "tokens".
        plan: as the ledger and the manifest hold it.
        publish: records of all units, in order → the published manifest.
        facts: records of all units → what run.json says of how they were done.
        check: raises if the published manifest is not what the user allows.
    """

    name: str
    measure: str
    out: Path
    plan: Mapping[str, Any]
    units: Sequence[UnitTask]
    publish: Callable[[Sequence[UnitRecord]], Manifest]
    facts: Callable[[Sequence[UnitRecord]], Mapping[str, Any]]
    check: Callable[[Manifest], None]

    @property
    def size(self) -> int:
        """Work of all units."""
        return sum(unit.size for unit in self.units)
