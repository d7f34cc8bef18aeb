"""`dsv3data progress`: how far a run on a cluster is."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dsv3data_cli.options import PATH, output_options
from dsv3data_cli.output import Output, table

if TYPE_CHECKING:
    from rich.console import Console


@click.command(short_help="How far a run on a cluster is.")
@click.argument("out", type=PATH)
@output_options
def progress(out: Path, output: Output) -> None:
    """Show how far the last run with --executor slurm or ray in folder OUT has come.

    Reads the ledger: the number of finished units is right whatever happened to the tasks.
    """
    from dsv3data_pipelines.executors import run_progress

    tree = asdict(run_progress(out))
    tree["logs"] = str(tree["logs"])
    output.result(tree, lambda console: _render(console, tree))


def _render(console: Console, tree: dict[str, Any]) -> None:
    made = table(f"{tree['stage']} on {tree['executor']}", ">done", ">of")
    made.add_row("units", f"{tree['units_done']:,}", f"{tree['units']:,}")
    made.add_row("tasks", f"{tree['tasks_done']:,}", f"{tree['tasks']:,}")
    made.add_row("published", "yes" if tree["published"] else "no", "")
    console.print(made)
    for name, what in tree["failed"].items():
        console.print(f"failed: {name}: {what}", soft_wrap=True)
    if tree["jobs"]:
        console.print("jobs: " + ", ".join(f"{name} {id}" for name, id in tree["jobs"].items()))
    console.print(f"logs: {tree['logs']}", soft_wrap=True)
