"""A checkpoint that `transformers` reads: the same logits as ours."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from dsv3data.contracts.errors import BadInput
from dsv3data.generation.load import load_trained
from dsv3data.training import hf_export
from dsv3data.training.hf_export import export_model
from tiny_training import train_tiny

transformers = pytest.importorskip("transformers")
IDS = torch.arange(3, 15)[None]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("exported") / "run"
    train_tiny(out, steps=4, ema_decay=0.5)
    return out


def their_logits(folder: Path) -> torch.Tensor:
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        logits: torch.Tensor = model(IDS).logits
    return logits


def our_logits(run: Path, *, average: bool = False) -> torch.Tensor:
    model = load_trained(run, average=average).model
    with torch.no_grad():
        return model.logits(model(IDS).hidden_BTD)


@pytest.mark.parametrize("average", [False, True])
def test_logits_equal_ours(run: Path, tmp_path: Path, average: bool) -> None:
    files = export_model(run, tmp_path / "hf", dtype="fp32", average=average)
    assert sorted(files) == ["config.json", "model.safetensors"]
    theirs = their_logits(tmp_path / "hf")
    torch.testing.assert_close(theirs, our_logits(run, average=average), rtol=1e-4, atol=1e-5)
    other = our_logits(run, average=not average)
    assert not torch.allclose(theirs, other, rtol=1e-4, atol=1e-5)


def test_shards_and_bf16(
    run: Path, tmp_path: Path, tiny_tokenizer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hf_export, "_SHARD_BYTES", 10_000)
    files = export_model(run, tmp_path / "hf", tokenizer=tiny_tokenizer)
    assert {"tokenizer.json", "tokenizer_config.json"} <= set(files)
    index = json.loads((tmp_path / "hf" / "model.safetensors.index.json").read_text())
    shards = sorted(set(index["weight_map"].values()))
    assert len(shards) > 2
    tensors = {
        name: t for shard in shards for name, t in load_file(tmp_path / "hf" / shard).items()
    }
    assert {name: index["weight_map"][name] for name in tensors} == index["weight_map"]
    kinds = {name.endswith("e_score_correction_bias"): t.dtype for name, t in tensors.items()}
    assert kinds == {True: torch.float32, False: torch.bfloat16}
    torch.testing.assert_close(their_logits(tmp_path / "hf"), our_logits(run), rtol=0.1, atol=0.02)


def test_refusals(run: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="the output folder exists already"):
        export_model(run, tmp_path)
    with pytest.raises(BadInput, match="there is no checkpoint of a training run"):
        export_model(tmp_path, tmp_path / "hf")
