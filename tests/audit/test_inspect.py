"""Inspecting rows: a view's parts are the documents' text, and nothing in it drives a terminal."""

from __future__ import annotations

import json
import unicodedata
from collections import defaultdict
from pathlib import Path

import pytest

from dsv3data.audit.inspect import PieceView, inspect_row, inspect_rows
from dsv3data.contracts.errors import BadInput, IntegrityError
from dsv3data.contracts.keys import document_key
from dsv3data.contracts.terminal import printable
from dsv3data.io.manifest_file import read_manifest
from dsv3data.packing.config import PackConfig
from folders import copy_of, flip_bit
from tiny_data import CONTEXT, pack_tiny, tokenize_tiny, write_texts

HOSTILE = (
    "\x1b[31mred\x1b]0;title\x07\x9b31m\x7f\x00\r\b plain\ttab\nline "
    "\u202eright\u202c \u2066iso\u2069 é中\U0001f600 \u0085"
)


def text_of(piece: PieceView) -> str:
    parts = {part.kind: part.text for part in piece.parts}
    return "".join(parts.get(kind, "") for kind in ("text", "prefix", "middle", "suffix"))


@pytest.fixture
def few_documents(tiny_corpus: Path, tmp_path: Path) -> Path:
    """The first lines of each file."""
    (tmp_path / "few").mkdir()
    for path in tiny_corpus.iterdir():
        lines = path.read_bytes().splitlines(keepends=True)
        (tmp_path / "few" / path.name).write_bytes(b"".join(lines[:6]))
    return tmp_path / "few"


def test_parts_of_all_rows_put_together_are_the_documents(
    few_documents: Path, tiny_tokenizer: Path, tmp_path: Path
) -> None:
    tokens = tokenize_tiny(few_documents, tiny_tokenizer, tmp_path / "tokens")
    packed = pack_tiny(tokens, tmp_path / "packed")
    pieces: dict[str, dict[int, PieceView]] = defaultdict(dict)
    n_rows = read_manifest(packed).counts["rows"]
    for row, view in enumerate(inspect_rows(packed, range(n_rows))):
        assert (view.row, view.context) == (row, CONTEXT)
        assert view.n_tokens + view.padding == CONTEXT
        assert sum(piece.n_tokens for piece in view.pieces) == view.n_tokens
        assert [piece.slot for piece in view.pieces] == list(range(len(view.pieces)))
        for piece in view.pieces:
            pieces[piece.key][piece.piece] = piece
            control = 3 + 1 if piece.fim else int(piece.ends_document)
            if piece.fim:
                assert [part.kind for part in piece.parts] == ["prefix", "suffix", "middle"]
                assert sum(part.n_tokens for part in piece.parts) + control == piece.n_tokens
            else:
                assert [part.kind for part in piece.parts] == ["text"]
    checked = 0
    for path in sorted(few_documents.iterdir()):
        offset = 0
        for line in path.read_bytes().splitlines(keepends=True):
            mine = pieces[document_key(path.name, offset).hex()]
            assert sorted(mine) == list(range(len(mine))) == list(range(mine[0].n_pieces))
            assert {(piece.source, piece.position) for piece in mine.values()} == {
                (path.name, offset)
            }
            assert [mine[number].ends_document for number in sorted(mine)][-1]
            text = "".join(text_of(mine[number]) for number in sorted(mine))
            # A cut may fall inside a code point, which a view shows as replacement characters.
            if "\ufffd" not in text:
                assert text == printable(json.loads(line)["text"])
                checked += 1
            offset += len(line)
    assert checked > 0.8 * len(pieces)


def test_rows_are_counted_over_all_shards(tiny_packed: Path) -> None:
    row, places = 0, {}
    for record in read_manifest(tiny_packed).shards():
        for local in (0, record.rows - 1):
            places[row + local] = (record.name, local)
        row += record.rows
    views = inspect_rows(tiny_packed, list(places))
    assert [(view.shard, view.row_in_shard) for view in views] == list(places.values())


@pytest.mark.parametrize("row", [-1, 10**6])
def test_no_such_row(tiny_packed: Path, row: int) -> None:
    last = read_manifest(tiny_packed).counts["rows"] - 1
    with pytest.raises(BadInput, match=f"there is no row {row:,}") as caught:
        inspect_row(tiny_packed, row)
    assert f"rows 0 to {last:,}" in caught.value.where


def test_only_packed_sets_have_rows(tiny_tokens: Path) -> None:
    with pytest.raises(BadInput, match=r"holds dsv3data.tokens, not dsv3data.packed"):
        inspect_row(tiny_tokens, 0)


def test_printable_leaves_nothing_that_drives_a_terminal() -> None:
    shown = printable(HOSTILE)
    for character in shown:
        assert unicodedata.category(character) != "Cc" or character in "\n\t"
        assert unicodedata.bidirectional(character) not in {
            "LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI",
        }  # fmt: skip
    assert shown.startswith("␛[31mred␛]0;title␇")
    assert "plain\ttab\nline ‹U+202E›right‹U+202C›" in shown
    assert shown.endswith("é中\U0001f600 \ufffd")


def test_every_control_character_is_caught() -> None:
    everything = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x11000)]))
    left = {c for c in printable(everything) if unicodedata.category(c) == "Cc"}
    assert left == {"\n", "\t"}


def test_ordinary_text_is_shown_as_it_is() -> None:
    text = "def f(x):\n\treturn x  # naïve 中文 العربية \U0001f468\u200d\U0001f469 …"
    assert printable(text) == text


def test_a_hostile_document_in_a_packed_set(tiny_tokenizer: Path, tmp_path: Path) -> None:
    path = write_texts(tmp_path / "x.jsonl", [HOSTILE])
    tokens = tokenize_tiny(path, tiny_tokenizer, tmp_path / "tokens")
    packed = pack_tiny(tokens, tmp_path / "packed", config=PackConfig(context=256, fim_rate=0.0))
    (piece,) = inspect_row(packed, 0).pieces
    assert piece.parts[0].text == printable(HOSTILE)


def test_a_flipped_bit_in_the_lineage_is_found_before_it_is_shown(
    tiny_packed: Path, tmp_path: Path
) -> None:
    packed = copy_of(tiny_packed, tmp_path / "packed")
    lineage = min(packed.glob("lineage-*.parquet"))
    flip_bit(lineage, lineage.stat().st_size // 2, 1)
    with pytest.raises(IntegrityError, match=r"SHA-256 differs"):
        inspect_row(packed, 0)  # of the first shard, that of the first domain
