"""docs/fp8.md names every kernel with its twin, check and benchmark, and no figure of its own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import kernel_checks
from dsv3data.kernels import reference
from dsv3data.kernels.device import gemm, quantise

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "fp8.md").read_text()
BENCHMARK = (ROOT / "benchmarks" / "kernels.py").read_text()


def named(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_every_kernel_has_its_twin_its_check_and_its_benchmark() -> None:
    rows = [line.split("|")[1:-1] for line in PAGE.splitlines() if "_kernel` |" in line]
    kernels = {name for file in (gemm, quantise) for name in vars(file) if name.endswith("_kernel")}
    assert {name for row in rows for name in named(row[0])} == kernels
    checks = {check.__name__ for check in kernel_checks.CHECKS}
    for kernel, twins, of_kernel, benchmarks, _ in rows:
        assert named(twins), kernel
        assert all(hasattr(reference, name) for name in named(twins)), kernel
        assert named(of_kernel), kernel
        assert checks.issuperset(named(of_kernel)), kernel
        assert named(benchmarks), kernel
        assert all(f'"{name}":' in BENCHMARK for name in named(benchmarks)), kernel


def test_goals_that_nobody_measured_say_so(tmp_path: Path) -> None:
    script = ROOT / "benchmarks" / "kernels_table.py"
    results = ROOT / "benchmarks" / "results" / "gpu"
    folder = results if results.exists() else tmp_path
    done = subprocess.run(
        [sys.executable, script, folder], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() in PAGE
