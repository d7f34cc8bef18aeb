"""One work unit of `tokenize`: read documents, encode them, write shards and rejections.

Python does little per document and nothing per token: texts go to the engine in groups of about a
megabyte, ids come back as one buffer and reach the shard as Arrow buffers. (`pa.array` is avoided:
it imports pandas where that is installed, which takes longer than to encode 50 MB.)
"""

from __future__ import annotations

import functools
import itertools
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dsv3data.contracts.errors import IntegrityError
from dsv3data.contracts.keys import keys_digest, keys_to_words
from dsv3data.contracts.manifest import FileRecord
from dsv3data.contracts.progress import Sink
from dsv3data.contracts.schemas import token_schema
from dsv3data.encoding.choose import ChosenEngine, LoadedEngines, load_engines
from dsv3data.encoding.control_text import ControlTextCounter
from dsv3data.encoding.oracle_check import Mismatch, OracleCheck
from dsv3data.encoding.vocabulary import Vocabulary, load_vocabulary
from dsv3data.io.atomic import atomic_writer
from dsv3data.io.ledger import WORK_FOLDER
from dsv3data.io.manifest_file import describe_file
from dsv3data.io.shards import shard_writer
from dsv3data.io.sources import Document, InputLog, Rejected, Unit, input_sha256, read_unit
from dsv3data.io.sources.documents import EMPTY
from dsv3data_pipelines.tokenize.config import TokenizeConfig

# Text that is encoded at once. It shapes no byte.
_ENCODE_CHARACTERS = 1 << 20
# Ids after which a record batch ends, with the document that reaches them. It shapes the bytes.
_BATCH_IDS = 4 << 20


@dataclass(frozen=True, kw_only=True)
class TokenizeUnit:
    """A `HashingTask` and `WarmTask`: plain data that a worker process can be given.

    Attributes:
        limit: documents after which to stop (all, if None).
        engine, check_rate: see `choose_engine` and `OracleCheck`; they change no byte.
    """

    unit: Unit
    tokenizer: Path
    tokenizer_sha256: str
    config: TokenizeConfig
    out: Path
    plan_hash: str
    limit: int | None = None
    engine: str = "auto"
    check_rate: float = 0.001

    @property
    def name(self) -> str:
        return self.unit.name

    @property
    def size(self) -> int:
        return self.unit.size

    def input_sha256(self) -> str:
        return input_sha256(self.unit)

    def items(self, log: InputLog) -> Iterator[Document | Rejected]:
        """What the unit consists of."""
        return read_unit(self.unit, self.config.read, log)

    def warm_up(self) -> None:
        _ = self._loaded().engines  # loaded by being asked for

    def run(self, sink: Sink) -> tuple[list[FileRecord], Mapping[str, Any]]:
        files, counts, _ = self.run_hashing(sink)
        return files, counts

    def run_hashing(self, sink: Sink) -> tuple[list[FileRecord], Mapping[str, Any], str]:
        log = InputLog()
        work = _UnitWork(self, self._loaded(), log, sink)
        with atomic_writer(self.out / self.rejected_name) as rejected:
            shards = work.write_shards(rejected)
        # A trial stops somewhere in the unit, but belongs to all of its bytes.
        sha256 = log.sha256 if self.limit is None else self.input_sha256()
        return [*shards, describe_file(self.out, self.rejected_name)], work.facts(), sha256

    def _loaded(self) -> _Loaded:
        return _load(self.tokenizer, self.tokenizer_sha256, self.engine)

    @property
    def rejected_name(self) -> str:
        """The file of this unit's rejections, below the output folder."""
        return f"{WORK_FOLDER}/rejected-{self.name}.jsonl"


class UnitCounts:
    """What a unit, or a whole run, saw: sums that add up."""

    def __init__(self) -> None:
        self.domains: dict[str, list[int]] = {}  # documents, tokens, bytes
        self.rejected: Counter[str] = Counter()
        self.replaced = 0
        self.control_text = 0
        self.keys_digest = f"{0:032x}"

    def add(self, domain: str, n_tokens: int, n_bytes: int) -> None:
        """One document."""
        sums = self.domains.setdefault(domain, [0, 0, 0])
        sums[0] += 1
        sums[1] += n_tokens
        sums[2] += n_bytes

    def tree(self) -> dict[str, Any]:
        """Plain values, as the ledger and the manifest hold them."""
        names = ("documents", "tokens", "bytes")
        totals = [sum(sums[number] for sums in self.domains.values()) for number in range(3)]
        return {
            **dict(zip(names, totals, strict=True)),
            "rejected": self.rejected.total() - self.rejected[EMPTY],
            "empty": self.rejected[EMPTY],
            "rejected_by_reason": {name: self.rejected[name] for name in sorted(self.rejected)},
            "replaced_characters_documents": self.replaced,
            "control_text_documents": self.control_text,
            "domains": {
                name: dict(zip(names, self.domains[name], strict=True))
                for name in sorted(self.domains)
            },
            "keys_digest": self.keys_digest,
        }


class _Loaded:
    """What a process loads once for a tokenizer."""

    def __init__(self, vocabulary: Vocabulary, wanted: str) -> None:
        self.vocabulary = vocabulary
        self.control_text = ControlTextCounter(vocabulary.control_texts)
        self._wanted = wanted
        self._chosen: ChosenEngine | None = None

    @functools.cached_property
    def engines(self) -> LoadedEngines:
        """The engines to choose from."""
        return load_engines(self.vocabulary, self._wanted)

    def engine_for(self, texts: Sequence[str], note: Callable[[str], None]) -> ChosenEngine:
        """The engine of this process, chosen by the first texts that it is asked for."""
        if self._chosen is None:
            self._chosen = self.engines.choose(note=note, texts=texts)
        return self._chosen


@functools.lru_cache(maxsize=1)
def _load(tokenizer: Path, sha256: str, engine: str) -> _Loaded:
    """`sha256` makes another tokenizer at the same path another entry."""
    return _Loaded(load_vocabulary(tokenizer), engine)


class _UnitEngine(NamedTuple):
    """The engine of a unit, and its check by the oracle."""

    chosen: ChosenEngine
    check: OracleCheck

    def facts(self) -> dict[str, Any]:
        """Who encoded how many units (one), and how many documents were checked."""
        return {"engines": {self.chosen.described: 1}, "checked": self.check.checked}


class _Encoded(NamedTuple):
    """Documents with their ids: those of document i are values[offsets[i] : offsets[i + 1]]."""

    documents: list[Document]
    values: NDArray[np.int32]
    offsets: NDArray[np.int64]


class _UnitWork:
    """Doing one unit: a stream of documents becomes groups, batches, shards."""

    def __init__(self, task: TokenizeUnit, loaded: _Loaded, log: InputLog, sink: Sink) -> None:
        self._task = task
        self._loaded = loaded
        self._sink = sink
        self._log = log
        self._engine: _UnitEngine | None = None
        self._schema = token_schema(
            {
                "format": "dsv3data.tokens",
                "format_version": "1",
                "plan_hash": task.plan_hash,
                "tokenizer_sha256": loaded.vocabulary.sha256,
                "vocab_size": str(loaded.vocabulary.vocab_size),
            }
        )
        self._words: list[NDArray[np.uint64]] = []
        self._clock = _PartsClock()
        self._reported = 0
        self._counts = UnitCounts()

    def facts(self) -> Mapping[str, Any]:
        """Counts for the manifest; under "run" what depends on how the work was done."""
        words = np.concatenate(self._words) if self._words else np.empty((0, 2), dtype=np.uint64)
        self._counts.keys_digest = keys_digest(words)
        return {**self._counts.tree(), "run": self._engine.facts() if self._engine else {}}

    def write_shards(self, rejected: BinaryIO) -> list[FileRecord]:
        """Write all documents; a unit without any writes no shard."""
        records: list[FileRecord] = []
        batches = self._batches(self._groups(rejected))
        batch = next(batches, None)
        while batch is not None:
            path = self._task.out / f"tokens-{self._task.name}-{len(records):03d}.arrow"
            with ExitStack() as stack:
                shard = stack.enter_context(shard_writer(path, self._schema, records))
                while batch is not None and shard.size < self._task.config.shard_bytes:
                    shard.write(batch)
                    self._clock.end("write")
                    batch = next(batches, None)
            self._clock.end("write")
        rejected.write(json.dumps({"lines": self._log.lines}).encode() + b"\n")
        self._sink.advance(self._task.size - self._reported, **self._clock.take())
        return records

    def _groups(self, rejected: BinaryIO) -> Iterator[_Encoded]:
        """The unit's documents, encoded in groups; rejections go to their file on the way."""
        documents = self._documents(rejected)
        while group := _group(documents):
            self._clock.end("read")
            texts = [document.text for document in group]
            engine = self._engine_for(texts)
            self._clock.end("load")
            encoded = _Encoded(group, *engine.chosen.encoder.encode(texts))
            self._clock.end("encode")
            self._account(encoded, texts, engine)
            yield encoded

    def _engine_for(self, texts: Sequence[str]) -> _UnitEngine:
        if self._engine is None:
            chosen = self._loaded.engine_for(texts, self._sink.note)
            check = OracleCheck(chosen.encoder, chosen.oracle, self._task.check_rate)
            self._engine = _UnitEngine(chosen, check)
        return self._engine

    def _documents(self, rejected: BinaryIO) -> Iterator[Document]:
        found_in = self._loaded.control_text.found_in
        items = self._task.items(self._log)
        left = self._task.limit
        for item in items if left is None or left > 0 else ():
            if isinstance(item, Rejected):
                self._counts.rejected[item.reason] += 1
                rejected.write(_rejected_line(item))
                continue
            self._counts.replaced += item.replaced
            self._counts.control_text += found_in(item.text)
            yield item
            if left is not None and (left := left - 1) == 0:
                return

    def _account(self, encoded: _Encoded, texts: Sequence[str], engine: _UnitEngine) -> None:
        """Check, count and report a group."""
        documents, values, offsets = encoded
        keys = np.frombuffer(b"".join([document.key for document in documents]), dtype=np.uint8)
        words = keys_to_words(keys.reshape(-1, 16))
        self._words.append(words)
        if not engine.chosen.is_oracle:
            mismatch = engine.check.mismatch(words, texts, (values, offsets))
            self._clock.end("check")
            if mismatch is not None:
                raise self._wrong_ids(engine, documents[mismatch.document], mismatch)
        for document, n_tokens in zip(documents, np.diff(offsets).tolist(), strict=True):
            self._counts.add(document.domain, n_tokens, document.n_bytes)
        self._sink.advance(
            self._log.n_bytes - self._reported,
            tokens=len(values),
            documents=len(documents),
            **self._clock.take(),
        )
        self._reported = self._log.n_bytes

    def _wrong_ids(
        self, engine: _UnitEngine, document: Document, mismatch: Mismatch
    ) -> IntegrityError:
        described = mismatch.difference.describe(self._loaded.vocabulary)
        return IntegrityError(
            f"the engine {engine.chosen.described} gives other ids than the reference: {described}",
            where=f"{document.source} at {document.position:,}, unit {self._task.name}",
            effect="nothing of this unit was published; units that this engine finished before "
            "cannot be trusted either",
            fix="run the command again with --engine huggingface --fresh, and report the document",
        )

    def _batches(self, groups: Iterable[_Encoded]) -> Iterator[pa.RecordBatch]:
        """Record batches: each ends with the document that brings it to `_BATCH_IDS` ids, wherever
        groups end."""
        waiting: list[_Encoded] = []
        n_ids = 0
        for group in groups:
            while n_ids + len(group.values) >= _BATCH_IDS:
                cut = int(np.searchsorted(group.offsets, _BATCH_IDS - n_ids + group.offsets[0]))
                head, group = _cut(group, cut)
                yield _batch([*waiting, head], self._schema)
                waiting, n_ids = [], 0
            if group.documents:
                waiting.append(group)
                n_ids += len(group.values)
        if waiting:
            yield _batch(waiting, self._schema)


def _group(documents: Iterator[Document]) -> list[Document]:
    """The next documents, up to the one that brings them to `_ENCODE_CHARACTERS`."""
    group: list[Document] = []
    size = 0
    for document in documents:
        group.append(document)
        size += len(document.text)
        if size >= _ENCODE_CHARACTERS:
            break
    return group


def _cut(group: _Encoded, n_documents: int) -> tuple[_Encoded, _Encoded]:
    documents, values, offsets = group
    border = offsets[n_documents]
    return (
        _Encoded(documents[:n_documents], values[:border], offsets[: n_documents + 1]),
        _Encoded(documents[n_documents:], values[border:], offsets[n_documents:] - border),
    )


def _batch(groups: Sequence[_Encoded], schema: pa.Schema) -> pa.RecordBatch:
    documents = list(itertools.chain.from_iterable(group.documents for group in groups))
    values = np.concatenate([group.values for group in groups])
    offsets = np.zeros(len(documents) + 1, dtype=np.int64)
    np.cumsum(np.concatenate([np.diff(group.offsets) for group in groups]), out=offsets[1:])
    count = len(documents)
    ids = pa.Array.from_buffers(pa.int32(), len(values), [None, pa.py_buffer(values)])
    columns = [
        _fixed(pa.binary(16), count, b"".join([document.key for document in documents])),
        _strings([document.source for document in documents]),
        _fixed(pa.int64(), count, _int64([document.position for document in documents])),
        _strings([document.domain for document in documents]),
        _fixed(pa.int64(), count, _int64([document.n_bytes for document in documents])),
        pa.Array.from_buffers(
            schema.field("ids").type, count, [None, pa.py_buffer(offsets)], children=[ids]
        ),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _int64(values: list[int]) -> NDArray[np.int64]:
    return np.array(values, dtype=np.int64)


def _fixed(kind: pa.DataType, count: int, values: Any) -> pa.Array:
    return pa.Array.from_buffers(kind, count, [None, pa.py_buffer(values)])


def _strings(values: list[str]) -> pa.Array:
    encoded = [value.encode("utf-8") for value in values]
    offsets = np.zeros(len(encoded) + 1, dtype=np.int32)
    np.cumsum([len(value) for value in encoded], out=offsets[1:])
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded))]
    return pa.Array.from_buffers(pa.string(), len(encoded), buffers)


def _rejected_line(item: Rejected) -> bytes:
    record = {
        "source": item.source,
        "position": item.position,
        "line": item.line,
        "reason": item.reason,
        "detail": item.detail,
    }
    return (json.dumps(record, ensure_ascii=True) + "\n").encode()


class _PartsClock:
    """Microseconds spent in each part of the work, for the progress bar: what binds."""

    def __init__(self) -> None:
        self._microseconds: dict[str, int] = {}
        self._last = time.perf_counter_ns()

    def end(self, part: str) -> None:
        """What was done since the last call was `part`."""
        now = time.perf_counter_ns()
        name = f"{part}_us"
        self._microseconds[name] = self._microseconds.get(name, 0) + (now - self._last) // 1000
        self._last = now

    def take(self) -> dict[str, int]:
        """What came together since the last call of this."""
        taken, self._microseconds = self._microseconds, {}
        return taken
