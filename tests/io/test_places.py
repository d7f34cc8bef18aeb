"""Output never goes into the input."""

from __future__ import annotations

from pathlib import Path

import pytest

from dsv3data.contracts.errors import BadConfig
from dsv3data.io.places import refuse_output_inside
from run_cli import run_cli


def test_an_output_in_an_input_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "in")
    for out in ("in", "in/out", "in/deep/out", "other/../in/out", "link/out"):
        with pytest.raises(BadConfig, match="is, or lies in, an input folder"):
            refuse_output_inside([tmp_path / "in"], tmp_path / out)


def test_an_output_beside_an_input_is_not(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in.jsonl").touch()
    for out in ("input", "out", "in2/in"):
        refuse_output_inside([tmp_path / "in", tmp_path / "in.jsonl"], tmp_path / out)


def test_the_commands_refuse_it(tiny_corpus: Path, tiny_tokenizer: Path, tiny_tokens: Path) -> None:
    for words in (
        ("tokenizer", "train", tiny_corpus, "--out", tiny_corpus / "out"),
        ("tokenize", tiny_corpus, "--tokenizer", tiny_tokenizer, "--out", tiny_corpus / "out"),
        ("pack", tiny_tokens, "--out", tiny_tokens),
    ):
        result = run_cli(*words)
        assert result.code == 3
        assert "lies in, an input folder" in result.err
    assert not (tiny_corpus / "out").exists()
