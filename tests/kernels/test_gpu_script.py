"""`make gpu` without a GPU: its sections at tiny sizes, its tables, and how it meets faults."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

import kernel_checks
from dsv3data.kernels.device import launch

ROOT = Path(__file__).parents[2]


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The scripts import one another, from their own folder."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    yield
    for name in set(sys.modules) - before:
        if name in ("gpu", "gpu_training", "kernels_table", "measuring"):
            del sys.modules[name]


def machine(out: Path, rows: Path) -> Any:
    import gpu

    return gpu.Machine(smoke=True, out=out, rows=rows, until=time.time() + 3600)


@pytest.mark.usefixtures("benchmarks")
@pytest.mark.parametrize(
    "section", ["gate", "train", "model", "attention", "optimizer", "checkpoint", "loader"]
)
def test_every_section_of_training_runs(
    section: str, tmp_path: Path, tiny_packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gpu
    import gpu_training

    monkeypatch.setattr(gpu_training, "SEEDS", 2)
    monkeypatch.setattr(gpu_training, "WARM_STEPS", 1)
    monkeypatch.setattr(gpu_training, "TIMED_STEPS", 1)
    found = gpu_training.SECTIONS[section](machine(tmp_path, tiny_packed))
    # Profiling on a CPU, the last of `model`, takes longer than all the rest.
    rows = list(islice(found, 3) if section == "model" else found)
    assert rows
    json.dumps(gpu.plain(rows), allow_nan=False)
    if section == "train":
        assert [row["same_bits"] for row in rows] == [True] * 3
    if section == "gate":
        verdicts = [row["comparison"] for row in rows if "comparison" in row]
        assert [verdict["seeds"] for verdict in verdicts] == [(0,), (0, 1)]
        assert all(0 < loss < 10 for loss in verdicts[-1]["candidate_losses"])
        starts = {(row["seed"], row["run"]): row["losses"][0] for row in rows if row.get("run")}
        for seed in range(2):  # the same weights and rows in every run of a seed
            for run in ("fp8", "nudged"):
                assert starts[seed, run] == pytest.approx(starts[seed, "fp32"], rel=2e-3)
        assert starts[0, "fp32"] != starts[1, "fp32"]


def shell(out: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The script, with a Python that can do nothing but make tables."""
    python = out / "python"
    python.write_text(
        f'#!/bin/sh\ncase $1 in *kernels_table.py) exec {sys.executable} "$@" ;; esac\n'
        'echo "cannot run $2" >&2\nexit 3\n'
    )
    python.chmod(0o755)
    return subprocess.run(
        [ROOT / "scripts" / "gpu.sh"],
        env={"PATH": "/usr/bin:/bin", "PYTHON": str(python), "OUT": str(out), **environment},
        capture_output=True,
        text=True,
    )


def test_a_section_that_fails_does_not_stop_the_next(tmp_path: Path) -> None:
    done = shell(tmp_path, SECTIONS="nonsense loader gate")
    assert done.returncode == 1
    nonsense, loader, gate = (tmp_path / "summary.txt").read_text().splitlines()
    assert nonsense == "nonsense: no such section"
    assert loader.startswith("loader: exit 3 after")
    assert gate.startswith("gate: exit 3 after")
    log = (tmp_path / "log.txt").read_text()
    assert log.endswith("== loader\ncannot run loader\n== gate\ncannot run gate\n")
    assert "unmeasured" in (tmp_path / "tables.md").read_text()
    assert "unmeasured" in done.stdout


def test_after_the_time_is_over_nothing_starts(tmp_path: Path) -> None:
    done = shell(tmp_path, SECTIONS="dense", LIMIT="0")
    assert done.returncode == 1
    assert (tmp_path / "summary.txt").read_text() == "dense: no time left\n"


def test_tables_of_what_is_there(tmp_path: Path) -> None:
    """The last run of a section counts; one that ended at once takes no table from the others."""
    about = {"gpu": "a GPU", "commit": "abc", "versions": {"torch": "2"}}
    row = {"kernel": "rows", "gb_per_s": {"kernel": 90.0, "copy": 100.0}, "left_out": {}}
    lines = [
        {"section": "quantise", "machine": about},
        {"section": "quantise", "row": row | {"share_of_copy": 0.5}},
        {"section": "quantise", "machine": about},
        {"section": "quantise", "row": row | {"share_of_copy": 0.9}},
        {"section": "model", "machine": about},
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / "results.jsonl").write_text(text)
    script = ROOT / "benchmarks" / "kernels_table.py"
    done = subprocess.run(
        [sys.executable, script, tmp_path], capture_output=True, text=True, check=True
    )
    assert "| quantisation against a copy of as many bytes | 85 % | 90% |" in done.stdout
    assert "| rows | 90 | 100 | 90% |" in done.stdout
    assert "no table of what is in results.jsonl" in done.stdout


@pytest.mark.usefixtures("benchmarks")
def test_a_tile_that_failed_a_check_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gpu

    monkeypatch.setattr(launch, "TILES", launch.TILES)
    faulty = launch.TILES[1].name
    checks = [
        {"check": "check_large", "tile": None, "passed": False},
        {"check": "check_large", "tile": launch.TILES[0].name, "passed": True},
        {"check": "check_large", "tile": faulty, "passed": False},
    ]
    lines = [{"section": "checks", "machine": {}}]
    lines += [{"section": "checks", "row": check} for check in checks]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / "results.jsonl").write_text(text)
    gpu.drop_faulty_tiles(tmp_path)
    assert len(launch.TILES) == 5
    assert faulty not in [tile.name for tile in launch.TILES]


@pytest.mark.usefixtures("benchmarks")
def test_after_a_section_of_gemms_that_hung_no_warps_are_specialised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gpu

    monkeypatch.setattr(launch, "TILES", launch.TILES)
    line = json.dumps({"section": "dense", "machine": {}})
    (tmp_path / "results.jsonl").write_text(line + "\n")
    gpu.drop_faulty_tiles(tmp_path)
    assert [tile.specialised for tile in launch.TILES] == [False] * 5


def test_a_check_that_hangs_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What its process said before counts, and the check it was at is named."""

    def check_this(draw: kernel_checks.Draw) -> None: ...
    def check_that(draw: kernel_checks.Draw) -> None: ...

    monkeypatch.setattr(kernel_checks, "CHECKS", (check_this,))
    monkeypatch.setattr(kernel_checks, "GEMM_CHECKS", (check_this, check_that))
    monkeypatch.setattr(launch, "TILES", launch.TILES[:1])
    said = json.dumps({"check": "check_this", "seed": 0, "tile": "t", "passed": True})
    monkeypatch.setattr(
        kernel_checks, "_in_a_process", lambda *_: (said + '\n{"check": "ch', "not done after 5 s")
    )
    records = list(kernel_checks.checks_apart("cpu", [0], at_once=1, limit_s=5))
    failed = [record for record in records if not record["passed"]]
    assert failed == [
        {
            "check": "check_that",
            "seed": 0,
            "tile": launch.TILES[0].name,
            "passed": False,
            "error": "not done after 5 s",
        }
    ]
