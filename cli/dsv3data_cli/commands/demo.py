"""`dsv3data demo`: the whole path on this machine's own files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dsv3data_cli.options import output_options, workers_option
from dsv3data_cli.output import Output, duration, quantity, table

if TYPE_CHECKING:
    from rich.console import Console

_BLOCKS = "▁▂▃▄▅▆▇█"


@click.command(short_help="Run the whole path on this machine's own text.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("runs/demo"),
    show_default=True,
    help="Output folder.",
)
@click.option("--steps", type=click.IntRange(min=1), help="Training steps.  [default: 110]")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the whole path.")
@click.option("--fresh", is_flag=True, help="Move old output aside and start anew.")
@workers_option
@output_options
def demo(
    out: Path, steps: int | None, seed: int, fresh: bool, workers: int, output: Output
) -> None:
    """Run the whole path on the text that this machine already has, offline, in minutes.

    Documents from the Python installation and from texts that come with dsv3data → a tokenizer →
    token shards → packed rows → proof → a trained tiny model → a page with the figures. Run again,
    it continues or finds everything done.
    """
    from dsv3data_cli.commands.train import require_torch

    require_torch()
    from dsv3data_pipelines.demo import DemoConfig, run_demo

    config = DemoConfig(seed=seed) if steps is None else DemoConfig(seed=seed, steps=steps)
    summary = run_demo(
        out,
        config=config,
        workers=workers,
        fresh=fresh,
        sink=output.sink,
        heading=output.heading,
    )
    output.result(summary, lambda console: _render(console, summary))


def _render(console: Console, summary: dict[str, Any]) -> None:
    made = table("domain", ">documents", ">text", ">tokens", ">bytes/token", ">rows", ">padding")
    for name, row in summary["domains"].items():
        made.add_row(
            name,
            f"{row['documents']:,}",
            quantity(row["bytes"], "B"),
            f"{row['tokens']:,}",
            f"{row['bytes'] / row['tokens']:.3f}",
            f"{row['rows']:,}",
            f"{row['padding_share']:.3%}",
        )
    console.print(made)
    train = summary["train"]
    console.print(
        f"FIM: {summary['fim']['documents']:.2%} of documents, {summary['fim']['tokens']:.2%} of "
        f"tokens · padding {summary['padding_share']:.3%}"
    )
    console.print(
        f"loss {train['first_loss']:.2f} → {train['last_loss']:.2f} · "
        f"{train['bits_per_byte']:.2f} bits per byte · {train['tokens_per_s']:,.0f} tokens/s"
    )
    console.print(f"  {_sparkline(train['losses'])}")
    console.print(f"packed root {summary['packed_root']}", soft_wrap=True)
    console.print(f"took {duration(summary['seconds'])}; what ran:")
    for command in summary["commands"]:
        console.print(f"  {command}", soft_wrap=True, style="cyan", markup=False)
    console.print("next:")
    for command in summary["next"]:
        console.print(f"  {command}", soft_wrap=True, style="cyan", markup=False)
    console.print(f"page: {summary['page']}", soft_wrap=True)


def _sparkline(values: list[float], width: int = 60) -> str:
    """The curve in one line, averaged down to `width` columns."""
    if not values:
        return ""
    count = min(width, len(values))
    groups = [
        values[len(values) * i // count : len(values) * (i + 1) // count] for i in range(count)
    ]
    means = [sum(group) / len(group) for group in groups]
    low, high = min(means), max(means)
    scale = (len(_BLOCKS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BLOCKS[round((mean - low) * scale)] for mean in means)
