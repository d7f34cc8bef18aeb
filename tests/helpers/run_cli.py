"""The installed command line, as a user starts it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SCRIPT = Path(sys.executable).with_name("dsv3data")


@dataclass(frozen=True)
class CliResult:
    """What a command left: exit code (negative: killed by that signal) and its two streams."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """stdout as the one JSON object that `--json` promises."""
        tree: dict[str, Any] = json.loads(self.out)
        return tree


def run_cli(
    *arguments: str | Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float = 840,
    open_files: int | None = None,
) -> CliResult:
    """Run `dsv3data arguments…` to its end, with `env` on top of this process's environment, and at
    most so many open files."""
    limit = [] if open_files is None else ["bash", "-c", f'ulimit -n {open_files}; exec "$@"', "-"]
    done = subprocess.run(
        [*limit, *command_line(arguments)],
        env={**os.environ, **(env or {})},
        cwd=cwd,
        capture_output=True,
        timeout=timeout,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    return CliResult(done.returncode, done.stdout.decode(), done.stderr.decode())


def command_line(arguments: Sequence[str | Path]) -> list[str]:
    """The words of a command for `subprocess`."""
    return [str(SCRIPT), *map(str, arguments)]
