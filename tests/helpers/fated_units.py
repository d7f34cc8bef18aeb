"""Units of a stage that end as they are told, in whatever process they are done."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from dsv3data.contracts.errors import BadInput
from dsv3data.contracts.manifest import NO_TOKENIZER, FileRecord, Manifest
from dsv3data.contracts.progress import Sink
from dsv3data.io.atomic import write_atomic
from dsv3data.io.ledger import UnitRecord
from dsv3data.io.manifest_file import describe_file
from dsv3data.stages.output import finish_output
from dsv3data.stages.stage import Stage
from held import wait_until

PLAN = {"config": {"seed": 0}}


@dataclass(frozen=True)
class FatedUnit:
    """A unit that writes its name, or ends as `fate` says."""

    name: str
    out: Path
    fate: str = ""
    size: int = 3
    plan_hash: str = "p"

    def input_sha256(self) -> str:
        assert self.fate != "not read again"
        return self.name

    def run(self, sink: Sink) -> tuple[list[FileRecord], Mapping[str, Any]]:
        if self.fate == "raise":
            raise BadInput("this unit is bad", where=self.name, fix="mend it")
        if self.fate == "interrupt":
            os.kill(os.getpid(), signal.SIGTERM)
        if self.fate.startswith("stop "):  # and the pid of the run's command
            os.kill(int(self.fate.split()[1]), signal.SIGTERM)
            wait_until(lambda: [*self.out.glob(".work/run-*/stop.json")])
        if self.fate == "die" or (self.fate == "die once" and self._first_time()):
            os.kill(os.getpid(), signal.SIGKILL)
        for _ in range(4):  # some chances for two tasks to meet
            write_atomic(self.out / self.name, self.name.encode() * 1000)
        return [describe_file(self.out, self.name)], {}

    def _first_time(self) -> bool:
        mark = self.out / ".work" / f"died-{self.name}"
        if mark.exists():
            return False
        mark.touch()
        return True


def fated_units(out: Path, fates: Mapping[int, str], *, number: int = 7) -> list[FatedUnit]:
    """u0, u1, …"""
    return [FatedUnit(f"u{index}", out, fates.get(index, "")) for index in range(number)]


def fated_stage(out: Path, fates: Mapping[int, str], *, number: int = 7) -> Stage:
    """A stage of fated units."""
    return Stage(
        name="fated",
        measure="B",
        out=out,
        plan=PLAN,
        units=fated_units(out, fates, number=number),
        publish=partial(_publish, out),
        facts=_no_facts,
        check=_accept,
    )


def _publish(out: Path, records: Sequence[UnitRecord]) -> Manifest:
    manifest = Manifest(
        format="fated",
        plan=PLAN,
        input={},
        tokenizer=NO_TOKENIZER,
        counts={},
        keys_digest="",
        files=tuple(file for record in records for file in record.files),
    )
    finish_output(out, manifest)
    return manifest


def _no_facts(records: Sequence[UnitRecord]) -> Mapping[str, Any]:
    return {}


def _accept(manifest: Manifest) -> None:
    """Everything is allowed."""
