"""The ledger: an entry is believed only while all its hashes hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from dsv3data.contracts.errors import BadConfig
from dsv3data.io.atomic import create_atomic
from dsv3data.io.ledger import Ledger, UnitRecord
from dsv3data.io.manifest_file import describe_file
from dsv3data.io.sealed import seal
from folders import flip_bit


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    (tmp_path / "a").write_bytes(b"content")
    made = Ledger(tmp_path)
    made.open_plan({"config": {"seed": 0}})
    made.record("00000", record_of(tmp_path))
    return made


def record_of(folder: Path) -> UnitRecord:
    return UnitRecord(
        plan_hash="p",
        input_sha256="i",
        files=(describe_file(folder, "a"),),
        counts={"documents": 2, "domains": {"web": {"documents": 2}}},
    )


def test_an_entry_round_trips(ledger: Ledger) -> None:
    found = ledger.finished("00000", plan_hash="p", input_sha256="i")
    assert found == record_of(ledger.out)
    assert ledger.finished("00001", plan_hash="p", input_sha256="i") is None


@pytest.mark.parametrize(("plan", "source"), [("q", "i"), ("p", "j")])
def test_an_entry_of_another_plan_or_input_counts_for_nothing(
    ledger: Ledger, plan: str, source: str
) -> None:
    assert ledger.finished("00000", plan_hash=plan, input_sha256=source) is None


def test_an_entry_whose_file_changed_counts_for_nothing(ledger: Ledger) -> None:
    flip_bit(ledger.out / "a", 2, 5)
    assert ledger.finished("00000", plan_hash="p", input_sha256="i") is None


def test_a_damaged_entry_counts_for_nothing(ledger: Ledger) -> None:
    flip_bit(ledger.folder / "unit-00000.json", 20, 1)
    assert ledger.finished("00000", plan_hash="p", input_sha256="i") is None


def test_the_same_plan_is_accepted_again(ledger: Ledger) -> None:
    ledger.open_plan({"config": {"seed": 0}})


def test_another_plan_is_refused_naming_what_differs(ledger: Ledger) -> None:
    with pytest.raises(BadConfig) as caught:
        ledger.open_plan({"config": {"seed": 1}, "input": {"x": 1}})
    assert "the config or input differs from the work in this folder" in caught.value.what
    assert "config.seed: 0 → 1" in caught.value.what
    assert "input: (absent) → {'x': 1}" in caught.value.what
    assert "--fresh" in caught.value.fix


def test_many_differences_are_counted(ledger: Ledger) -> None:
    with pytest.raises(BadConfig, match="; and 4 more"):
        ledger.open_plan({"config": {"seed": 0}, **{f"key{n}": n for n in range(12)}})


def test_a_damaged_plan_is_written_anew(ledger: Ledger) -> None:
    flip_bit(ledger.folder / "plan.json", 5, 1)
    ledger.open_plan({"config": {"seed": 9}})
    with pytest.raises(BadConfig, match="9 → 0"):
        ledger.open_plan({"config": {"seed": 0}})


def test_of_two_plans_at_the_same_moment_one_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a lock of one machine means nothing to another."""

    def late(path: Path, data: bytes) -> bool:
        assert create_atomic(path, seal({"seed": 1}))
        return create_atomic(path, data)

    monkeypatch.setattr("dsv3data.io.ledger.create_atomic", late)
    with pytest.raises(BadConfig, match="seed: 1 → 2"):
        Ledger(tmp_path).open_plan({"seed": 2})
    Ledger(tmp_path).open_plan({"seed": 1})


def test_a_set_copied_without_its_working_files_still_binds(tmp_path: Path) -> None:
    """The plan is in the manifest too."""
    plan = {"pack": {"context": 1024}}
    (tmp_path / "manifest.json").write_bytes(seal({"plan": plan}))
    with pytest.raises(BadConfig, match=r"pack\.context: 1024 → 2048"):
        Ledger(tmp_path).open_plan({"pack": {"context": 2048}})
    Ledger(tmp_path).open_plan(plan)
