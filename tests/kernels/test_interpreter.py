"""The kernels themselves, run by Triton's interpreter, against their twins.

In a process of its own: whether Triton interprets is decided when a kernel is defined.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import triton

import kernel_checks

SCRIPT = Path(kernel_checks.__file__)


def _version(package: str) -> tuple[int, ...]:
    return tuple(int(part) for part in package.split(".")[:2])


@pytest.mark.skipif(
    _version(triton.__version__) < (3, 7) and _version(np.__version__) >= (2, 4),
    reason="the interpreter of Triton 3.6 takes no tensor in a range under numpy 2.4",
)
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
