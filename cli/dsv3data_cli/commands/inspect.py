"""`dsv3data inspect`: look at a packed row."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dsv3data.contracts.terminal import printable
from dsv3data_cli.options import PATH, output_options
from dsv3data_cli.output import Output

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from dsv3data.audit.inspect import PieceView, RowView

_DOCUMENT_COLOURS = ("cyan", "yellow", "green", "magenta", "blue")
_FIM_STYLES = {"prefix": "green", "suffix": "blue", "middle": "bold red"}
_MARKS = {"prefix": "▶prefix ", "suffix": "▶suffix ", "middle": "▶middle "}


@click.command(short_help="Look at a packed row.")
@click.argument("folder", type=PATH)
@click.option("--row", type=click.IntRange(min=0), default=0, show_default=True, help="Which row.")
@click.option("--shard", metavar="NAME", help="Count --row in this shard, as lineage does.")
@click.option(
    "--width",
    type=click.IntRange(min=0),
    default=600,
    show_default=True,
    help="Characters shown of each part; 0 shows all.",
)
@click.option(
    "--html",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also write a page of rows from this one on, to search in.",
)
@click.option(
    "--rows",
    type=click.IntRange(min=1, max=10_000),
    default=20,
    show_default=True,
    help="Rows on that page.",
)
@output_options
def inspect(
    folder: Path,
    row: int,
    shard: str | None,
    width: int,
    html: Path | None,
    rows: int,
    output: Output,
) -> None:
    """Show one row of the packed set in FOLDER: its documents, FIM parts, borders and padding."""
    from dsv3data.audit.inspect import inspect_row

    view = inspect_row(folder, row, shard=shard)
    if html is not None:
        _write_page(folder, html, view.row, rows)
    output.result(dataclasses.asdict(view), lambda console: _render(console, view, width, html))


def _write_page(folder: Path, html: Path, first: int, count: int) -> None:
    from dsv3data.audit.inspect import count_rows, inspect_rows
    from dsv3data.io.atomic import write_atomic
    from dsv3data.report.row_page import row_page

    rows = range(first, min(first + count, count_rows(folder)))
    text = row_page(f"Rows of {folder}", inspect_rows(folder, rows))
    write_atomic(html, text.encode("utf-8"))


def _render(console: Console, view: RowView, width: int, html: Path | None) -> None:
    from rich.text import Text

    head = (
        f"row {view.row:,} · {view.shard}, row {view.row_in_shard:,} · domain {view.domain} · "
        f"{view.size}"
    )
    console.print(Text(head, style="bold"))
    for piece in view.pieces:
        console.print(Text(f"── [{piece.slot}] {piece.origin}", style=f"bold {_colour(piece)}"))
        console.print(_body(piece, width))
        if piece.ends_document or piece.fim:
            console.print(Text("⏹ end of sentence", style="dim"))
    if view.padding:
        console.rule(Text(f"padding: {view.padding:,} ids", style="dim"), align="left", style="dim")
    if html is not None:
        console.print(f"page: {printable(str(html))}", soft_wrap=True)


def _colour(piece: PieceView) -> str:
    return _DOCUMENT_COLOURS[piece.slot % len(_DOCUMENT_COLOURS)]


def _body(piece: PieceView, width: int) -> Text:
    from rich.text import Text

    body = Text()
    for part in piece.parts:
        body.append(_MARKS.get(part.kind, ""), style="reverse " + _FIM_STYLES.get(part.kind, ""))
        body.append(_shorten(part.text, width), style=_FIM_STYLES.get(part.kind, _colour(piece)))
        if piece.fim:
            body.append("\n")
    return body


def _shorten(text: str, width: int) -> str:
    if not width or len(text) <= width:
        return text
    half = width // 2
    return f"{text[:half]} … {len(text) - 2 * half:,} characters … {text[-half:]}"
