"""`dsv3data train`: train the model on packed rows."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dsv3data.contracts.errors import EnvironmentFault
from dsv3data_cli.options import PATH, config_options, output_options, writing_options
from dsv3data_cli.output import Output, duration, quantity, table

if TYPE_CHECKING:
    from dsv3data.training.run import TrainResult


@click.command(short_help="Train the DeepSeek-V3-shaped model on packed rows.")
@click.option("--data", type=PATH, required=True, help="Folder of a packed set.")
@click.option(
    "--strict",
    is_flag=True,
    help="Stop at a damaged checkpoint instead of falling back to the one before.",
)
@writing_options
@config_options
@output_options
def train(
    data: Path,
    out: Path,
    fresh: bool,
    strict: bool,
    dry_run: bool,
    config_file: Path | None,
    overrides: tuple[str, ...],
    output: Output,
) -> None:
    """Train a DeepSeek-V3-shaped model (MLA, mixture of experts, MTP) on a packed set.

    Resumes from the newest verified checkpoint in --out at the exact row. Ctrl-C writes a complete
    checkpoint and exits with code 75; the same command continues.
    """
    require_torch()
    from dsv3data.contracts.config import load_config, to_dict
    from dsv3data.training.config import TrainConfig
    from dsv3data.training.run import run_training

    config = load_config(TrainConfig, config_file, overrides)
    result = run_training(
        config,
        data=data,
        out=out,
        sink=output.sink,
        fresh=fresh,
        strict=strict,
        dry_run=dry_run,
    )
    if dry_run:
        # What it would cost was noted on stderr; the result is the configuration.
        output.result({"out": str(out), "config": to_dict(config)}, lambda console: None)
        return
    tree = {**dataclasses.asdict(result), "out": str(out)}
    output.result(tree, lambda console: console.print(_render(result)))


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
    made.add_row("time", duration(result.wall_s))
    made.add_row("written", str(result.out))
    return made
