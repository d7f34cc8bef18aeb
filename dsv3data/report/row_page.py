"""The offline page of `dsv3data inspect --html`: rows with their documents, to look at and search.

The page's only script is the search below. It reads the text of the page and writes no HTML, so
that a document cannot become a part of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from dsv3data.audit.inspect import Part, PieceView, RowView
from dsv3data.report.page import page

_COLOURS = 6
_END = '<span class="end">■ end of sentence</span>'
_STYLE = """
.find { position: sticky; top: 0; padding: .6rem 0; background: var(--page); z-index: 1; }
.find input { font: inherit; width: 24rem; max-width: 70%; padding: .3rem .5rem; }
.find span { color: var(--soft); margin-left: .8rem; }
.bar { display: flex; height: 14px; margin: .5rem 0; border: 1px solid var(--line);
  fill: none; border-radius: 3px; overflow: hidden; }
.bar a { display: block; min-width: 2px; border-right: 1px solid var(--page); }
.bar a.padding { background: repeating-linear-gradient(45deg, var(--line) 0 4px,
  transparent 4px 8px); }
.piece { border-left: 5px solid; padding: .1rem 0 .1rem .8rem; margin: .7rem 0; }
.piece h3 { font-size: .85rem; font-weight: 600; color: var(--soft); margin: 0;
  overflow-wrap: anywhere; }
.piece pre { border: 0; padding: 0; margin: .3rem 0; white-space: pre-wrap;
  overflow-wrap: anywhere; }
.k0 { border-color: var(--a); } .k1 { border-color: var(--b); } .k2 { border-color: var(--c); }
.k3 { border-color: var(--d); } .k4 { border-color: var(--e); } .k5 { border-color: var(--f); }
.bar .k0 { background: var(--a); } .bar .k1 { background: var(--b); }
.bar .k2 { background: var(--c); } .bar .k3 { background: var(--d); }
.bar .k4 { background: var(--e); } .bar .k5 { background: var(--f); }
.prefix { color: var(--c); } .suffix { color: var(--a); } .middle { color: var(--b); }
.name { color: var(--page); font-weight: 700; padding: 0 .4em; border-radius: 3px; }
.prefix .name { background: var(--c); } .suffix .name { background: var(--a); }
.middle .name { background: var(--b); }
.end { color: var(--soft); } .padding-note { color: var(--soft); border-color: var(--line); }
::highlight(found) { background: #ffe066; color: #000; }
"""
_SCRIPT = """
document.addEventListener('DOMContentLoaded', () => {
  const rows = [...document.querySelectorAll('section')].filter(s => s.querySelector('.bar'));
  const texts = rows.map(row => row.textContent.toLowerCase());
  const field = document.querySelector('.find input'), said = document.querySelector('.find span');
  field.addEventListener('input', () => {
    const wanted = field.value.toLowerCase(), ranges = [];
    let shown = 0;
    rows.forEach((row, number) => {
      row.hidden = !texts[number].includes(wanted);
      shown += !row.hidden;
      if (!wanted || row.hidden) return;
      const walk = document.createTreeWalker(row, NodeFilter.SHOW_TEXT);
      while (walk.nextNode()) {
        const text = walk.currentNode.data.toLowerCase();
        if (text.length !== walk.currentNode.data.length) continue;
        for (let at = text.indexOf(wanted); at >= 0; at = text.indexOf(wanted, at + 1)) {
          const range = new Range();
          range.setStart(walk.currentNode, at);
          range.setEnd(walk.currentNode, at + wanted.length);
          ranges.push(range);
        }
      }
    });
    said.textContent = wanted ? `${shown} rows, ${ranges.length} places` : '';
    if (window.CSS && CSS.highlights)
      CSS.highlights.set('found', new Highlight(...ranges.slice(0, 5000)));
  });
});
"""


def row_page(title: str, views: Iterable[RowView]) -> str:
    """A page of rows. `title` is plain text; the views' texts are made printable already."""
    rows = list(views)
    search = '<p class="find"><input type="search" placeholder="find in text, file names, domains">'
    sections = [("", search + "<span></span></p>")]
    sections += [(_heading(view), _row(view)) for view in rows]
    lead = f"{len(rows):,} rows, {sum(len(view.pieces) for view in rows):,} pieces of documents"
    return page(title, lead, sections, head=f"<style>{_STYLE}</style><script>{_SCRIPT}</script>")


def _heading(view: RowView) -> str:
    place = f"{view.shard}, row {view.row_in_shard:,}"
    return f"Row {view.row:,} · {place} · {view.domain} · {view.size}"


def _row(view: RowView) -> str:
    pieces = "".join(_piece(piece, _anchor(view, piece)) for piece in view.pieces)
    return f"{_bar(view)}{pieces}{_padding(view)}"


def _bar(view: RowView) -> str:
    """The row as a bar of its pieces, each a link to its text."""
    parts = [
        f'<a class="{_colour(piece)}" style="flex-grow:{piece.n_tokens}" '
        f'href="#{_anchor(view, piece)}" title="{escape(piece.origin)}"></a>'
        for piece in view.pieces
    ]
    if view.padding:
        parts.append(
            f'<a class="padding" style="flex-grow:{view.padding}" title="{view.padding:,} ids of '
            'padding"></a>'
        )
    return f'<div class="bar">{"".join(parts)}</div>'


def _piece(piece: PieceView, anchor: str) -> str:
    ends = piece.ends_document or piece.fim
    return (
        f'<div class="piece {_colour(piece)}" id="{anchor}"><h3>{escape(piece.origin)}</h3>'
        f"<pre>{_texts(piece.parts)}{_END if ends else ''}</pre></div>"
    )


def _texts(parts: Sequence[Part]) -> str:
    if len(parts) == 1:
        return escape(parts[0].text)
    return "".join(
        f'<span class="{part.kind}"><span class="name">{part.kind}</span> {escape(part.text)}'
        "</span>\n"
        for part in parts
    )


def _padding(view: RowView) -> str:
    if not view.padding:
        return ""
    return f'<div class="piece padding-note">padding: {view.padding:,} ids</div>'


def _colour(piece: PieceView) -> str:
    return f"k{piece.slot % _COLOURS}"


def _anchor(view: RowView, piece: PieceView) -> str:
    return f"r{view.row}p{piece.slot}"
