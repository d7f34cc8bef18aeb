"""One offline HTML page: no script, no outside resource, all text escaped."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2530; --soft: #5c6b7a; --line: #d8dee6; --page: #fff;
  --a: #2463c2; --b: #c2410c; --c: #15803d; --d: #7e22ce; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6ebf1; --soft: #98a6b5; --line: #34404d;
  --page: #12181f; --a: #6ea8fe; --b: #fb923c; --c: #4ade80; --d: #c084fc; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page);
  max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: 0; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
p.lead { color: var(--soft); margin-top: .2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); text-align: right; }
th:first-child, td:first-child { text-align: left; } th { color: var(--soft); font-weight: 600; }
pre { border: 1px solid var(--line); border-radius: 6px; padding: .8rem; overflow-x: auto;
  font: 13px/1.5 ui-monospace, monospace; }
svg { width: 100%; height: auto; } .grid { stroke: var(--line); }
.tick, .label { fill: var(--soft); font-size: 12px; } .bar { fill: var(--a); }
.line { fill: none; stroke-width: 2; }
.series-0 { stroke: var(--a); } .series-1 { stroke: var(--b); }
.series-2 { stroke: var(--c); } .series-3 { stroke: var(--d); }
code { font: 13px ui-monospace, monospace; overflow-wrap: anywhere; }
"""


def page(title: str, lead: str, sections: Sequence[tuple[str, str]]) -> str:
    """A page of (heading, HTML body) sections. `title`, `lead` and headings are plain text."""
    body = "".join(
        f"<section><h2>{escape(heading)}</h2>{content}</section>\n" for heading, content in sections
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n"
        f'<body><h1>{escape(title)}</h1><p class="lead">{escape(lead)}</p>\n{body}</body></html>\n'
    )


def html_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of plain text cells."""
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    head = f"<thead><tr>{head}</tr></thead>"
    return f'<div class="wide"><table>{head}<tbody>{body}</tbody></table></div>'


def code_block(lines: Sequence[str]) -> str:
    """Commands or other literal text."""
    return f"<pre>{escape(chr(10).join(lines))}</pre>"


def paragraph(text: str) -> str:
    """A paragraph of plain text."""
    return f"<p>{escape(text)}</p>"
