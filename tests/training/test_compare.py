"""Two precisions side by side: the verdict, the files, the refusals, and training in each."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from dsv3data.contracts.errors import BadConfig, EnvironmentFault, Stopped
from dsv3data.contracts.progress import NullSink
from dsv3data.kernels.measure import relative_error
from dsv3data.model.transformer import Transformer
from dsv3data.training import loop as loop_module
from dsv3data.training.compare import Comparison, compare_precisions, judge, parse_pair
from dsv3data.training.cross_entropy import head_cross_entropy, head_cross_entropy_reference
from dsv3data.training.run import check_device
from fake_training_data import FakeDataset, FakeStream
from signal_at import signal_at_call
from tiny_training import CONFIG, Notes, train_tiny


def compared(out: Path, pair: str = "fp8,fp32", **options: Any) -> Comparison:
    dataset = FakeDataset()
    return compare_precisions(
        dataset,
        lambda seed: FakeStream(dataset, seed=seed),
        replace(CONFIG, steps=options.pop("steps", 4)),
        parse_pair(pair),
        n_seeds=options.pop("n_seeds", 2),
        out=out,
        sink=options.pop("sink", NullSink()),
        **options,
    )


def test_fp8_follows_fp32_and_every_layer_is_looked_at(tmp_path: Path) -> None:
    notes = Notes()
    result = compared(tmp_path / "out", sink=notes)
    assert "FP8 emulated in fp32" in notes.text
    assert 0 < max(map(abs, result.differences)) < 0.02
    assert result.seeds == (0, 1)
    names = {layer.name for layer in result.layers}
    assert {"blocks.0.attention.out", "blocks.1.ffn.routed", "mtp.projection"} <= names
    assert not {name for name in names if "router" in name or name in ("head", "embedding")}
    assert len(names) == 5 * 3 + 3 * 3 + 2 + 1  # attention, dense or shared, routed, projection
    for layer in result.layers:
        assert 0.01 < layer.input.relative_error < 0.05
        assert 0.01 < layer.gradient.relative_error < 0.05
        assert 0.01 < layer.weight_error < 0.05
        assert 0 <= layer.input.underflow_share < 0.05
    written = json.loads((tmp_path / "out" / "comparison.json").read_bytes())
    assert written["mean_difference"] == result.mean_difference
    assert written["config"]["steps"] == 4
    folders = {path.name for path in (tmp_path / "out").iterdir() if path.is_dir()}
    assert folders == {f"{run}-seed-{seed}" for run in ("nudged", "fp32", "fp8") for seed in (0, 1)}
    # Few steps of a small model: a nudge moves a gradient's last digits and hardly a loss.
    assert max(map(abs, result.noise)) < max(map(abs, result.differences))
    nudged, plain = (
        json.loads((tmp_path / "out" / name / "metrics.jsonl").open().readline())["grad_norm"]
        for name in ("nudged-seed-0", "fp32-seed-0")
    )
    assert nudged != plain
    assert nudged == pytest.approx(plain, rel=1e-4)


def test_a_stopped_comparison_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signal comes in the second step of the second of three runs."""
    whole = compared(tmp_path / "whole", n_seeds=1)
    steps = signal_at_call(monkeypatch, loop_module, "train_step", 4 + 2)
    with pytest.raises(Stopped, match="stopped by SIGTERM after step 2 of 4"):
        compared(tmp_path / "out", n_seeds=1)
    assert not (tmp_path / "out" / "comparison.json").exists()
    resumed = compared(tmp_path / "out", n_seeds=1)
    assert (resumed.differences, resumed.noise) == (whole.differences, whole.noise)
    assert resumed.layers == whole.layers
    assert len(steps) == 3 * 4  # no step of a finished run was made again
    assert compared(tmp_path / "out", n_seeds=1).layers == whole.layers
    assert len(steps) == 3 * 4


def test_more_seeds_are_added_to_a_finished_comparison(tmp_path: Path) -> None:
    first = compared(tmp_path / "out", n_seeds=1, steps=2)
    both = compared(tmp_path / "out", n_seeds=2, steps=2)
    assert both.differences[:1] == first.differences
    assert both.layers == first.layers


def test_bf16_is_compared_too(tmp_path: Path) -> None:
    result = compared(tmp_path / "out", "bf16,fp32", n_seeds=1, steps=2)
    assert 0 < abs(result.mean_difference) < 0.01
    assert math.isnan(result.seed_spread)
    written = json.loads((tmp_path / "out" / "comparison.json").read_bytes())
    assert written["seed_spread"] is None


def test_another_comparison_is_not_mixed_in(tmp_path: Path) -> None:
    compared(tmp_path / "out", n_seeds=1, steps=1)
    with pytest.raises(BadConfig, match=r"holds another comparison: config\.steps: 1 → 2"):
        compared(tmp_path / "out", n_seeds=1, steps=2)
    compared(tmp_path / "out", n_seeds=1, steps=2, fresh=True)
    assert (tmp_path / "out.1.old" / "comparison.json").exists()


@pytest.mark.parametrize("text", ["fp8", "fp8,fp8", "fp8,int4", "fp8,bf16,fp32", ""])
def test_a_pair_is_two_different_precisions(text: str) -> None:
    with pytest.raises(BadConfig, match="--compare takes two different precisions of"):
        parse_pair(text)


@pytest.mark.parametrize(
    ("factors", "verdict"),
    [
        ((1.002, 1.001), "passed"),
        ((1.004, 1.003), "failed"),
        ((0.99, 0.99), "failed"),
        ((1.02, 0.98), "undecided"),
        ((1.05, 1.03), "failed"),
        ((1.001,), "passed"),
        ((1.003,), "failed"),
    ],
)
def test_the_gate_is_on_the_mean_of_the_seeds(factors: tuple[float, ...], verdict: str) -> None:
    base = {("fp32", seed): [8.0, 6.0, 4.0 + seed] for seed in (0, 1)}
    mine = {("fp8", s): [f * x for x in base["fp32", s]] for s, f in enumerate(factors)}
    nudged = {("nudged", s): [1.001 * x for x in base["fp32", s]] for s in (0, 1)}
    seeds = range(len(factors))
    result = judge(("fp8", "fp32"), seeds, {**base, **mine, **nudged}, ())
    assert result.noise == pytest.approx([0.001 for _ in seeds])
    assert result.verdict == verdict
    assert result.differences == pytest.approx([factor - 1 for factor in factors])
    assert result.baseline_losses == (4.0, 5.0)[: len(factors)]


def test_a_loss_that_is_not_a_number_fails() -> None:
    curves = {("fp8", 0): [8.0, math.nan], ("fp32", 0): [8.0, 7.0], ("nudged", 0): [8.0, 7.0]}
    assert judge(("fp8", "fp32"), (0,), curves, ()).verdict == "failed"


def test_training_in_fp8_learns_and_gives_the_same_bits_again(tmp_path: Path) -> None:
    first, second = (train_tiny(tmp_path / name, precision="fp8", steps=6) for name in "ab")
    assert (first.last_loss, first.best_loss) == (second.last_loss, second.best_loss)
    lines = (tmp_path / "a" / "metrics.jsonl").read_text().splitlines()
    losses = [json.loads(line)["main_loss"] for line in lines]
    assert losses[-1] < losses[0] - 0.1


def test_a_machine_without_a_gpu_is_told_what_to_do() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has one")
    with pytest.raises(EnvironmentFault, match="no GPU was found that torch can use") as caught:
        check_device(replace(CONFIG, device="cuda"))
    assert "--set device=cpu" in caught.value.fix


def test_what_stays_high() -> None:
    model = Transformer(replace(CONFIG.model, vocab_size=64, context=16))
    model.set_precision("fp8")
    assert model.stream_dtype == torch.float32  # emulated on a CPU
    model.set_precision("bf16")
    assert model.stream_dtype == torch.bfloat16
    assert type(model.head) is torch.nn.Linear
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_the_head_in_bf16_keeps_an_fp32_gradient() -> None:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(300, 16, generator=generator)
    head = torch.randn(50, 16, generator=generator).requires_grad_()
    targets = torch.randint(0, 50, (300,), generator=generator)
    low = hidden.bfloat16().requires_grad_()
    total, _ = head_cross_entropy(low, head, targets)
    total.backward()
    assert total.dtype == torch.float32
    assert head.grad is not None
    found = head.grad.clone()
    head.grad = None
    head_cross_entropy_reference(hidden, head, targets)[0].backward()
    assert 0 < relative_error(found, head.grad) < 0.02
