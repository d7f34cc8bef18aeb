"""Words for people: quantities, durations, lines for logs and the bar for terminals."""

from __future__ import annotations

import io
import json
import math
import re
import sys

import click
import pytest
from rich.console import Console

from dsv3data.contracts.errors import BadInput
from dsv3data_cli import output as output_module
from dsv3data_cli.commands.demo import _sparkline
from dsv3data_cli.options import output_options
from dsv3data_cli.output import LineSink, LiveSink, Output, duration, quantity


@pytest.mark.parametrize(
    ("amount", "unit", "text"),
    [
        (0, "B", "0 B"),
        (999, "B", "999 B"),
        (1000, "B", "1 KB"),
        (15_234_567, "B", "15.2 MB"),
        (2.5e12, "B", "2.5 TB"),
        (12.345, "B", "12.3 B"),
        (3_941_000, "tokens", "3.94 M tokens"),
        (7, "docs", "7 docs"),
        (999_600, "docs", "1 M docs"),
        (0.5, "rows", "0.5 rows"),
        (1e18, "B", "1e+03 PB"),
    ],
)
def test_quantities_have_three_digits(amount: float, unit: str, text: str) -> None:
    assert quantity(amount, unit) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0:00"),
        (7.4, "0:07"),
        (59.6, "1:00"),
        (750, "12:30"),
        (3599.7, "1:00:00"),
        (3723, "1:02:03"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


class Clock:
    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(output_module.time, "monotonic", made)
    monkeypatch.setattr(output_module, "_LINE_SECONDS", 5.0)
    monkeypatch.setattr(
        output_module.Meter.__init__, "__kwdefaults__", {"total": None, "clock": made}
    )
    return made


def test_lines_come_every_few_seconds_and_at_the_end(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    sink = LineSink()
    sink.phase("tokenize", total=4_000_000, unit="B")
    for _ in range(8):
        clock.now += 2
        sink.advance(400_000, tokens=100_000)
    sink.phase("publish")
    clock.now += 1
    sink.close()
    sink.close()
    assert capsys.readouterr().err.splitlines() == [
        "tokenize: 1.2 MB · 200 KB/s · 300 K tokens · 50 K tokens/s · 0:06 · ETA 0:14",
        "tokenize: 2.4 MB · 200 KB/s · 600 K tokens · 50 K tokens/s · 0:12 · ETA 0:08",
        "tokenize: 3.2 MB · 200 KB/s · 800 K tokens · 50 K tokens/s · 0:16",
        "publish: 0:01",
    ]


@pytest.mark.usefixtures("clock")
def test_a_heading_comes_after_the_phase_before_it(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output(json_mode=False, quiet=False)
    output.sink.phase("collect documents")
    output.heading("[2/6] train")
    output.sink.phase("count")
    output.close()
    said = capsys.readouterr().err.splitlines()
    assert said == ["collect documents: 0:00", "[2/6] train", "count: 0:00"]


@pytest.mark.usefixtures("clock")
def test_a_phase_that_an_error_ends_has_no_tick(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    @click.command()
    @output_options
    def fail(output: Output) -> None:
        output.sink.phase("pack")
        raise BadInput("no", where="here", effect="none", fix="other")

    for terminal, text in ((False, "pack: 0:00 · not finished"), (True, "✗ pack  0:00")):
        monkeypatch.setattr(sys.stderr, "isatty", lambda terminal=terminal: terminal)
        with pytest.raises(BadInput):
            fail.main([], standalone_mode=False)
        assert text in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", capsys.readouterr().err)


def test_the_part_that_binds_is_named(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    sink = LineSink()
    sink.phase("tokenize", total=100, unit="B")
    clock.now += 2
    sink.advance(100, documents=3, read_us=300_000, encode_us=700_000)
    sink.close()
    assert capsys.readouterr().err == (
        "tokenize: 100 B · 50 B/s · 3 documents · 1.5 documents/s · encode takes 70 % · 0:02\n"
    )


def test_more_than_announced_is_shown_as_all(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    sink = LineSink()
    sink.phase("read", total=10, unit="docs")
    clock.now += 2
    sink.advance(14)
    sink.close()
    assert capsys.readouterr().err == "read: 10 docs · 7 docs/s · 0:02\n"


def test_a_terminal_gets_a_bar_and_one_line_that_stays(
    clock: Clock, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    output = Output(json_mode=False, quiet=False)
    assert isinstance(output.sink, LiveSink)
    output.sink.phase("pack", total=10, unit="rows")
    clock.now += 2
    output.sink.advance(10)
    output.sink.note("a [note]")
    output.close()
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", capsys.readouterr().err)
    assert "a [note]" in text
    assert text.rstrip().splitlines()[-1].strip() == "✓ pack  10 rows · 5 rows/s · 0:02"


def test_a_narrow_terminal_keeps_the_bar(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    sink = LiveSink()
    sink.phase("tokenize", total=200_000_000, unit="B")
    clock.now += 10
    sink.advance(100_000_000, tokens=30_000_000, documents=7_000, encode_us=9, read_us=1)
    assert sink._progress is not None
    console = Console(width=70, file=io.StringIO())
    console.print(sink._progress.get_renderable())
    sink.close()
    (line,) = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert line[1:].startswith(f" tokenize {12 * '━'}")
    assert "50 % ETA 0:10 · 100 MB" in line
    assert line.endswith("…")


@pytest.mark.parametrize("terminal", [True, False])
def test_quiet_is_quiet_everywhere(
    terminal: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    output = Output(json_mode=True, quiet=True)
    output.sink.phase("x", total=1)
    output.sink.advance(1)
    output.sink.note("y")
    output.result({"é": 1}, lambda console: None)
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ('{\n  "é": 1\n}\n', "")


def test_sparklines() -> None:
    assert _sparkline([]) == ""
    assert _sparkline([1.0, 1.0]) == "▁▁"
    assert _sparkline([8.0, 1.0, 4.5]) == "█▁▅"
    falling = _sparkline([float(1000 - step) for step in range(1000)])
    assert len(falling) == 60
    assert (falling[0], falling[-1]) == ("█", "▁")


def test_json_has_no_nan(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output(json_mode=True, quiet=True)
    tree = {"loss": math.nan, "curve": [1.5, math.inf, (2, math.nan)], "deep": {"n": True}}
    output.result(tree, lambda console: None)
    found = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert found == {"loss": None, "curve": [1.5, None, [2, None]], "deep": {"n": True}}


@pytest.mark.parametrize("kind", [LineSink, LiveSink])
def test_notes_cannot_drive_a_terminal(
    kind: type[LineSink] | type[LiveSink], capsys: pytest.CaptureFixture[str]
) -> None:
    kind().note("skipped: a\x1b[2J\u202eb [red]c.csv")
    assert capsys.readouterr().err == "skipped: a␛[2J‹U+202E›b [red]c.csv\n"
