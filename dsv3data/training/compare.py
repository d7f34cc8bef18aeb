"""`dsv3data train --compare fp8,bf16`: the same training in two precisions, and what it cost.

DeepSeek-V3 kept the relative error of FP8's loss below 0.25 % of BF16's, within the randomness of
training [§3.3]. The same is asked here, with that randomness beside it: training runs from several
seeds; for one seed both precisions start from the same weights and read the same rows; and the
baseline runs once more from weights moved by a millionth. How far apart those two baselines end is
noise: a short run of a small model diverges by more than the gate from rounding alone.

Legend: R rows, C columns.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast, get_args

from torch import Tensor, nn

from dsv3data.contracts.config import differences, to_dict
from dsv3data.contracts.errors import BadConfig
from dsv3data.contracts.progress import Sink
from dsv3data.io.atomic import write_atomic
from dsv3data.io.lock import OutputLock
from dsv3data.kernels.measure import Loss, loss_of, relative_error
from dsv3data.kernels.reference import dequantise_blocks, quantise_blocks, quantise_rows
from dsv3data.model.config import Precision
from dsv3data.model.linear import Linear
from dsv3data.model.moe import RoutedExperts
from dsv3data.model.transformer import Transformer
from dsv3data.training.checkpoint import newest_checkpoint
from dsv3data.training.config import FP8_GATE, TrainConfig
from dsv3data.training.data import Batch, Dataset, Stream
from dsv3data.training.metrics import JsonLines
from dsv3data.training.optimizer import AdamW
from dsv3data.training.run import (
    check_device,
    describe,
    fit_to_data,
    move_aside,
    train_folder,
)
from dsv3data.training.schedule import knobs
from dsv3data.training.spikes import NO_LIMITS
from dsv3data.training.step import train_step

# Undecided: the mean of the seeds is known less well than the gate is narrow.
Verdict = Literal["passed", "failed", "undecided"]
NUDGE = 1e-6  # relative, standard deviation
LAST_SHARE = 0.1  # of the steps, whose mean loss is compared


@dataclass(frozen=True, kw_only=True)
class LayerLoss:
    """What E4M3 loses in one layer, on one batch after training."""

    name: str
    input: Loss
    gradient: Loss  # of the output
    weight_error: float


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Final losses are means over the last tenth of the steps, nats per token."""

    candidate: Precision
    baseline: Precision
    seeds: tuple[int, ...]
    steps: int
    candidate_losses: tuple[float, ...]  # final, one per seed
    baseline_losses: tuple[float, ...]
    differences: tuple[float, ...]  # relative, of each seed
    mean_difference: float
    standard_error: float  # of that mean; NaN with one seed
    noise: tuple[float, ...]  # relative difference of the nudged baseline, of each seed
    seed_spread: float  # relative standard deviation of the baseline's final losses
    largest_curve_difference: float  # between curves averaged over seeds and a tenth of the steps
    gate: float
    verdict: Verdict
    layers: tuple[LayerLoss, ...]


def parse_pair(text: str) -> tuple[Precision, Precision]:
    """`fp8,bf16` → what is judged, what it is judged by.

    Raises:
        BadConfig: not two different precisions.
    """
    names = [name.strip() for name in text.split(",")]
    known = get_args(Precision)
    if len(names) != 2 or names[0] == names[1] or not set(names) <= set(known):
        raise BadConfig(
            f"--compare takes two different precisions of {', '.join(known)}, not {text!r}",
            where="--compare",
            effect="nothing was started",
            fix="write for example --compare fp8,bf16 (on a CPU fp8,fp32)",
        )
    return cast(tuple[Precision, Precision], tuple(names))


def compare_precisions(
    dataset: Dataset,
    make_stream: Callable[[int], Stream],
    config: TrainConfig,
    pair: tuple[Precision, Precision],
    *,
    n_seeds: int,
    out: Path,
    sink: Sink,
    fresh: bool = False,
) -> Comparison:
    """Train every seed in both precisions, each run in a folder of `out`; write comparison.json.

    Each run is an ordinary one: a finished run is left alone, an unfinished one goes on from its
    newest checkpoint. So a stopped comparison continues, and more seeds may be added to a finished
    one.

    Args:
        make_stream: the stream of rows for a seed.

    Raises:
        BadConfig: `out` holds a comparison of another pair or config.
        Stopped: a signal asked for it; the run under way has its checkpoint.
    """
    config = fit_to_data(config, dataset)
    for precision in pair:
        check_device(replace(config, precision=precision))
    for line in describe(replace(config, precision=pair[0])):
        sink.note(line)
    if fresh:
        move_aside(out, sink)
    seeds = tuple(range(config.seed, config.seed + n_seeds))
    runs = [run for seed in seeds for run in _runs_of(config, pair, seed)]
    curves: dict[tuple[str, int], list[float]] = {}
    with OutputLock(out):
        _check_plan(out, pair, config)
        for number, (name, run) in enumerate(runs, start=1):
            folder = out / f"{name}-seed-{run.seed}"
            sink.note(f"run {number} of {len(runs)}: {name}, seed {run.seed}")
            train_folder(dataset, make_stream(run.seed), run, out=folder, sink=sink)
            curves[name, run.seed] = read_curve(folder)
            sink.note(f"{name}, seed {run.seed}: loss {_final(curves[name, run.seed]):.4f}")
        layers = _layers_after(out / f"{pair[0]}-seed-{seeds[0]}", make_stream(seeds[0]))
        result = judge(pair, seeds, curves, layers)
        tree = {**asdict(result), "config": to_dict(config)}
        write_atomic(out / "comparison.json", json.dumps(_plain(tree), indent=1).encode())
    return result


def _runs_of(
    config: TrainConfig, pair: tuple[Precision, Precision], seed: int
) -> list[tuple[str, TrainConfig]]:
    """The three runs of a seed. No step is skipped: a loss that is not finite is a result here."""
    config = replace(
        config,
        seed=seed,
        spike=replace(config.spike, z=0.0),
        max_skipped_in_row=config.steps + 1,
    )
    candidate, baseline = pair
    return [
        ("nudged", replace(config, precision=baseline, nudge=NUDGE)),
        (baseline, replace(config, precision=baseline)),
        (candidate, replace(config, precision=candidate)),
    ]


def _check_plan(out: Path, pair: tuple[Precision, Precision], config: TrainConfig) -> None:
    """Write down what this folder compares, or hold it to what it says already."""
    path = out / "plan.json"
    plan = {"pair": list(pair), "config": to_dict(config)}
    if not path.exists():
        write_atomic(path, json.dumps(plan, indent=1).encode())
        return
    different = differences(json.loads(path.read_bytes()), plan)
    if different:
        raise BadConfig(
            "the folder holds another comparison: " + "; ".join(different),
            where=str(path),
            effect="nothing was trained",
            fix="give the options of that comparison, another --out, or --fresh to move it aside",
        )


def read_curve(folder: Path) -> list[float]:
    """The main loss of each step of a run; NaN where it was not finite."""
    losses = [record["main_loss"] for record in JsonLines(folder / "metrics.jsonl").read()]
    return [math.nan if loss is None else loss for loss in losses]


def _layers_after(folder: Path, stream: Stream) -> tuple[LayerLoss, ...]:
    """`layer_losses` of a finished run, on the rows behind its last ones."""
    checkpoint = newest_checkpoint(folder)
    config = checkpoint.config
    model = Transformer(config.model)
    model.load_state_dict(checkpoint.weights())
    stream.restore(checkpoint.loader)
    batch = stream.next(config.micro_batch_rows or config.batch_rows)
    return layer_losses(model.to(config.device), batch, config)


def judge(
    pair: tuple[Precision, Precision],
    seeds: Sequence[int],
    curves: Mapping[tuple[str, int], Sequence[float]],
    layers: tuple[LayerLoss, ...],
) -> Comparison:
    """Figures from the loss curves of both precisions and of "nudged"; NaN fails."""
    candidate, baseline = pair
    candidate_losses, baseline_losses, nudged_losses = (
        [_final(curves[name, seed]) for seed in seeds] for name in (candidate, baseline, "nudged")
    )
    differences = _relative(candidate_losses, baseline_losses)
    mean = statistics.fmean(differences)
    several = len(seeds) > 1
    error = statistics.stdev(differences) / math.sqrt(len(seeds)) if several else math.nan
    return Comparison(
        candidate=candidate,
        baseline=baseline,
        seeds=tuple(seeds),
        steps=len(curves[candidate, seeds[0]]),
        candidate_losses=tuple(candidate_losses),
        baseline_losses=tuple(baseline_losses),
        differences=tuple(differences),
        mean_difference=mean,
        standard_error=error,
        noise=tuple(_relative(nudged_losses, baseline_losses)),
        seed_spread=(
            statistics.stdev(baseline_losses) / statistics.fmean(baseline_losses)
            if several
            else math.nan
        ),
        largest_curve_difference=_largest_difference(
            [curves[candidate, seed] for seed in seeds], [curves[baseline, seed] for seed in seeds]
        ),
        gate=FP8_GATE,
        verdict=_verdict(mean, error),
        layers=layers,
    )


def _verdict(mean: float, error: float) -> Verdict:
    """By the mean alone with one seed, whose error is not known (NaN)."""
    if not math.isfinite(mean) or abs(mean) - 2 * error > FP8_GATE:
        return "failed"
    if error > FP8_GATE:
        return "undecided"
    return "passed" if abs(mean) <= FP8_GATE else "failed"


def layer_losses(model: Transformer, batch: Batch, config: TrainConfig) -> tuple[LayerLoss, ...]:
    """Quantise inputs, output gradients and weights of every FP8 layer for one batch, and look.

    The pass itself is in the device's unquantised precision, in which no two layers are fused.
    """
    model.set_precision("bf16" if config.device == "cuda" else "fp32")
    inputs: dict[str, Loss] = {}
    gradients: dict[str, Loss] = {}
    handles = []
    layers = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, Linear | RoutedExperts) and name != "head"
    }
    for name, module in layers.items():
        handles += [
            module.register_forward_pre_hook(_watcher(inputs, name, power_of_two=True)),
            module.register_full_backward_hook(_backward_watcher(gradients, name)),
        ]
    values = knobs(config, step=config.steps, tokens=0)
    # A step on moments of its own: only what passes through the layers counts.
    optimizer = AdamW(model.named_parameters(), config.optimizer)
    whole = replace(config, micro_batch_rows=0)
    train_step(model, optimizer, batch, values, whole, NO_LIMITS)
    for handle in handles:
        handle.remove()
    return tuple(
        LayerLoss(
            name=name,
            input=inputs[name],
            gradient=gradients[name],
            weight_error=_weight_error(module),
        )
        for name, module in layers.items()
    )


def _window(n_steps: int) -> int:
    return max(1, math.ceil(LAST_SHARE * n_steps))


def _final(curve: Sequence[float]) -> float:
    return statistics.fmean(curve[-_window(len(curve)) :])


def _relative(losses: Sequence[float], others: Sequence[float]) -> list[float]:
    return [mine / other - 1 for mine, other in zip(losses, others, strict=True)]


def _largest_difference(
    candidates: Sequence[Sequence[float]], baselines: Sequence[Sequence[float]]
) -> float:
    """Largest relative distance of the mean curves, each smoothed over a tenth of the steps."""
    mine, other = (
        [statistics.fmean(step) for step in zip(*curves, strict=True)]
        for curves in (candidates, baselines)
    )
    window = _window(len(mine))
    places = [slice(at, at + window) for at in range(len(mine) - window + 1)]
    return max(abs(statistics.fmean(mine[p]) / statistics.fmean(other[p]) - 1) for p in places)


def _watcher(found: dict[str, Loss], name: str, *, power_of_two: bool) -> Any:
    def watch(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        x_RC: Tensor = inputs[0].detach().float().flatten(0, -2)
        found[name] = loss_of(x_RC, quantise_rows(x_RC, power_of_two=power_of_two))

    return watch


def _backward_watcher(found: dict[str, Loss], name: str) -> Any:
    watch = _watcher(found, name, power_of_two=False)
    return lambda module, _, gradients: watch(module, gradients)


def _weight_error(module: Linear | RoutedExperts) -> float:
    weights = (module.weight,) if isinstance(module, Linear) else (
        module.gate_up_EFD, module.down_EDF,
    )  # fmt: skip
    errors = []
    for weight in weights:
        w_ERC = weight.detach().reshape(-1, *weight.shape[-2:])
        errors.append(relative_error(dequantise_blocks(quantise_blocks(w_ERC)[0]), w_ERC))
    return max(errors)


def _plain(tree: Any) -> Any:
    """JSON has no NaN."""
    if isinstance(tree, Mapping):
        return {key: _plain(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_plain(value) for value in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree
