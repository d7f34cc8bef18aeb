"""A checkpoint that `transformers` reads, and that is read again: the same logits as ours."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from safetensors.torch import load_file, save_file

from dsv3data.contracts.errors import BadConfig, BadInput
from dsv3data.generation.load import load_trained
from dsv3data.training import hf_export
from dsv3data.training.config import BalanceConfig, OptimizerConfig
from dsv3data.training.hf_export import export_model
from fake_training_data import FakeDataset, FakeStream
from tiny_training import CONFIG as TINY
from tiny_training import Notes, train_tiny

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


# FP8, and back


def test_fp8_has_the_published_layout(run: Path, tmp_path: Path) -> None:
    export_model(run, tmp_path / "hf", dtype="fp8")
    tensors = load_file(tmp_path / "hf" / "model.safetensors")
    codes = {name for name, tensor in tensors.items() if tensor.dtype == torch.float8_e4m3fn}
    assert codes == {name.removesuffix("_scale_inv") for name in tensors if "scale_inv" in name}
    assert len(codes) > 20
    assert {tensors[f"{name}_scale_inv"].dtype for name in codes} == {torch.float32}
    assert tensors["lm_head.weight"].dtype == torch.bfloat16
    config = transformers.AutoConfig.from_pretrained(tmp_path / "hf")
    assert config.quantization_config == {
        "activation_scheme": "dynamic",
        "fmt": "e4m3",
        "quant_method": "fp8",
        "weight_block_size": [128, 128],
    }
    theirs, ours = their_logits(tmp_path / "hf"), our_logits(tmp_path / "hf")
    torch.testing.assert_close(theirs, ours, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(ours, our_logits(run), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("dtype", "within"), [("fp32", 0.0), ("bf16", 0.004), ("fp8", 0.04)])
def test_what_is_exported_is_read_again(
    run: Path, tmp_path: Path, dtype: Literal["fp32", "bf16", "fp8"], within: float
) -> None:
    export_model(run, tmp_path / "hf", dtype=dtype)
    imported = load_trained(tmp_path / "hf")
    assert imported.checkpoint == tmp_path / "hf"
    ours = load_trained(run).model.state_dict()
    for name, tensor in imported.model.state_dict().items():
        error = (tensor - ours[name]).norm() / ours[name].norm().clamp(min=1e-9)
        assert error <= within, name
        if dtype == "bf16" and not name.endswith("bias_E"):
            assert torch.equal(tensor, ours[name].bfloat16().float()), name


def test_weights_that_cannot_be_used_are_refused_by_name(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "hf"
    export_model(run, folder)
    file = folder / "model.safetensors"
    whole = load_file(file)
    name = "model.layers.1.self_attn.o_proj.weight"
    spoiled = {
        "1 tensors missing, 0 without a place": {k: t for k, t in whole.items() if k != name},
        "blocks.1.attention.out.weight is [16, 4], not [16, 16]": whole
        | {name: whole[name][:, :4].contiguous()},
        "blocks.1.attention.out.weight holds 16 numbers that are not finite": whole
        | {name: whole[name].index_fill(0, torch.tensor([3]), float("nan"))},
    }
    for what, tensors in spoiled.items():
        save_file(tensors, file)
        with pytest.raises(BadInput) as caught:
            load_trained(folder)
        assert caught.value.what.endswith(what)
        assert what.startswith("1") is (caught.value.where == name)
    file.write_bytes(b"cut")
    with pytest.raises(BadInput, match=r"model.safetensors cannot be read"):
        load_trained(folder)
    index = {"weight_map": {name: "../model.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(BadInput, match="the index names a file outside of the folder"):
        load_trained(folder)
    with pytest.raises(BadInput, match="an exported model has no average of the weights"):
        load_trained(folder, average=True)
    (folder / "config.json").write_text("[]")
    with pytest.raises(BadInput, match=r"config.json is no JSON object"):
        load_trained(folder)


def test_refusals(run: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="the output folder exists already"):
        export_model(run, tmp_path)
    with pytest.raises(BadInput, match="there is no checkpoint of a training run"):
        export_model(tmp_path, tmp_path / "hf")


# A run that starts from such a folder


class StreamOf(FakeStream):
    """Rows of a given tokenizer."""

    tokenizer = "0" * 64

    def state(self) -> dict[str, int | str]:
        return {**super().state(), "tokenizer": self.tokenizer}


def start_from(folder: Path, out: Path, **changes: Any) -> Notes:
    """Train one step that moves nothing."""
    notes, still = Notes(), OptimizerConfig(lr=1e-30)
    stream = StreamOf(FakeDataset(), seed=0)
    changes = {"steps": 1, "optimizer": still, "balance": BalanceConfig(gamma=0.0)} | changes
    train_tiny(out, notes, stream=stream, start_from=folder, **changes)
    return notes


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp8"])
@pytest.mark.parametrize("order", ["embedding_hidden", "hidden_embedding"])
def test_a_run_starts_from_imported_weights(
    run: Path, tmp_path: Path, dtype: Literal["fp32", "bf16", "fp8"], order: Any
) -> None:
    export_model(run, tmp_path / "hf", dtype=dtype)
    model = replace(TINY.model, mtp_input_order=order)
    notes = start_from(tmp_path / "hf", tmp_path / "next", model=model)
    assert f"starting from the imported weights in {tmp_path / 'hf'}" in notes.text
    assert "the tokenizer of these weights is not known" in notes.text
    weights = load_trained(tmp_path / "next").model.state_dict()
    imported = load_trained(tmp_path / "hf").model.state_dict()
    if order == "hidden_embedding":
        left, right = imported["mtp.projection.weight"].chunk(2, dim=1)
        imported["mtp.projection.weight"] = torch.cat((right, left), dim=1)
    assert all(torch.equal(weights[name], imported[name]) for name in imported)


def test_imported_weights_that_a_run_cannot_start_from(
    run: Path, tmp_path: Path, tiny_tokenizer: Path
) -> None:
    folder, out = tmp_path / "hf", tmp_path / "next"
    export_model(run, folder, dtype="fp32", tokenizer=tiny_tokenizer)
    with pytest.raises(BadInput, match="belong to another tokenizer than the packed rows") as no:
        start_from(folder, out)
    assert no.value.fix == "tokenize and pack with the tokenizer of these weights"
    (folder / "tokenizer.json").unlink()
    with pytest.raises(BadConfig) as other:
        start_from(folder, out, model=replace(TINY.model, vocab_size=256, mtp_depth=0))
    assert other.value.what == (
        "the weights to start from are of another model: model.mtp_depth: 1 → 0, "
        "model.vocab_size: 128 → 256"
    ).replace(", ", "; ")
    tensors = load_file(folder / "model.safetensors")
    name = "model.norm.weight"
    save_file(tensors | {name: tensors[name] * math.nan}, folder / "model.safetensors")
    with pytest.raises(BadInput, match=r"final_norm.weight holds 16 numbers that are not finite"):
        start_from(folder, out)
    del tensors[name]
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(BadInput, match="1 tensors missing, 0 without a place"):
        start_from(folder, out)
    assert not (out / "checkpoints").exists()


def test_a_run_of_another_tokenizer_is_refused(tmp_path: Path) -> None:
    train_tiny(tmp_path / "run", steps=1, stream=StreamOf(FakeDataset(), seed=0))
    start_from(tmp_path / "run", tmp_path / "same")
    other = StreamOf(FakeDataset(), seed=0)
    other.tokenizer = "1" * 64
    with pytest.raises(BadInput, match=r"than the packed rows: 0{12}… and 1{12}…"):
        train_tiny(tmp_path / "next", steps=1, stream=other, start_from=tmp_path / "run")
