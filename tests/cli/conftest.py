"""The command line, called in the test's own process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dsv3data_cli.main import run
from run_cli import CliResult


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., CliResult]:
    """Exit code and both streams of a command."""

    def call(*arguments: str | Path) -> CliResult:
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return CliResult(code, printed.out, printed.err)

    return call
