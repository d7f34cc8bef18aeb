"""--executor and its companions, where no cluster is needed."""

from __future__ import annotations

from pathlib import Path

import pytest

from run_cli import run_cli


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--tasks", "3"], "are for --executor slurm and ray"),
        (["--wait"], "one machine is divided by --workers"),
        (["--executor", "ray"], "--executor ray needs --tasks, the number of its tasks"),
        (["--executor", "ray", "--tasks", "2", "--submit", "x"], "--submit takes KEY=VALUE"),
        (["--executor", "kubernetes"], "is not one of 'local', 'slurm', 'ray'"),
    ],
)
def test_what_does_not_go_together(words: list[str], said: str, tmp_path: Path) -> None:
    for command in (["tokenize", tmp_path, "--tokenizer", tmp_path], ["pack", tmp_path]):
        result = run_cli(*command, "--out", tmp_path / "out", *words)
        assert result.code == 2
        assert said in result.err
        assert not (tmp_path / "out").exists()


def test_without_slurm_that_is_said(
    python_corpus: Path, tokenize_words: list[str | Path], tmp_path: Path
) -> None:
    words = [*tokenize_words, "--out", tmp_path / "out", "--executor", "slurm", "--tasks", "2"]
    result = run_cli(*words, env={"PATH": str(tmp_path)})
    assert result.code == 5
    assert "there is no Slurm on this machine: scontrol is not found" in result.err


def test_progress_of_a_folder_that_no_cluster_worked_on(tiny_tokens: Path) -> None:
    result = run_cli("progress", tiny_tokens)
    assert result.code == 3
    assert "no run of many tasks was started for this folder" in result.err
