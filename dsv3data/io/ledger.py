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

from dsv3data.contracts.config import config_hash, differences
from dsv3data.contracts.errors import BadConfig, IntegrityError
from dsv3data.contracts.manifest import MANIFEST_NAME, FileRecord, file_record_from_tree
from dsv3data.io.atomic import create_atomic, make_folder, write_atomic
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
        so_far = self.plan_so_far()
        changed = differences(so_far or plan, plan)
        if changed:
            raise BadConfig(
                "the config or input differs from the work in this folder: "
                + "; ".join(changed[:8])
                + (f"; and {len(changed) - 8} more" if len(changed) > 8 else ""),
                where=str(self.out),
                effect="nothing was changed; the old output is kept",
                fix="give another --out, or --fresh to move the old output aside and start anew",
            )
        path = self.folder / _PLAN_NAME
        if path.exists():  # of this plan, or damaged
            write_atomic(path, seal(plan))
        elif not create_atomic(path, seal(plan)):
            self.open_plan(plan)  # another process was faster: is its plan ours?

    def check_plan(self, plan_hash: str) -> None:
        """Refuse to go on if the work here is no longer of the plan with this `config_hash`.

        Raises:
            BadConfig: it is not, or there is none.
        """
        so_far = self.plan_so_far()
        if so_far is None or config_hash(so_far) != plan_hash:
            raise BadConfig(
                "the folder is no longer the work that this task was submitted for",
                where=str(self.out),
                effect="this task did nothing",
                fix="cancel what is left of the old run; run the command again for the new one",
            )

    def plan_so_far(self) -> Mapping[str, Any] | None:
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
        record = self.entered(unit, plan_hash=plan_hash)
        if record is None or record.input_sha256 != input_sha256:
            return None
        return record if all(is_intact(self.out, file) for file in record.files) else None

    def entered(self, unit: str, *, plan_hash: str) -> UnitRecord | None:
        """The record of a unit of this plan, without a look at its input and files."""
        try:
            tree = read_sealed(self._path(unit), fix="")
        except (FileNotFoundError, IntegrityError):
            return None
        files = tuple(file_record_from_tree(record) for record in tree["files"])
        record = UnitRecord(**{**tree, "files": files})
        return record if record.plan_hash == plan_hash else None

    def record(self, unit: str, record: UnitRecord) -> None:
        """Enter a unit whose files are all published."""
        write_atomic(self._path(unit), seal(dataclasses.asdict(record)))

    def _path(self, unit: str) -> Path:
        return self.folder / f"unit-{unit}.json"
