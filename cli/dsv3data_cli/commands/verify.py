"""`dsv3data verify`: prove a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dsv3data_cli.options import PATH, output_options
from dsv3data_cli.output import Output, quantity, table


@click.command(short_help="Prove that a folder is what its manifest says.")
@click.argument("folder", type=PATH)
@click.option("--quick", is_flag=True, help="Names, sizes, headers and manifest only, in seconds.")
@output_options
def verify(folder: Path, quick: bool, output: Output) -> None:
    """Prove that FOLDER (tokenizer, counts, tokens or packed) is what its manifest says.

    Reads every byte: checksums, counts, ids, FIM grammar, every document exactly once. Exit code 4
    names the damaged file.
    """
    from dsv3data.audit.verify import verify as verify_all
    from dsv3data.audit.verify import verify_quick

    run = verify_quick if quick else verify_all
    result = run(folder, sink=output.sink)
    tree = {
        "folder": str(folder),
        "quick": quick,
        "format": result.format,
        "root": result.root,
        "files": result.files,
        "size_bytes": result.size_bytes,
        "facts": result.facts,
    }
    output.result(tree, lambda console: console.print(_render(tree)))


def _render(tree: dict[str, Any]) -> Any:
    made = table("looked at, not read" if tree["quick"] else "proven", ">value")
    made.add_row("format", tree["format"])
    made.add_row("files", f"{tree['files']:,}")
    made.add_row("size", quantity(tree["size_bytes"], "B"))
    for name, value in tree["facts"].items():
        if isinstance(value, int):
            made.add_row(name.replace("_", " "), f"{value:,}")
    made.add_row("root", tree["root"])
    return made
