"""`dsv3data export`: a set, or a trained model, in the formats of other programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from dsv3data.contracts.terminal import printable
from dsv3data_cli.options import PATH, output_options, workers_option
from dsv3data_cli.output import Output, quantity, table

if TYPE_CHECKING:
    from rich.console import Console


@click.command(short_help="A set or a model in the formats of other programs.")
@click.argument("folder", type=PATH)
@click.option(
    "--format",
    "to",
    type=click.Choice(["megatron", "parquet", "hf", "hf-model"]),
    required=True,
    help="Megatron's .bin/.idx, Parquet, a folder for datasets.load_from_disk; or of a training "
    "run a folder for transformers.",
)
@workers_option
@click.option("--out", type=PATH, required=True, help="Output folder.")
@click.option("--fresh", is_flag=True, help="Move old output aside and start anew.")
@click.option("--dry-run", is_flag=True, help="Say what would be done; write nothing.")
@click.option(
    "--dtype",
    type=click.Choice(["bf16", "fp32", "fp8"]),
    default="bf16",
    show_default=True,
    help="hf-model: of the weights; fp8 is the layout of the released files.",
)
@click.option("--average", is_flag=True, help="hf-model: the moving average of the weights.")
@click.option("--tokenizer", type=PATH, help="hf-model: tokenizer folder to put beside the model.")
@output_options
def export(
    folder: Path,
    to: Literal["megatron", "parquet", "hf", "hf-model"],
    workers: int,
    out: Path,
    fresh: bool,
    dry_run: bool,
    dtype: Literal["bf16", "fp32", "fp8"],
    average: bool,
    tokenizer: Path | None,
    output: Output,
) -> None:
    """Write the packed set, token set or training run in FOLDER for other programs.

    What is read is held to its checksums; export.json comes last, and names the files and what they
    were made from. Run again to finish what was stopped. megatron: one pair per domain; a row of a
    packed set is a sequence (give Megatron --seq-length L), a document of a token set is one with
    its end-of-sentence id.
    """
    if to == "hf-model":
        if dry_run:
            raise click.UsageError("--dry-run is for sets, not for hf-model")
        _export_model(folder, out, fresh, dtype, average, tokenizer, output)
        return
    from dsv3data_pipelines.export import export as run
    from dsv3data_pipelines.export import plan_export

    if dry_run:
        plan = plan_export(folder, out=out, to=to)
        planned = {"out": str(out), "format": to, "rows": plan.rows}
        planned["units"] = {unit.name: [unit.size, *unit.files] for unit in plan.units}
        output.result(planned, lambda console: _render_plan(console, planned))
        return
    result = run(folder, out=out, to=to, sink=output.sink, fresh=fresh, workers=workers)
    tree = {"out": str(out), "format": to, "rows": result.rows, "files": dict(result.files)}
    output.result(tree, lambda console: _render(console, tree))


def _export_model(
    run: Path,
    out: Path,
    fresh: bool,
    dtype: Literal["bf16", "fp32", "fp8"],
    average: bool,
    tokenizer: Path | None,
    output: Output,
) -> None:
    from dsv3data_cli.commands.train import require_torch

    require_torch()
    from dsv3data.io.atomic import set_aside
    from dsv3data.training.hf_export import export_model

    if fresh and out.exists():
        output.sink.note(f"old output moved to {set_aside(out)}")
    files = export_model(run, out, dtype=dtype, average=average, tokenizer=tokenizer)
    tree = {"out": str(out), "format": "hf-model", "files": files}
    output.result(tree, lambda console: _render(console, tree))


def _render_plan(console: Console, tree: dict[str, Any]) -> None:
    made = table("files", ">rows")
    for rows, *names in tree["units"].values():
        made.add_row("\n".join(map(printable, names)), f"{rows:,}")
    console.print(made)
    console.print(f"would be written: {printable(tree['out'])}", soft_wrap=True)


def _render(console: Console, tree: dict[str, Any]) -> None:
    made = table("file", ">size")
    for name, size in tree["files"].items():
        made.add_row(printable(name), quantity(size, "B"))
    console.print(made)
    if "rows" in tree:
        console.print(f"{tree['rows']:,} rows")
    console.print(f"written: {printable(tree['out'])}", soft_wrap=True)
