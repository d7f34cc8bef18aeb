"""`dsv3data export`: a set in the formats of other programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from dsv3data.contracts.terminal import printable
from dsv3data_cli.options import PATH, output_options
from dsv3data_cli.output import Output, quantity, table

if TYPE_CHECKING:
    from rich.console import Console


@click.command(short_help="A set in the formats of other programs.")
@click.argument("folder", type=PATH)
@click.option(
    "--format",
    "to",
    type=click.Choice(["megatron", "parquet", "hf"]),
    required=True,
    help="Megatron's .bin/.idx, Parquet, or a folder for datasets.load_from_disk.",
)
@click.option("--out", type=PATH, required=True, help="New folder.")
@click.option("--fresh", is_flag=True, help="Move an earlier folder aside.")
@output_options
def export(
    folder: Path,
    to: Literal["megatron", "parquet", "hf"],
    out: Path,
    fresh: bool,
    output: Output,
) -> None:
    """Write the packed or token set in FOLDER for other programs.

    What is read is held to its checksums; --out appears when it is complete. megatron: one pair
    per domain; a row of a packed set is a sequence (give Megatron --seq-length L), a document of a
    token set is one with its end-of-sentence id.
    """
    from dsv3data_pipelines.export import export as run

    result = run(folder, out=out, to=to, sink=output.sink, fresh=fresh)
    tree = {"out": str(out), "format": to, "rows": result.rows, "files": dict(result.files)}
    output.result(tree, lambda console: _render(console, tree))


def _render(console: Console, tree: dict[str, Any]) -> None:
    made = table("file", ">size")
    for name, size in tree["files"].items():
        made.add_row(printable(name), quantity(size, "B"))
    console.print(made)
    console.print(f"{tree['rows']:,} rows")
    console.print(f"written: {printable(tree['out'])}", soft_wrap=True)
