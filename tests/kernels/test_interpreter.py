"""The kernels themselves, run by Triton's interpreter, against their twins.

In a process of its own: whether Triton interprets is decided when a kernel is defined.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import kernel_checks

SCRIPT = Path(kernel_checks.__file__)


def test_every_kernel_equals_its_reference_in_the_interpreter() -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, "cpu", "0"],
        env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [record for record in records if not record["passed"]] == [], done.stderr[-4000:]
    assert [r["check"] for r in records] == [check.__name__ for check in kernel_checks.CHECKS]
    assert done.returncode == 0
