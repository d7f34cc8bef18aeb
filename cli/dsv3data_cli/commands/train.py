"""`dsv3data train`: train the model on packed rows."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dsv3data.contracts.errors import EnvironmentFault
from dsv3data.contracts.terminal import printable
from dsv3data_cli.options import PATH, config_options, output_options, writing_options
from dsv3data_cli.output import Output, duration, quantity, table

if TYPE_CHECKING:
    from rich.console import Console

    from dsv3data.model.config import Precision
    from dsv3data.training.compare import Comparison
    from dsv3data.training.config import TrainConfig
    from dsv3data.training.replay import Replay
    from dsv3data.training.run import TrainResult


@click.command(short_help="Train the DeepSeek-V3-shaped model on packed rows.")
@click.option("--data", type=PATH, required=True, help="Folder of a packed set.")
@click.option(
    "--strict",
    is_flag=True,
    help="Stop at a damaged checkpoint instead of falling back to the one before.",
)
@click.option(
    "--from",
    "start_from",
    type=PATH,
    metavar="RUN",
    help="Start a new run from the newest weights of another, as a phase of long context does, or "
    "from a folder of DeepseekV3ForCausalLM in FP32, BF16 or FP8.",
)
@click.option(
    "--compare",
    metavar="A,B",
    help="Train in two precisions from the same weights on the same rows, and judge the losses of "
    "A by those of B: fp8,bf16 or, on a CPU, fp8,fp32. Resumes run by run.",
)
@click.option(
    "--seeds",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="How many seeds --compare trains from.",
)
@click.option(
    "--tensorboard", is_flag=True, help="Also write event files for TensorBoard, OUT/tensorboard."
)
@click.option(
    "--replay",
    type=click.IntRange(min=1),
    metavar="STEP",
    help="Train nothing: rebuild the batch of this step of the run in --out, and show its "
    "documents, their losses and how much they repeat themselves.",
)
@writing_options
@config_options
@output_options
def train(
    data: Path,
    out: Path,
    fresh: bool,
    strict: bool,
    tensorboard: bool,
    start_from: Path | None,
    compare: str | None,
    seeds: int,
    replay: int | None,
    dry_run: bool,
    config_file: Path | None,
    overrides: tuple[str, ...],
    output: Output,
) -> None:
    """Train a DeepSeek-V3-shaped model (MLA, mixture of experts, MTP) on a packed set.

    Resumes from the newest verified checkpoint in --out at the exact row. Ctrl-C writes a complete
    checkpoint and exits with code 75; the same command continues. Without --config the model is
    DeepSeek-V3 in full size: begin with --config configs/tiny.toml.
    """
    require_torch()
    if replay is not None:
        _replay(replay, data=data, out=out, output=output)
        return
    from dsv3data.contracts.config import load_config, to_dict
    from dsv3data.training.compare import parse_pair
    from dsv3data.training.config import TrainConfig
    from dsv3data.training.run import run_training

    config = load_config(TrainConfig, config_file, overrides)
    if compare is not None:
        pair = parse_pair(compare)
        if not dry_run:
            _compare(config, pair, seeds, data=data, out=out, fresh=fresh, output=output)
            return
    result = run_training(
        config,
        data=data,
        out=out,
        sink=output.sink,
        fresh=fresh,
        strict=strict,
        dry_run=dry_run,
        tensorboard=tensorboard,
        start_from=start_from,
    )
    if dry_run:
        # What it would cost was noted on stderr; the result is the configuration.
        output.result({"out": str(out), "config": to_dict(config)}, lambda console: None)
        return
    tree = {**dataclasses.asdict(result), "out": str(out)}
    output.result(tree, lambda console: console.print(_render(result)))


def _compare(
    config: TrainConfig,
    pair: tuple[Precision, Precision],
    seeds: int,
    *,
    data: Path,
    out: Path,
    fresh: bool,
    output: Output,
) -> None:
    from dsv3data.loader.packed_dataset import PackedDataset
    from dsv3data.loader.stream import SequenceStream
    from dsv3data.training.compare import compare_precisions

    dataset = PackedDataset.open(data)
    result = compare_precisions(
        dataset,
        lambda seed: SequenceStream(dataset, seed=seed, stages=config.data.stages),
        config,
        pair,
        n_seeds=seeds,
        out=out,
        sink=output.sink,
        fresh=fresh,
    )
    output.result(
        {**dataclasses.asdict(result), "out": str(out)},
        lambda console: console.print(_render_comparison(result, out)),
    )


def _replay(step: int, *, data: Path, out: Path, output: Output) -> None:
    from dsv3data.training.replay import replay_step

    result = replay_step(out, data=data, step=step)
    output.result(dataclasses.asdict(result), lambda console: _render_replay(console, result))


def require_torch() -> None:
    """Say what to install, where torch is missing."""
    from importlib.util import find_spec

    missing = [name for name in ("torch", "safetensors") if find_spec(name) is None]
    if missing:
        raise EnvironmentFault(
            f"this command needs {' and '.join(missing)}, not installed here",
            where="this Python environment",
            effect="nothing was started",
            fix="pip install 'dsv3data[train]'",
        )


def _render(result: TrainResult) -> Any:
    made = table("trained", ">value")
    made.add_row("steps", f"{result.steps:,}")
    made.add_row("tokens", quantity(result.tokens, "tokens"))
    made.add_row("loss, first steps", f"{result.first_loss:.3f}")
    made.add_row("loss, last steps", f"{result.last_loss:.3f}")
    made.add_row("bits per byte", f"{result.bits_per_byte:.3f}")
    made.add_row("tokens per second", f"{result.tokens_per_s:,.0f}")
    made.add_row("TFLOP/s of the model", f"{result.tflop_per_s:,.3g}")
    if result.mfu is not None:
        made.add_row("MFU", f"{result.mfu:.1%}")
    if result.dollars is not None:
        made.add_row("device hours, all", f"{result.device_hours:,.2f}")
        made.add_row("dollars, all", f"{result.dollars:,.2f}")
    made.add_row("time", duration(result.wall_s))
    made.add_row("written", str(result.out))
    return made


def _render_comparison(result: Comparison, out: Path) -> Any:
    worst = max(result.layers, key=lambda layer: layer.input.underflow_share)
    mean, error = f"{result.mean_difference:+.3%}", f"{result.standard_error:.3%}"
    made = table(f"{result.candidate} against {result.baseline}", ">value")
    made.add_row("seeds × steps", f"{len(result.seeds)} × {result.steps:,}")
    made.add_row(f"loss, {result.candidate}", _losses(result.candidate_losses))
    made.add_row(f"loss, {result.baseline}", _losses(result.baseline_losses))
    made.add_row("difference by seed", ", ".join(f"{d:+.2%}" for d in result.differences))
    made.add_row("difference, mean", mean if len(result.seeds) == 1 else f"{mean} ± {error}")
    made.add_row("noise by seed", ", ".join(f"{d:+.2%}" for d in result.noise))
    if len(result.seeds) > 1:
        made.add_row("spread of seeds", f"{result.seed_spread:.2%}")
    made.add_row(f"gate of {result.gate:.2%}", result.verdict)
    made.add_row("most underflow", f"{worst.input.underflow_share:.2%} in {worst.name}")
    made.add_row("written", str(out))
    return made


_DOCUMENTS_SHOWN = 40


def _render_replay(console: Console, result: Replay) -> None:
    """Documents that stand out first, then by loss."""
    made = table("document", ">tokens", ">loss", ">repeated", "stands out")
    ordered = sorted(
        result.documents, key=lambda one: (not one.stands_out, -(one.loss or float("inf")))
    )
    for one in ordered[:_DOCUMENTS_SHOWN]:
        piece = f", piece {one.piece + 1} of {one.n_pieces}" if one.n_pieces > 1 else ""
        made.add_row(
            printable(f"{one.source} at {one.position}{piece}"),
            f"{one.n_tokens:,}",
            _figure(one.loss),
            f"{one.repetition.repeated:.1%}",
            ", ".join(one.stands_out),
        )
    recorded = result.recorded
    skipped = ", skipped" if recorded["skipped"] else ""
    console.print(
        f"step {result.step:,}{skipped}: loss {_figure(recorded['main_loss'])}, gradient norm "
        f"{_figure(recorded['grad_norm'])}, {len(result.row_ids)} rows, "
        f"{len(result.documents)} documents",
        soft_wrap=True,
    )
    weights = result.checkpoint or "the initial weights: no checkpoint before the step is kept"
    console.print(
        f"losses below: after step {result.weights_step:,}, {weights}",
        markup=False,
        soft_wrap=True,
    )
    console.print(made)
    if len(ordered) > _DOCUMENTS_SHOWN:
        console.print(f"… {len(ordered) - _DOCUMENTS_SHOWN:,} more with --json")


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _losses(losses: tuple[float, ...]) -> str:
    return ", ".join(f"{loss:.4f}" for loss in losses)
