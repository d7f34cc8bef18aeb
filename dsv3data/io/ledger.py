"""The ledger of finished work units, which makes a killed run continue where it stopped.

An entry says: this unit, of this plan, reading exactly these input bytes, gave these files. It is
believed only if the hashes of plan, input and output files all still hold.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsv3data.contracts.config import differences
from dsv3data.contracts.errors import BadConfig, IntegrityError
from dsv3data.contracts.manifest import MANIFEST_NAME, FileRecord, file_record_from_tree
from dsv3data.io.atomic import make_folder, write_atomic
from dsv3data.io.manifest_file import is_intact
from dsv3data.io.sealed import read_sealed, seal

WORK_FOLDER = ".work"
_PLAN_NAME = "plan.json"


@dataclass(frozen=True, kw_only=True)
class UnitRecord:
    """What a finished unit read and wrote; `counts` are plain numbers and mappings of them."""

    plan_hash: str
    input_sha256: str
    files: tuple[FileRecord, ...]
    counts: Mapping[str, Any]


class Ledger:
    """Entries of one output folder, one sealed JSON file per finished unit in OUT/.work/."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.folder = out / WORK_FOLDER
        make_folder(self.folder)

    def open_plan(self, plan: Mapping[str, Any]) -> None:
        """Declare what this run will do; refuse if the folder holds work of another plan.

        Raises:
            BadConfig: naming every value that differs. The old work is kept.
        """
        changed = differences(self._plan_so_far() or plan, plan)
        if changed:
            raise BadConfig(
                "the config or input differs from the work in this folder: "
                + "; ".join(changed[:8])
                + (f"; and {len(changed) - 8} more" if len(changed) > 8 else ""),
                where=str(self.out),
                effect="nothing was changed; the old output is kept",
                fix="give another --out, or --fresh to move the old output aside and start anew",
            )
        write_atomic(self.folder / _PLAN_NAME, seal(plan))

    def _plan_so_far(self) -> Mapping[str, Any] | None:
        """The plan of the work here; of a set that was copied without its working files, the plan
        in its manifest. A damaged file proves nothing: then the hashes of the units decide."""
        for path, key in ((self.folder / _PLAN_NAME, ""), (self.out / MANIFEST_NAME, "plan")):
            with contextlib.suppress(FileNotFoundError, IntegrityError):
                tree = read_sealed(path, fix="")
                return dict(tree[key]) if key else tree
        return None

    def forget_plan(self) -> None:
        """For a stage without units: a plan that finished nothing binds nobody."""
        (self.folder / _PLAN_NAME).unlink(missing_ok=True)

    def finished(self, unit: str, *, plan_hash: str, input_sha256: str) -> UnitRecord | None:
        """The record of a unit if all its hashes still hold, else None: it must be done again."""
        try:
            tree = read_sealed(self._path(unit), fix="")
        except (FileNotFoundError, IntegrityError):
            return None
        files = tuple(file_record_from_tree(record) for record in tree["files"])
        record = UnitRecord(**{**tree, "files": files})
        if (record.plan_hash, record.input_sha256) != (plan_hash, input_sha256):
            return None
        return record if all(is_intact(self.out, file) for file in files) else None

    def record(self, unit: str, record: UnitRecord) -> None:
        """Enter a unit whose files are all published."""
        write_atomic(self._path(unit), seal(dataclasses.asdict(record)))

    def _path(self, unit: str) -> Path:
        return self.folder / f"unit-{unit}.json"
