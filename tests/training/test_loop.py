"""The loop from outside: what it writes, what it says, when it gives up."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dsv3data.contracts.errors import BadConfig, BadInput, EnvironmentFault
from dsv3data.io.lock import OutputLock
from dsv3data.model.config import ModelConfig
from dsv3data.training import step as step_module
from dsv3data.training.checkpoint import list_checkpoints, load_weights
from dsv3data.training.metrics import (
    JsonLines,
    bits_per_byte,
    clock,
    loss_by_domain,
    max_violation,
    mean_of,
)
from dsv3data.training.run import fit_to_data
from fake_training_data import FakeDataset
from tiny_training import CONFIG, MODEL, Notes, train_tiny


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def spoil_steps(monkeypatch: pytest.MonkeyPatch, steps: set[int]) -> None:
    """The loss of these calls of `compute_losses` (from 1) becomes NaN."""
    real, calls = step_module.compute_losses, iter(range(1, 10**6))

    def spoiled(*args: Any, **kwargs: Any) -> Any:
        losses = real(*args, **kwargs)
        bad = next(calls) in steps
        return replace(losses, total=losses.total * math.nan) if bad else losses

    monkeypatch.setattr(step_module, "compute_losses", spoiled)


def test_first_and_last_steps_of_a_short_run_are_not_the_same(tmp_path: Path) -> None:
    result = train_tiny(tmp_path, steps=3)
    losses = [
        record["main_loss"] for record in map(json.loads, (tmp_path / "metrics.jsonl").open())
    ]
    assert (result.first_loss, result.last_loss) == (losses[0], losses[2])


def test_the_loss_falls_and_the_result_says_so(tmp_path: Path) -> None:
    result = train_tiny(tmp_path, steps=40)
    assert result.first_loss > result.last_loss + 0.5
    assert result.best_loss <= result.last_loss
    assert 0 < result.best_step <= 40
    assert (result.steps, result.out) == (40, tmp_path)
    assert result.tokens == sum(16 - 5 * (row % 64 % 7 == 6) for row in range(160))
    assert result.tokens_per_s > 0
    assert result.bits_per_byte == pytest.approx(
        result.last_loss / math.log(2) / 3, rel=1e-3
    )  # every fake token is three bytes


def test_metrics_hold_one_object_a_step(tmp_path: Path) -> None:
    train_tiny(tmp_path, steps=5)
    lines = records(tmp_path / "metrics.jsonl")
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5]
    assert lines[0]["lr"] == pytest.approx(0.005)
    assert lines[0]["loss"] == pytest.approx(
        lines[0]["main_loss"] + 0.3 * lines[0]["mtp_loss"] + 1e-4 * lines[0]["balance_loss"]
    )
    # Rows 0 to 3, each whole, take turns in two domains.
    by_domain = lines[0]["loss_by_domain"]
    assert list(by_domain) == ["even", "odd"]
    assert sum(by_domain.values()) / 2 == pytest.approx(lines[0]["main_loss"], rel=1e-5)
    assert len(lines[0]["max_violation_by_layer"]) == 2
    assert ["mtp_acceptance" in line for line in lines] == [False, False, False, True, True]
    assert 0 <= lines[-1]["mtp_acceptance"] <= 1
    assert all(line["data_wait_s"] >= 0 and line["tokens_per_s"] > 0 for line in lines)
    assert json.loads((tmp_path / "config.json").read_text())["model"]["vocab_size"] == 128


def test_a_person_reads_sizes_and_a_line_every_few_steps(tmp_path: Path) -> None:
    notes = Notes()
    train_tiny(tmp_path, notes, steps=8)
    assert notes.lines[0].startswith("model: ")
    assert "parameters" in notes.lines[0]
    step_lines = [line for line in notes.lines if line.startswith("step ") and "loss" in line]
    assert [line.split()[1] for line in step_lines] == ["4/8", "8/8"]
    assert "ETA 0:00" in step_lines[-1]
    assert all(word in step_lines[0] for word in ("bpb", "lr", "tok/s", "wait", "load"))


def test_a_model_larger_than_the_memory_is_refused_but_described(tmp_path: Path) -> None:
    notes = Notes()
    with pytest.raises(EnvironmentFault, match=r"needs [\d,.]+ GiB for weights, gradients and mom"):
        train_tiny(tmp_path / "out", notes, model=ModelConfig())
    assert "model: 682,6" in notes.text
    assert "rows of the data have 16 ids, fewer than the model's context" in notes.text
    assert not (tmp_path / "out").exists()
    train_tiny(tmp_path / "out", model=ModelConfig(), dry_run=True)


def test_dry_run_describes_and_writes_nothing(tmp_path: Path) -> None:
    notes = Notes()
    result = train_tiny(tmp_path / "out", notes, dry_run=True)
    assert " FLOP; 8 steps are 512 tokens" in notes.text
    assert "checkpoints: 0.00 GiB of CPU memory for a copy" in notes.text
    assert result.steps == 0
    assert not (tmp_path / "out").exists()


def test_a_finished_run_is_left_alone(tmp_path: Path) -> None:
    first = train_tiny(tmp_path, steps=4)
    notes = Notes()
    again = train_tiny(tmp_path, notes, steps=4)
    assert "nothing left to train: step 4 of 4 is done" in notes.lines
    assert (again.last_loss, again.tokens) == (first.last_loss, first.tokens)


def test_a_skipped_step_names_its_rows_and_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil_steps(monkeypatch, {2, 4})
    notes = Notes()
    result = train_tiny(tmp_path, notes, steps=6)
    assert result.steps == 6
    skipped = records(tmp_path / "skipped_steps.jsonl")
    assert [line["step"] for line in skipped] == [2, 4]
    assert skipped[0]["row_ids"] == [4, 5, 6, 7]
    assert skipped[0]["loss"] is None
    assert skipped[0]["reason"] == "not finite"
    assert len(skipped[0]["row_losses"]) == 4
    assert "WARNING step 2 skipped (not finite): loss nan" in notes.text
    assert records(tmp_path / "metrics.jsonl")[1]["skipped"] is True


def test_three_skipped_steps_in_a_row_stop_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil_steps(monkeypatch, {3, 5, 6, 7})
    with pytest.raises(BadInput) as caught:
        train_tiny(tmp_path, steps=20)
    assert caught.value.what.startswith(
        "3 steps in a row had a loss or gradient that is not finite"
    )
    assert caught.value.where.startswith("step 7, rows [24, 25, 26, 27]")
    assert "no skipped step changed a weight" in caught.value.effect
    assert list_checkpoints(tmp_path / "checkpoints")[0].name == "step-00000004"


def test_skipped_steps_change_no_weight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    every_step = replace(CONFIG.checkpoint, every=1)
    spoil_steps(monkeypatch, {3, 4})
    train_tiny(tmp_path, steps=4, checkpoint=every_step)
    after_4, after_3, after_2 = list_checkpoints(tmp_path / "checkpoints")
    weights = load_weights(after_2)
    for later in (after_3, after_4):
        others = load_weights(later)
        assert all(torch.equal(weights[name], others[name]) for name in weights)


def test_a_second_process_on_the_same_output_is_refused(tmp_path: Path) -> None:
    with OutputLock(tmp_path), pytest.raises(EnvironmentFault, match="is in use by pid"):
        train_tiny(tmp_path, steps=2)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("vocab_size", 64, "model.vocab_size is 64, but the packed data needs 128"),
        ("context", 8, "model.context is 8, but the packed data needs 16"),
    ],
)
def test_a_model_too_small_for_the_data_is_refused(name: str, value: int, message: str) -> None:
    config = replace(CONFIG, model=replace(MODEL, **{name: value}))
    with pytest.raises(BadConfig) as caught:
        fit_to_data(config, FakeDataset())
    assert caught.value.what == message
    assert caught.value.fix == f"set model.{name}=0 to take it from the data"


def test_a_larger_vocabulary_than_the_data_needs_is_fine(tmp_path: Path) -> None:
    assert train_tiny(tmp_path, steps=1, model=replace(MODEL, vocab_size=256)).steps == 1


def test_training_without_mtp_or_without_experts(tmp_path: Path) -> None:
    dense = replace(MODEL, n_dense_layers=2, mtp_depth=0)
    assert train_tiny(tmp_path, steps=2, model=dense).steps == 2
    line = records(tmp_path / "metrics.jsonl")[0]
    assert line["mtp_loss"] is None
    assert line["max_violation_by_layer"] == []


def test_a_torn_last_line_of_the_metrics_is_dropped(tmp_path: Path) -> None:
    train_tiny(tmp_path, steps=4)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "lo')
    train_tiny(tmp_path, steps=6)
    assert [line["step"] for line in records(tmp_path / "metrics.jsonl")] == [1, 2, 3, 4, 5, 6]


def test_json_lines_write_no_nan(tmp_path: Path) -> None:
    lines = JsonLines(tmp_path / "x.jsonl")
    lines.append({"step": 1, "loss": math.nan, "norm": math.inf})
    assert lines.read() == [{"step": 1, "loss": None, "norm": None}]
    assert math.isnan(mean_of(lines.read(), "loss"))


def test_loss_by_domain_weighs_rows_by_their_targets() -> None:
    losses = np.array([2.0, 4.0, math.nan, math.nan])
    n_targets, domains = np.array([10, 5, 0, 0]), np.array([0, 0, 0, 2], np.int32)
    found = loss_by_domain(losses, n_targets, domains, ["a", "b", "c"])
    assert found == {"a": pytest.approx((2 * 10 + 4 * 5) / 15), "c": None}


def test_clock_violation_and_bits_per_byte() -> None:
    assert [clock(seconds) for seconds in (-1, 63, 3723)] == ["0:00", "1:03", "1:02:03"]
    assert max_violation(torch.tensor([6, 2, 4, 4])) == 0.5
    assert max_violation(torch.zeros(4)) == 0
    assert bits_per_byte(math.log(2), 30, 10) == pytest.approx(3)
    assert math.isnan(bits_per_byte(1.0, 1, 0))


def test_the_run_reads_rows_it_may_not_write(tmp_path: Path) -> None:
    """Memory-mapped rows are read-only arrays."""
    from fake_training_data import FakeStream

    class ReadOnly(FakeStream):
        def next(self, n: int) -> Any:
            batch = super().next(n)
            for array in (batch.input_ids, batch.n_tokens, batch.row_ids):
                array.setflags(write=False)
            return batch

    with np.errstate(all="raise"):
        assert train_tiny(tmp_path, stream=ReadOnly(FakeDataset(), seed=0), steps=2).steps == 2
