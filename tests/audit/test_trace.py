"""Tracing: every id of rows is the text that its document has at that place."""

from __future__ import annotations

import gzip
import itertools
import json
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dsv3data.audit.packed_rows import PackedRows, in_document_order, part_ranges
from dsv3data.audit.trace import Trace, open_trace, trace
from dsv3data.contracts.errors import BadInput, IntegrityError
from dsv3data.contracts.manifest import TOKENIZER_NAME
from dsv3data.contracts.terminal import printable
from dsv3data.encoding.vocabulary import Vocabulary, load_vocabulary
from dsv3data.io.manifest_file import read_manifest
from dsv3data.io.sources import ReadOptions
from dsv3data.packing.config import PackConfig
from folders import copy_of, flip_bit
from tiny_data import CONTEXT, pack_tiny, tokenize_tiny, write_jsonl, write_texts

Texts = dict[tuple[str, int], str]
Ranges = dict[tuple[str, int], list[tuple[int, int]]]


def texts_of(corpus: Path) -> Texts:
    """(file, offset of the line) → text, by the standard library."""
    texts = {}
    for path in corpus.iterdir():
        offset = 0
        for line in path.read_bytes().splitlines(keepends=True):
            texts[path.name, offset] = json.loads(line)["text"]
            offset += len(line)
    return texts


def check_place(found: Trace, text: str, vocabulary: Vocabulary) -> None:
    """The token's bytes stand there, and its characters are those that they belong to."""
    assert found.bytes_range is not None
    assert found.characters is not None
    (start, stop), (first, last) = found.bytes_range, found.characters
    data = text.encode()
    assert data[start:stop] == vocabulary.token_bytes[found.token_id] != b""
    assert len(text[:first].encode()) <= start < len(text[: first + 1].encode())
    assert len(text[: last - 1].encode()) < stop <= len(text[:last].encode())
    exact = len(text[:first].encode()) == start and len(text[:last].encode()) == stop
    assert found.whole_characters == exact
    assert found.text == printable(text[first:last])
    assert printable(text[:first]).endswith(found.before)
    assert printable(text[last:]).startswith(found.after)


def check_gapless(ranges: Ranges, texts: Texts) -> int:
    """Documents all of whose bytes were traced, each byte to one token."""
    whole = 0
    for place, found in ranges.items():
        found.sort()
        joined = all(a[1] == b[0] for a, b in itertools.pairwise(found))
        whole += joined and found[0][0] == 0 and found[-1][1] == len(texts[place].encode())
    return whole


def test_every_position_of_random_rows(tiny_packed: Path, tiny_corpus: Path) -> None:
    texts, vocabulary = texts_of(tiny_corpus), load_vocabulary(tiny_packed)
    tracer = open_trace(tiny_packed)
    kinds: Counter[str] = Counter()
    n_rows = read_manifest(tiny_packed).counts["rows"]
    rows = np.random.default_rng(0).permutation(n_rows)[:30].tolist()
    for row in rows:
        for position in range(CONTEXT):
            found = tracer.trace(row, position)
            kinds[found.kind] += 1
            if found.kind in ("padding", "control"):
                assert vocabulary.control_texts[found.control] == found.token_id
                assert found.characters is None
                assert (found.source is None) == (found.kind == "padding")
                continue
            assert found.source is not None
            assert found.source_position is not None
            place = found.source, found.source_position
            check_place(found, texts[place], vocabulary)
            kinds["cut"] += found.n_pieces > 1
            kinds["part of a character"] += not found.whole_characters
    for kind in ("text", "prefix", "middle", "suffix", "control", "padding", "cut"):
        assert kinds[kind] > 10, kind
    assert kinds["part of a character"] > 10


def test_every_position_of_all_rows_of_few_documents(tiny_tokenizer: Path, tmp_path: Path) -> None:
    """All bytes of all documents, FIM ones of both orders, cut into many samples, among them."""
    texts = ["é中\U0001f600" * 60, "a" * 700, "x", "\U0001f468\u200d\U0001f469" * 40, "\x1b[31m"]
    (tmp_path / "in").mkdir()
    write_texts(tmp_path / "in" / "x.jsonl", texts)
    tokens = tokenize_tiny(tmp_path / "in", tiny_tokenizer, tmp_path / "tokens")
    config = PackConfig(context=64, fim_rate=1.0, fim_mode="mixed")
    packed = pack_tiny(tokens, tmp_path / "packed", config=config)
    (lineage,) = packed.glob("lineage-*.parquet")
    assert {1, 2} <= set(pq.read_table(lineage)["flag"].to_pylist())
    known, vocabulary = texts_of(tmp_path / "in"), load_vocabulary(packed)
    for folder in (packed, tokens):
        ranges: Ranges = defaultdict(list)
        tracer = open_trace(folder)
        for row in range(sum(record.rows for record in read_manifest(folder).shards())):
            for position in range(64 if folder == packed else 10**9):
                try:
                    found = tracer.trace(row, position)
                except BadInput:
                    break
                if found.bytes_range is not None:
                    place = found.source or "", found.source_position or 0
                    check_place(found, known[place], vocabulary)
                    ranges[place].append(found.bytes_range)
        assert check_gapless(ranges, known) == len(texts)


def test_parts_follow_their_sentinels_in_any_order(tiny_tokenizer: Path) -> None:
    vocabulary = load_vocabulary(tiny_tokenizer)
    control = vocabulary.control
    begin, hole, end, eos = control.fim_begin, control.fim_hole, control.fim_end, control.eos
    psm = np.array([begin, 5, 6, hole, 7, end, 8, 9, eos])
    spm = np.array([hole, 7, begin, end, 8, 9, eos])
    found = part_ranges(psm, True, vocabulary)
    assert found == [("prefix", 1, 3), ("suffix", 4, 5), ("middle", 6, 8)]
    found = part_ranges(spm, True, vocabulary)
    assert found == [("suffix", 1, 2), ("prefix", 3, 3), ("middle", 4, 6)]
    assert [kind for kind, _, _ in in_document_order(found)] == ["prefix", "middle", "suffix"]
    assert part_ranges(np.array([5, 6, eos]), False, vocabulary) == [("text", 0, 2)]
    assert part_ranges(np.array([5, 6]), False, vocabulary) == [("text", 0, 2)]


def forms(folder: Path, texts: list[str]) -> dict[str, Path]:
    """The same texts in every kind of file."""
    folder.mkdir()
    plain = write_texts(folder / "plain.jsonl", texts)
    (folder / "packed.jsonl.gz").write_bytes(gzip.compress(plain.read_bytes()))
    table = pa.table({"text": texts})
    pq.write_table(table, folder / "table.parquet", row_group_size=3)
    with pa.ipc.new_stream(folder / "stream.arrow", table.schema) as writer:
        writer.write_table(table, max_chunksize=3)
    (folder / "note.txt").write_text(texts[0], encoding="utf-8")
    return {path.name: path for path in folder.iterdir()}


def test_the_source_is_found_in_every_kind_of_file(tiny_tokenizer: Path, tmp_path: Path) -> None:
    texts = [f"text number {number} – 中" * 3 for number in range(11)]
    files = forms(tmp_path / "in", texts)
    tokens = tokenize_tiny(tmp_path / "in", tiny_tokenizer, tmp_path / "tokens")
    packed = pack_tiny(tokens, tmp_path / "packed", config=PackConfig(context=4096))
    seen: dict[str, set[int | None]] = defaultdict(set)
    rows = PackedRows(packed).row(0)
    for start in rows.starts:
        found = trace(packed, 0, start + 4, inputs=[tmp_path / "in"])
        assert found.source is not None
        assert found.file == str(files[found.source])
        seen[found.source].add(found.line)
    lines = set(range(1, 12))
    assert dict(seen) == {
        "plain.jsonl": lines,
        "packed.jsonl.gz": lines,
        "table.parquet": {None},
        "stream.arrow": {None},
        "note.txt": {None},
    }


def test_the_token_set_knows_how_its_input_was_read(tiny_tokenizer: Path, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "x.jsonl", [{"body": "first"}, {"body": "second"}])
    tokens = tokenize_tiny(path, tiny_tokenizer, tmp_path / "tokens", text_key="body")
    found = trace(tokens, 1, 0, inputs=[path])
    assert (found.line, found.file) == (2, str(path))
    packed = pack_tiny(tokens, tmp_path / "packed")
    with pytest.raises(BadInput, match="no document begins at") as caught:
        trace(packed, 0, 0, inputs=[path])
    assert "same --text-key" in caught.value.fix
    assert trace(packed, 0, 0, inputs=[path], options=ReadOptions(text_key="body")).line


def test_another_source_is_refused(tiny_tokenizer: Path, tmp_path: Path) -> None:
    path = write_texts(tmp_path / "x.jsonl", ["one text"])
    packed = pack_tiny(
        tokenize_tiny(path, tiny_tokenizer, tmp_path / "tokens"), tmp_path / "packed"
    )
    write_texts(path, ["two text"])
    with pytest.raises(BadInput, match="the source holds another text than the one") as caught:
        trace(packed, 0, 0, inputs=[path])
    assert f"{path}, document at 0" in caught.value.where
    other = write_texts(tmp_path / "y.jsonl", ["one text"])
    with pytest.raises(BadInput, match=r"none of the inputs holds 'x.jsonl'"):
        trace(packed, 0, 0, inputs=[other])


def test_places_that_are_not_there(tiny_packed: Path, tiny_tokens: Path) -> None:
    with pytest.raises(BadInput, match="there is no row 999,999"):
        trace(tiny_packed, 999_999, 0)
    with pytest.raises(BadInput, match="there is no position 128 in row 0"):
        trace(tiny_packed, 0, 128)
    with pytest.raises(BadInput, match="there is no document 999,999"):
        trace(tiny_tokens, 999_999, 0)
    with pytest.raises(BadInput, match="there is no position 9,999,999 in document 0"):
        trace(tiny_tokens, 0, 9_999_999)


def test_only_sets_of_ids_can_be_traced(tiny_tokenizer: Path) -> None:
    with pytest.raises(BadInput, match=r"holds dsv3data.tokenizer, not dsv3data.packed or"):
        trace(tiny_tokenizer, 0, 0)


def test_damage_is_found_before_anything_is_said(tiny_packed: Path, tmp_path: Path) -> None:
    packed = copy_of(tiny_packed, tmp_path / "packed")
    lineage = min(packed.glob("lineage-*.parquet"))
    flip_bit(lineage, lineage.stat().st_size // 2, 1)
    with pytest.raises(IntegrityError, match="SHA-256 differs"):
        trace(packed, 0, 0)
    assert (packed / TOKENIZER_NAME).exists()
