"""`run_training` on a real packed set: the loader's stream, its row ids, its refusals."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dsv3data.contracts.config import from_dict
from dsv3data.contracts.errors import BadConfig, BadInput
from dsv3data.contracts.progress import NullSink
from dsv3data.loader.mixture import Stage
from dsv3data.loader.packed_dataset import Batch, PackedDataset
from dsv3data.loader.stream import SequenceStream
from dsv3data.training.checkpoint import list_checkpoints, verify_checkpoint
from dsv3data.training.config import DataConfig
from dsv3data.training.run import TrainResult, run_training, train_on
from tiny_training import CONFIG

TINY = replace(CONFIG, batch_rows=2)


def run(packed: Path, out: Path, steps: int, **changes: Any) -> TrainResult:
    config = replace(TINY, steps=steps, **changes)
    return run_training(config, data=packed, out=out, sink=NullSink())


def column(out: Path, name: str) -> list[Any]:
    return [json.loads(line)[name] for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_train_resume_and_refuse_on_a_packed_set(tiny_packed: Path, tmp_path: Path) -> None:
    whole = run(tiny_packed, tmp_path / "whole", steps=12)
    assert whole.first_loss > whole.last_loss
    run(tiny_packed, tmp_path / "pieces", steps=5)
    pieces = run(tiny_packed, tmp_path / "pieces", steps=12)
    assert column(tmp_path / "pieces", "loss") == column(tmp_path / "whole", "loss")
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


def test_no_run_is_written_into_its_data(tiny_packed: Path) -> None:
    before = sorted(tiny_packed.iterdir())
    for out in (tiny_packed, tiny_packed / "run"):
        with pytest.raises(BadConfig, match="the output folder is, or lies in, an input folder"):
            run(tiny_packed, out, steps=1)
    assert sorted(tiny_packed.iterdir()) == before


def test_reading_ahead_changes_nothing_while_batches_grow(
    tiny_packed: Path, tmp_path: Path
) -> None:
    """Also stopped where a batch grows: what was read ahead of a checkpoint is read again."""
    changes = {"batch_rows": 4, "batch_start_rows": 1, "batch_ramp_tokens": 1024}
    run(tiny_packed, tmp_path / "plain", steps=8, data=DataConfig(prefetch=0), **changes)
    for steps in (3, 8):
        run(tiny_packed, tmp_path / "ahead", steps=steps, data=DataConfig(prefetch=3), **changes)
    assert column(tmp_path / "plain", "rows") == sorted(column(tmp_path / "plain", "rows"))
    assert set(column(tmp_path / "plain", "rows")) == {1, 2, 3, 4}
    assert column(tmp_path / "ahead", "loss") == column(tmp_path / "plain", "loss")


class AsRanks(SequenceStream):
    """Reads every batch as two ranks would."""

    def next(self, n: int, *, rank: int = 0, world: int = 1) -> Batch:
        first = self.copy()
        parts = (super(AsRanks, first).next(n, rank=0, world=2), super().next(n, rank=1, world=2))
        columns = ("input_ids", "n_tokens", "domain_ids", "row_ids")
        joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in columns}
        return replace(parts[0], **joined, piece_lengths=parts[0].piece_lengths)


def test_another_number_of_ranks_goes_on_bitwise(tiny_packed: Path, tmp_path: Path) -> None:
    run(tiny_packed, tmp_path / "whole", steps=6)
    dataset = PackedDataset.open(tiny_packed)
    stream = AsRanks(dataset, seed=TINY.seed)
    config = replace(TINY, steps=3)
    train_on(dataset, stream, config, out=tmp_path / "ranks", sink=NullSink())
    run(tiny_packed, tmp_path / "ranks", steps=6)
    assert column(tmp_path / "ranks", "loss") == column(tmp_path / "whole", "loss")


def test_a_mixture_in_stages_resumes_bitwise(tiny_packed: Path, tmp_path: Path) -> None:
    names = PackedDataset.open(tiny_packed).domains
    only = (f"{names[0]}=1",)
    both = tuple(f"{name}=1" for name in names[:2])
    mixture = DataConfig(stages=(Stage(shares=only, tokens=6 * 128), Stage(shares=both)))
    run(tiny_packed, tmp_path / "whole", steps=8, data=mixture)
    by_domain = [set(losses) for losses in column(tmp_path / "whole", "loss_by_domain")]
    assert by_domain[:3] == [{names[0]}] * 3
    assert set().union(*by_domain[3:]) == set(names[:2])
    for steps in (2, 5, 8):
        run(tiny_packed, tmp_path / "pieces", steps=steps, data=mixture)
    assert column(tmp_path / "pieces", "loss") == column(tmp_path / "whole", "loss")

    stored = json.loads((tmp_path / "whole" / "config.json").read_bytes())["data"]
    assert from_dict(DataConfig, stored) == mixture
    with pytest.raises(BadInput, match="mixture is"):
        run(tiny_packed, tmp_path / "whole", steps=9, data=DataConfig())
    with pytest.raises(BadConfig, match="the set has no rows of domain 'none'"):
        run(
            tiny_packed,
            tmp_path / "no",
            steps=1,
            data=DataConfig(stages=(Stage(shares=("none=1",)),)),
        )
    with pytest.raises(BadConfig, match=r"data\.prefetch must be 0 \(off\) or more, not -1"):
        replace(TINY, data=DataConfig(prefetch=-1))
