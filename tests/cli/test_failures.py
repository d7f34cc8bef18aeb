"""What a command line says when the system refuses, and when names are hostile."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from dsv3data.audit import doctor
from dsv3data_cli.main import run


def test_a_refusal_of_the_system_is_exit_code_5(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: Path) -> None:
        raise PermissionError(13, "Permission denied", "/some/file")

    monkeypatch.setattr(doctor, "examine", refuse)
    assert run(["doctor"]) == 5
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == [
        "error: the operating system refused: Permission denied",
        "where: /some/file",
    ]
    assert [line.partition(":")[0] for line in lines[2:]] == ["effect", "fix"]


def test_an_os_error_of_our_own_making_is_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: Path) -> None:
        raise OSError("no number")

    monkeypatch.setattr(doctor, "examine", refuse)
    with pytest.raises(OSError, match="no number"):
        run(["doctor"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_where_no_unit_is_under_way_ends_the_command_at_once(
    number: signal.Signals, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(folder: Path) -> None:
        try:
            signal.raise_signal(number)
        except Exception as error:
            raise AssertionError("a signal was taken for an error of the work") from error

    monkeypatch.setattr(doctor, "examine", interrupted)
    assert run(["doctor"]) == 75
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == f"error: stopped by {number.name}"
    assert lines[2:] == [
        "effect: all finished work is kept; nothing unfinished has a final name",
        "fix: run the same command again to continue",
    ]


def test_errors_cannot_drive_a_terminal(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(["verify", str(tmp_path / "\x1b[2J\u202ex")]) == 3
    error = capsys.readouterr().err
    assert "\x1b" not in error
    assert "␛[2J‹U+202E›x" in error
    assert len(error.splitlines()) == 4
