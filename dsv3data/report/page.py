"""One offline HTML page: no outside resource, no script but our own, all text escaped."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2530; --soft: #5c6b7a; --line: #d8dee6; --page: #fff;
  --a: #2463c2; --b: #c2410c; --c: #15803d; --d: #7e22ce; --e: #be185d; --f: #0e7490;
  --g: #a16207; --h: #4b5563; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6ebf1; --soft: #98a6b5; --line: #34404d;
  --page: #12181f; --a: #6ea8fe; --b: #fb923c; --c: #4ade80; --d: #c084fc; --e: #f472b6;
  --f: #22d3ee; --g: #facc15; --h: #9ca3af; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page);
  max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: 0; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
p.lead { color: var(--soft); margin-top: .2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); text-align: right; }
.text { text-align: left; overflow-wrap: break-word; } td.number { white-space: nowrap; }
th { color: var(--soft); font-weight: 600; }
pre { border: 1px solid var(--line); border-radius: 6px; padding: .8rem; overflow-x: auto;
  font: 13px/1.5 ui-monospace, monospace; }
svg { width: 100%; height: auto; } .grid { stroke: var(--line); }
.tick, .label { fill: var(--soft); font-size: 12px; } .bar { fill: var(--a); }
.cell { fill: var(--ink); font-size: 12px; }
.line { fill: none; stroke-width: 2; } .faint { stroke-width: 1; opacity: .3; }
.series-0 { stroke: var(--a); } .series-1 { stroke: var(--b); }
.series-2 { stroke: var(--c); } .series-3 { stroke: var(--d); }
.series-4 { stroke: var(--e); } .series-5 { stroke: var(--f); }
.series-6 { stroke: var(--g); } .series-7 { stroke: var(--h); }
.fill-0 { fill: var(--a); } .fill-1 { fill: var(--b); } .fill-2 { fill: var(--c); }
.fill-3 { fill: var(--d); } .fill-4 { fill: var(--e); } .fill-5 { fill: var(--f); }
.fill-6 { fill: var(--g); } .fill-7 { fill: var(--h); }
.whisker { fill: none; stroke: var(--ink); stroke-width: 1.2; }
code { font: 13px ui-monospace, monospace; overflow-wrap: anywhere; }
"""


def page(title: str, lead: str, sections: Sequence[tuple[str, str]], *, head: str = "") -> str:
    """A page of (heading, HTML body) sections. `title`, `lead` and headings are plain text.

    `head` is HTML of ours for the head: further styles, a script.
    """
    body = "".join(
        f"<section><h2>{escape(heading)}</h2>{content}</section>\n" for heading, content in sections
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style>{head}</head>\n"
        f'<body><h1>{escape(title)}</h1><p class="lead">{escape(lead)}</p>\n{body}</body></html>\n'
    )


def html_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, text_columns: Sequence[int] = (0,)
) -> str:
    """A table of plain text cells; `text_columns` are aligned left, the others are numbers."""
    head = _row("th", columns, text_columns)
    body = "".join(_row("td", row, text_columns) for row in rows)
    head = f"<thead>{head}</thead>"
    return f'<div class="wide"><table>{head}<tbody>{body}</tbody></table></div>'


def _row(tag: str, cells: Sequence[str], text_columns: Sequence[int]) -> str:
    kinds = ["text" if number in text_columns else "number" for number in range(len(cells))]
    inside = "".join(
        f'<{tag} class="{kind}">{escape(cell)}</{tag}>'
        for kind, cell in zip(kinds, cells, strict=True)
    )
    return f"<tr>{inside}</tr>"


def code_block(lines: Sequence[str]) -> str:
    """Commands or other literal text."""
    return f"<pre>{escape(chr(10).join(lines))}</pre>"


def paragraph(text: str) -> str:
    """A paragraph of plain text."""
    return f"<p>{escape(text)}</p>"
