"""`dsv3data --help` answers at once: nothing heavy is imported for it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from run_cli import SCRIPT

HEAVY = (
    "torch", "triton", "pyarrow", "duckdb", "datasets", "transformers", "tokenizers", "numpy",
    "rich", "zstandard", "multiprocessing.pool", "safetensors",
)  # fmt: skip


def cpu_seconds(*arguments: str) -> float:
    """CPU time of one run: wall time would measure what else this machine is doing."""
    process = subprocess.Popen([SCRIPT, *arguments], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_utime + usage.ru_stime


def test_help_takes_less_than_three_tenths_of_a_second() -> None:
    cpu_seconds("--help")  # compiles what was edited
    # The least of several: what else the machine does can only add.
    assert min(cpu_seconds("--help") for _ in range(10)) < 0.3


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["pack", "--help"], ["demo", "--help"], ["oops"]]
)
def test_nothing_heavy_is_imported(arguments: list[str]) -> None:
    code = (
        "import sys\n"
        "from dsv3data_cli.main import run\n"
        "run(sys.argv[1:])\n"
        f"sys.stderr.write('imported:' + ' '.join(n for n in {HEAVY} if n in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    assert done.stderr.split("imported:")[1] == ""


def test_importing_the_command_line_is_not_importing_its_work() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "import dsv3data_cli.main"],
        capture_output=True,
        text=True,
        check=True,
    )
    imported = {line.split("|")[-1].strip() for line in done.stderr.splitlines()}
    assert "dsv3data_cli.main" in imported
    assert "click" in imported
    assert not {name for name in imported if name.split(".")[0] in HEAVY}
    assert not {name for name in imported if name.startswith("dsv3data_pipelines")}
