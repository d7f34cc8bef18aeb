"""`dsv3data generate` on a run of a few steps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from run_cli import CliResult, run_cli


@pytest.fixture(scope="module")
def run(tiny_packed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "run"
    config = Path(__file__).parents[2] / "configs" / "tiny.toml"
    trained = run_cli(
        *("train", "--config", config, "--data", tiny_packed, "--out", out, "--quiet"),
        *("--set", "steps=3", "--set", "threads=1"),
    )
    assert trained.code == 0, trained.err
    return out


def generate(run: Path, tokenizer: Path, *options: str) -> CliResult:
    return run_cli("generate", run, "--tokenizer", tokenizer, *options, "--max-tokens", "12")


def test_a_continuation(run: Path, tiny_tokenizer: Path) -> None:
    options = ("--prompt", "The <｜User｜>", "--temperature", "0.8", "--seed", "3", "--compare")
    result = generate(run, tiny_tokenizer, *options, "--json")
    assert result.code == 0, result.err
    tree = result.json
    assert len(tree["ids"]) == 12 or tree["ended"]
    assert tree["same_tokens"] is True
    assert tree["guessed"] >= 6
    assert (tree["step"], Path(tree["checkpoint"]).name) == (3, "step-00000003")
    shown = generate(run, tiny_tokenizer, *options)
    assert "The <｜User｜>" in shown.out
    assert "the same tokens" in shown.out
    assert "guesses right" in shown.out


def test_the_middle_between_prompt_and_suffix(run: Path, tiny_tokenizer: Path) -> None:
    result = generate(run, tiny_tokenizer, "--prompt", "def f(", "--suffix", "\n    return x")
    assert result.code == 0, result.err
    assert result.out.startswith("def f(")
    assert "    return x" in result.out


def test_refusals(run: Path, tiny_tokenizer: Path, tmp_path: Path) -> None:
    none = generate(tmp_path, tiny_tokenizer, "--prompt", "x")
    assert none.code == 3
    assert "there is no checkpoint of a training run" in none.err
    cold = generate(run, tiny_tokenizer, "--prompt", "x", "--temperature", "-1")
    assert cold.code == 3
    assert "temperature must be" in cold.err
    last = generate(run, tiny_tokenizer, "--prompt", "x", "--average")
    assert last.code == 3
    assert "the checkpoint has no average of the weights" in last.err
    empty = generate(run, tiny_tokenizer, "--prompt", "")
    assert empty.code == 3
    assert "do not fit" in empty.err


def test_a_tokenizer_with_more_ids_than_the_model(
    run: Path, tiny_tokenizer: Path, tmp_path: Path
) -> None:
    tree = json.loads((tiny_tokenizer / "tokenizer.json").read_text(encoding="utf-8"))
    tree["added_tokens"].append({**tree["added_tokens"][-1], "id": 900_000, "content": "<more>"})
    (tmp_path / "tokenizer.json").write_text(json.dumps(tree), encoding="utf-8")
    result = generate(run, tmp_path, "--prompt", "x")
    assert result.code == 3
    assert "the tokenizer has 900,001 ids, the model's embedding" in result.err


def test_the_model_for_transformers(run: Path, tiny_tokenizer: Path, tmp_path: Path) -> None:
    words = ("export", run, "--format", "hf-model", "--tokenizer", tiny_tokenizer)
    result = run_cli(*words, "--out", tmp_path / "hf")
    assert result.code == 0, result.err
    assert "model.safetensors" in result.out
    again = run_cli(*words, "--out", tmp_path / "hf")
    assert again.code == 3
    assert "the output folder exists already" in again.err
    fresh = run_cli(*words, "--out", tmp_path / "hf", "--fresh", "--json")
    assert set(fresh.json["files"]) == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
