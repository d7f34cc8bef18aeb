"""`dsv3data doctor`: look at the machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dsv3data_cli.options import PATH, output_options
from dsv3data_cli.output import Output, table

_PROBLEM = 5
_COLOURS = {"ok": "green", "missing": "yellow", "problem": "red"}


@click.command(short_help="Check versions, cores, memory, disk, GPU, permissions.")
@click.option("--out", type=PATH, default=Path(), help="Folder that would be written to.")
@output_options
@click.pass_context
def doctor(context: click.Context, out: Path, output: Output) -> None:
    """Check versions, cores, memory, disk, GPU and write permission. Exit code 5 on a problem."""
    from dsv3data.audit.doctor import as_tree, examine

    tree = as_tree(examine(out))
    output.result(tree, lambda console: console.print(_render(tree)))
    if not tree["ok"]:
        context.exit(_PROBLEM)


def _render(tree: dict[str, Any]) -> Any:
    from rich.text import Text

    made = table("what", "state", "found", "what to do")
    for name, finding in tree["findings"].items():
        state = Text(finding["state"], style=_COLOURS[finding["state"]])
        made.add_row(name, state, finding["value"], finding["fix"])
    return made
