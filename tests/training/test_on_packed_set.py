"""`run_training` on a real packed set: the loader's stream, its row ids, its refusals."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from dsv3data.contracts.errors import BadInput
from dsv3data.contracts.progress import NullSink
from dsv3data.loader.packed_dataset import PackedDataset
from dsv3data.training.checkpoint import list_checkpoints, verify_checkpoint
from dsv3data.training.run import TrainResult, run_training
from tiny_training import CONFIG


def run(data: Path, out: Path, steps: int, seed: int = 0) -> TrainResult:
    config = replace(CONFIG, steps=steps, batch_rows=2, seed=seed)
    return run_training(config, data=data, out=out, sink=NullSink())


def test_train_resume_and_refuse_on_a_packed_set(tiny_packed: Path, tmp_path: Path) -> None:
    whole = run(tiny_packed, tmp_path / "whole", steps=12)
    assert whole.first_loss > whole.last_loss
    run(tiny_packed, tmp_path / "pieces", steps=5)
    pieces = run(tiny_packed, tmp_path / "pieces", steps=12)
    assert (pieces.last_loss, pieces.tokens) == (whole.last_loss, whole.tokens)

    state = verify_checkpoint(list_checkpoints(tmp_path / "pieces" / "checkpoints")[0])
    dataset = PackedDataset.open(tiny_packed)
    assert state["loader"]["root"] == dataset.root
    assert state["loader"]["consumed"] + state["loader"]["epoch"] * dataset.n_rows == 24
    assert state["config"]["model"]["vocab_size"] == dataset.vocab_size
    assert state["config"]["model"]["context"] == dataset.context

    first = json.loads((tmp_path / "whole" / "metrics.jsonl").open().readline())
    assert 1 < first["bits_per_byte"] < 16

    with pytest.raises(BadInput, match="cannot continue from this state: seed is 1 here, 0"):
        run(tiny_packed, tmp_path / "pieces", steps=14, seed=1)
