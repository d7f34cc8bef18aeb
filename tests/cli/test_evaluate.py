"""`dsv3data evaluate needle` on a run of two steps, and its place in the run's report."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from dsv3data.contracts.progress import NullSink
from dsv3data.training.run import run_training
from dsv3data_cli.main import run as command
from tiny_training import CONFIG, train_tiny


def test_needle_in_terminal_json_and_report(
    tiny_packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, page = tmp_path / "run", tmp_path / "run.html"
    run_training(replace(CONFIG, steps=2), data=tiny_packed, out=out, sink=NullSink())
    words = ["evaluate", "needle", str(out), "--data", str(tiny_packed)]
    words += ["--lengths", "96,128", "--depths", "0,1", "--samples", "1"]
    assert command([*words, "--quiet"]) == 0
    shown = capsys.readouterr().out
    assert "at 100%" in shown
    assert "0% · " in shown
    assert command([*words, "--json"]) == 0
    tree = json.loads(capsys.readouterr().out)
    assert tree == json.loads((out / "needle.json").read_bytes())
    assert [(cell["length"], cell["depth"]) for cell in tree["cells"]] == [
        (96, 0.0), (96, 1.0), (128, 0.0), (128, 1.0)
    ]  # fmt: skip
    assert all(5 < cell["nats"] < 10 for cell in tree["cells"])
    assert command(["report", str(out), "--html", str(page), "--quiet"]) == 0
    text = page.read_text(encoding="utf-8")
    assert "Needles found" in text
    assert "at 100%, tokens 128: 0.00" in text
    capsys.readouterr()
    assert command([*words, "--lengths", "4096"]) == 3
    assert "do not fit" in capsys.readouterr().err
    assert command([*words, "--lengths", "many"]) == 2
    assert "is not a number, or numbers with commas" in capsys.readouterr().err


def test_another_vocabulary_is_refused(
    tiny_packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train_tiny(tmp_path, steps=1)  # on made-up rows of 128 ids
    assert command(["evaluate", "needle", str(tmp_path), "--data", str(tiny_packed)]) == 3
    assert "the packed set needs an embedding of " in capsys.readouterr().err
    assert not (tmp_path / "needle.json").exists()
