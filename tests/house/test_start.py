"""`dsv3data --help` answers at once: nothing heavy is imported for it."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = (
    "torch", "triton", "pyarrow", "duckdb", "datasets", "transformers", "tokenizers", "numpy",
    "rich", "zstandard", "multiprocessing.pool", "safetensors",
)  # fmt: skip


def test_help_imports_few_modules() -> None:
    """Their number is what it costs: 150 modules take a tenth of a second, on an idle machine."""
    code = "import sys; from dsv3data_cli.main import run; run(['--help']); print(len(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout.splitlines()[-1]) < 230


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
