"""Through the whole pipeline: lengths around the window, FIM, and every byte of every document
back from the packed rows; and sets with well-formed checksums whose content is wrong."""

from __future__ import annotations

import dataclasses
import json
import random
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from dsv3data.audit.verify import verify
from dsv3data.contracts.errors import IntegrityError
from dsv3data.contracts.progress import NullSink
from dsv3data.encoding.vocabulary import load_vocabulary
from dsv3data.io.manifest_file import read_manifest, write_manifest
from dsv3data.io.shards import ShardReader, shard_writer
from dsv3data.packing.config import PackConfig
from dsv3data.packing.fim import FIM_PSM, PLAIN
from folders import copy_of, root_of
from read_sets import counts_of, documents_in, pieces_in, reassembled
from tiny_data import pack_tiny, tokenize_tiny, write_texts

ALPHABETS = (
    "abc XYZ,.\n",
    "的是在人不中国",
    "🎈👩é\u0301 \u200d",
    "def f(x):\n    return x\n\n",
    "\0\r\n\t ",
)
Columns = dict[str, list[object]]


def source_bytes(corpus: Path) -> dict[tuple[str, int], bytes]:
    """(source, byte offset of the line) → text, read with nothing but `json`."""
    found = {}
    for path in corpus.iterdir():
        position = 0
        for line in path.read_bytes().split(b"\n"):
            if line:
                found[path.name, position] = json.loads(line)["text"].encode()
            position += len(line) + 1
    return found


def text_of_tokens(count: int, rng: random.Random) -> str:
    """A text of exactly `count` tokens: the pre-tokenizer parts digits from line breaks."""
    return "".join("\n" if index % 2 else str(rng.randrange(10)) for index in range(count))


# All bytes come back


def test_every_byte_of_the_corpus_comes_back_from_the_packed_rows(
    tiny_corpus: Path, tiny_packed: Path
) -> None:
    assert reassembled(tiny_packed) == source_bytes(tiny_corpus)
    flags = Counter(origin["flag"] for origin, _ in pieces_in(tiny_packed))
    assert flags[FIM_PSM] > 100
    assert flags[PLAIN] > 100


@pytest.mark.parametrize("fim_rate", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("context", [16, 33, 512])
def test_every_byte_of_random_texts_comes_back(
    context: int, fim_rate: float, tiny_tokenizer: Path, fast_tmp: Path, rng: random.Random
) -> None:
    texts = [
        "".join(rng.choices(rng.choice(ALPHABETS), k=int(rng.lognormvariate(3, 1.5)) + 1))
        for _ in range(120)
    ]
    corpus = fast_tmp / "corpus"
    corpus.mkdir()
    write_texts(corpus / "a.jsonl", texts)
    tokens = tokenize_tiny(corpus, tiny_tokenizer, fast_tmp / "tokens")
    config = PackConfig(
        context=context, fim_rate=fim_rate, seed=rng.getrandbits(16), partition_tokens=2_000
    )
    packed = pack_tiny(tokens, fast_tmp / "packed", config=config)
    verify(packed, sink=NullSink())
    assert reassembled(packed) == source_bytes(corpus)
    counts = counts_of(packed)
    assert counts["documents_cut"] > 0 or context == 512
    assert (counts["fim"]["documents_fim"] > 0) == (fim_rate > 0)


# Around the window


@pytest.mark.parametrize("context", [16, 64, 100])
def test_documents_around_the_window_are_cut_only_when_they_must_be(
    context: int, tiny_tokenizer: Path, fast_tmp: Path, rng: random.Random
) -> None:
    lengths = [1, context - 2, context - 1, context, context + 1]
    lengths += [2 * context - 1, 2 * context, 2 * context + 1, 7 * context, 7 * context - 1]
    source = write_texts(fast_tmp / "in.jsonl", [text_of_tokens(n, rng) for n in lengths])
    tokens = tokenize_tiny(source, tiny_tokenizer, fast_tmp / "tokens")
    assert [len(document.ids) for document in documents_in(tokens)] == lengths
    packed = pack_tiny(
        tokens, fast_tmp / "packed", config=PackConfig(context=context, fim_rate=0.0)
    )
    verify(packed, sink=NullSink())
    pieces = Counter(origin["position"] for origin, _ in pieces_in(packed))
    positions = [document.position for document in documents_in(tokens)]
    for position, length in zip(positions, lengths, strict=True):
        assert pieces[position] == -(-(length + 1) // context), length
    counts = counts_of(packed)
    assert counts["row_ids"] == sum(lengths) + len(lengths)
    assert counts["rows"] * context == counts["row_ids"] + counts["padding"]
    assert counts["documents_cut"] == sum(length + 1 > context for length in lengths)


def test_a_document_that_fills_a_row_exactly_needs_no_padding(
    tiny_tokenizer: Path, fast_tmp: Path, rng: random.Random
) -> None:
    texts = [text_of_tokens(63, rng) for _ in range(20)]
    source = write_texts(fast_tmp / "in.jsonl", texts)
    tokens = tokenize_tiny(source, tiny_tokenizer, fast_tmp / "tokens")
    packed = pack_tiny(tokens, fast_tmp / "p", config=PackConfig(context=64, fim_rate=0.0))
    assert counts_of(packed)["padding"] == 0
    assert counts_of(packed)["rows"] == 20


def test_fim_is_whole_within_a_row_or_left_out_and_counted(
    tiny_tokenizer: Path, fast_tmp: Path, rng: random.Random
) -> None:
    context = 64
    lengths = [*range(1, 6), *range(context - 8, context + 3), *[3 * context] * 5] * 8
    source = write_texts(fast_tmp / "in.jsonl", [text_of_tokens(n, rng) for n in lengths])
    tokens = tokenize_tiny(source, tiny_tokenizer, fast_tmp / "tokens")
    config = PackConfig(context=context, fim_rate=1.0)
    packed = pack_tiny(tokens, fast_tmp / "packed", config=config)
    verify(packed, sink=NullSink())  # the grammar of each FIM piece inside one row
    control = load_vocabulary(tiny_tokenizer).control
    seen: Counter[str] = Counter()
    for origin, data in pieces_in(packed):
        whole = origin["n_pieces"] == 1
        if origin["flag"] == FIM_PSM:
            assert len(origin["ids"]) <= context
            text = data.decode()
            first, second = origin["middle_start"], origin["suffix_start"]
            assert 0 <= first <= second <= len(text)
            assert list(origin["ids"][[0, -1]]) == [control.fim_begin, control.eos]
            seen["whole" if whole else "part"] += 1
        else:
            assert len(data) < 3 or whole, "only short or nearly full pieces stay plain"
            seen["short" if len(data) < 3 else "full"] += 1
    counts = counts_of(packed)["fim"]
    assert counts["documents_chosen"] == len(lengths)
    assert counts["pieces_fim"] == seen["whole"] + seen["part"]
    assert counts["plain_too_short"] == seen["short"] > 0
    assert counts["plain_too_long"] == seen["full"] > 0
    assert min(seen["whole"], seen["part"]) > 10


def test_the_fim_rate_is_kept_within_binomial_bounds(
    tiny_tokenizer: Path, fast_tmp: Path, rng: random.Random
) -> None:
    texts = [text_of_tokens(rng.randrange(5, 20), rng) for _ in range(2_000)]
    source = write_texts(fast_tmp / "in.jsonl", texts)
    tokens = tokenize_tiny(source, tiny_tokenizer, fast_tmp / "tokens")
    chosen = set()
    for seed in (0, 1):
        config = PackConfig(context=256, fim_rate=0.1, seed=seed)
        packed = pack_tiny(tokens, fast_tmp / f"packed-{seed}", config=config)
        found = counts_of(packed)["fim"]["documents_fim"]
        assert abs(found - 200) < 5 * (2_000 * 0.1 * 0.9) ** 0.5
        chosen.add(root_of(packed))
    assert len(chosen) == 2, "the seed changes nothing"


# Checksums that hold over content that is wrong


def rewrite_shard(
    folder: Path,
    change: Callable[[Columns], None],
    schema: Callable[[pa.Schema], pa.Schema] | None = None,
) -> None:
    """Replace the first shard by one with changed columns, and vouch for it in the manifest."""
    manifest = read_manifest(folder)
    record = manifest.shards()[0]
    reader = ShardReader(folder, record)
    columns: Columns = pa.Table.from_batches(list(reader.batches())).to_pydict()
    change(columns)
    made = schema(reader.schema) if schema else reader.schema
    records: list = []
    with shard_writer(folder / record.name, made, records) as shard:
        shard.write(pa.record_batch([pa.array(columns[f.name], f.type) for f in made], schema=made))
    files = tuple(records[0] if one.name == record.name else one for one in manifest.files)
    write_manifest(folder, dataclasses.replace(manifest, files=files))


def _set_id(token: int) -> Callable[[Columns], None]:
    def change(columns: Columns) -> None:
        columns["ids"][0][1] = token  # type: ignore[index]

    return change


def _drop_last(columns: Columns) -> None:
    for values in columns.values():
        values.pop()


def _double_first(columns: Columns) -> None:
    for values in columns.values():
        values[1] = values[0]


def _no_ids(columns: Columns) -> None:
    columns["ids"][0] = []


def _one_byte_more(columns: Columns) -> None:
    columns["n_bytes"][0] += 1  # type: ignore[operator]


def _as(kind: pa.DataType) -> Callable[[pa.Schema], pa.Schema]:
    def change(schema: pa.Schema) -> pa.Schema:
        place = schema.get_field_index("ids")
        item = pa.field("item", kind, nullable=False)
        return schema.set(place, pa.field("ids", pa.large_list(item)))

    return change


@pytest.mark.parametrize(
    ("change", "schema", "message"),
    [
        (_set_id(-1), None, "id -1 is outside 0"),
        (_set_id(-(2**31)), None, "is outside 0"),
        (_set_id(2_315), None, "id 2315 is outside 0..2314"),
        (_set_id(2**31 - 1), None, "is outside 0"),
        (_set_id(1), None, "control id 1 stands in a document"),
        (_set_id(2_314), None, "control id 2314 stands in a document"),
        (lambda columns: None, _as(pa.uint16()), "columns are not those"),
        (lambda columns: None, _as(pa.int64()), "columns are not those"),
        (_drop_last, None, "not those the manifest was made for"),
        (_double_first, None, "not those the manifest was made for"),
        (_no_ids, None, "row 0 has no token"),
        (_one_byte_more, None, "row 0 decodes to"),
    ],
)
def test_a_token_shard_with_wrong_content_is_refused(
    change: Callable[[Columns], None],
    schema: Callable[[pa.Schema], pa.Schema] | None,
    message: str,
    tiny_tokens: Path,
    fast_tmp: Path,
) -> None:
    assert load_vocabulary(tiny_tokens).vocab_size == 2_315
    tokens = copy_of(tiny_tokens, fast_tmp / "tokens")
    rewrite_shard(tokens, change, schema)
    with pytest.raises(IntegrityError, match=message):
        verify(tokens, sink=NullSink())
    # Nor does it get into training rows.
    if "outside" in message or "columns" in message or "control" in message:
        with pytest.raises(IntegrityError, match=message):
            pack_tiny(tokens, fast_tmp / "packed")


def test_a_shard_of_another_tokenizer_is_refused(
    tiny_tokens: Path, tiny_packed: Path, fast_tmp: Path
) -> None:
    def foreign(schema: pa.Schema) -> pa.Schema:
        return schema.with_metadata({**schema.metadata, b"tokenizer_sha256": b"f" * 64})

    for kind, source in (("tokens", tiny_tokens), ("packed", tiny_packed)):
        folder = copy_of(source, fast_tmp / kind)
        rewrite_shard(folder, lambda columns: None, foreign)
        with pytest.raises(IntegrityError, match="made with tokenizer ffffffffffffffff…, this set"):
            verify(folder, sink=NullSink())


def _packed_id(token: int, *, place: int = 0, true_crc: bool = True) -> Callable[[Columns], None]:
    def change(columns: Columns) -> None:
        row = list(columns["input_ids"][0])  # type: ignore[call-overload]
        row[place] = token
        columns["input_ids"][0] = row
        if true_crc:
            columns["crc32"][0] = zlib.crc32(np.array(row, dtype=np.int32))

    return change


def _longer_piece(columns: Columns) -> None:
    columns["piece_lengths"][0][0] += 1  # type: ignore[index]


def _row_of_another(columns: Columns) -> None:
    for name in ("input_ids", "crc32", "n_tokens", "piece_lengths", "piece_flags"):
        columns[name][0], columns[name][1] = columns[name][1], columns[name][0]


def _gap_in_rows(columns: Columns) -> None:
    columns["row"][-1] += 1  # type: ignore[operator]


def _of_another_domain(columns: Columns) -> None:
    columns["domain"] = ["zz"] * len(columns["domain"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_packed_id(-1), "id -1 is outside"),
        (_packed_id(2_315), "id 2315 is outside"),
        (_packed_id(5, true_crc=False), "row 0 does not match its checksum"),
        (_packed_id(0, place=1), "control id|FIM piece"),
        (_longer_piece, "do not add up"),
        (_row_of_another, "lineage and rows disagree"),
        (_gap_in_rows, "the column `row` does not count the rows"),
        (_of_another_domain, "domain is 'zz', which is not that of the file's name"),
    ],
)
def test_a_packed_shard_with_wrong_content_is_refused(
    change: Callable[[Columns], None], message: str, tiny_packed: Path, fast_tmp: Path
) -> None:
    packed = copy_of(tiny_packed, fast_tmp / "packed")
    rewrite_shard(packed, change)
    with pytest.raises(IntegrityError, match=message):
        verify(packed, sink=NullSink())
