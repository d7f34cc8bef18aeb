"""One work unit of `tokenize`: read documents, encode them, write shards and rejections.

Python does little per document and nothing per token: texts go to the engine in groups of about a
megabyte, ids come back as one buffer and reach the shard as they are.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dsv3data.contracts.errors import IntegrityError
from dsv3data.contracts.keys import keys_digest
from dsv3data.contracts.manifest import FileRecord
from dsv3data.contracts.progress import Sink
from dsv3data.contracts.schemas import token_schema
from dsv3data.encoding.choose import (
    ChosenEngine,
    LoadedEngines,
    begin_loading,
    hand_over,
    load_engines,
)
from dsv3data.encoding.control_text import ControlTextCounter
from dsv3data.encoding.oracle_check import Mismatch, OracleCheck
from dsv3data.encoding.vocabulary import Vocabulary, load_vocabulary
from dsv3data.io.atomic import atomic_writer
from dsv3data.io.manifest_file import describe_file
from dsv3data.io.shards import shard_writer
from dsv3data.io.sources import Document, InputLog, Rejected, Unit, input_sha256, read_unit
from dsv3data.io.sources.jsonl import load_kernel
from dsv3data_pipelines.tokenize.batches import Encoded, record_batches
from dsv3data_pipelines.tokenize.config import TokenizeConfig
from dsv3data_pipelines.tokenize.counts import UnitCounts
from dsv3data_pipelines.tokenize.parts_clock import PartsClock
from dsv3data_pipelines.tokenize.rejected import last_line, rejected_line, rejected_name

# Text that is encoded at once. It shapes no byte.
_ENCODE_CHARACTERS = 1 << 20


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

    def warm_up(self) -> Sequence[Callable[[], None]]:
        vocabulary = load_vocabulary(self.tokenizer)
        return [*hand_over(vocabulary, self.engine), self._load_all]

    def run(self, sink: Sink) -> tuple[list[FileRecord], Mapping[str, Any]]:
        files, counts, _ = self.run_hashing(sink)
        return files, counts

    def run_hashing(self, sink: Sink) -> tuple[list[FileRecord], Mapping[str, Any], str]:
        log = InputLog()
        work = _UnitWork(self, self._loaded(), log, sink)
        with atomic_writer(self.out / rejected_name(self.unit)) as rejected:
            shards = work.write_shards(rejected)
        # A trial stops somewhere in the unit, but belongs to all of its bytes.
        sha256 = log.sha256 if self.limit is None else self.input_sha256()
        return [*shards, describe_file(self.out, rejected_name(self.unit))], work.facts(), sha256

    def _load_all(self) -> None:
        loaded = self._loaded()
        # Whatever else a unit needs that is slow to load: the engine's thread is at work.
        if any(span.file.kind == "jsonl" for span in self.unit.spans):
            load_kernel()
        _ = loaded.engines  # loaded by being asked for

    def _loaded(self) -> _Loaded:
        return _load(self.tokenizer, self.tokenizer_sha256, self.engine)


class _Loaded:
    """What a process loads once for a tokenizer."""

    def __init__(self, vocabulary: Vocabulary, wanted: str) -> None:
        begin_loading(vocabulary, wanted)  # in a thread; all else meanwhile
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
        self._clock = PartsClock()
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
        batches = record_batches(self._groups(rejected), self._schema)
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
        rejected.write(last_line(self._log))
        self._sink.advance(self._task.size - self._reported, **self._clock.take())
        return records

    def _groups(self, rejected: BinaryIO) -> Iterator[Encoded]:
        """The unit's documents, encoded in groups; rejections go to their file on the way."""
        documents = self._documents(rejected)
        while group := _group(documents):
            texts = [document.text for document in group]
            self._counts.control_text += self._loaded.control_text.count(texts)
            self._clock.end("read")
            engine = self._engine_for(texts)
            self._clock.end("load")
            ids, offsets = engine.chosen.encoder.encode(texts)
            self._clock.end("encode")
            encoded = Encoded.of(group, ids, offsets)
            self._check(encoded, texts, engine)
            self._account(encoded)
            yield encoded

    def _engine_for(self, texts: Sequence[str]) -> _UnitEngine:
        if self._engine is None:
            chosen = self._loaded.engine_for(texts, self._sink.note)
            check = OracleCheck(chosen.encoder, chosen.oracle, self._task.check_rate)
            self._engine = _UnitEngine(chosen, check)
        return self._engine

    def _documents(self, rejected: BinaryIO) -> Iterator[Document]:
        items = self._task.items(self._log)
        left = self._task.limit
        for item in items if left is None or left > 0 else ():
            if isinstance(item, Rejected):
                self._counts.rejected[item.reason] += 1
                rejected.write(rejected_line(item))
                continue
            self._counts.replaced += item.replaced
            yield item
            if left is not None and (left := left - 1) == 0:
                return

    def _check(self, encoded: Encoded, texts: Sequence[str], engine: _UnitEngine) -> None:
        if engine.chosen.is_oracle:
            return
        offsets = np.concatenate([[0], np.cumsum(encoded.n_tokens)])
        mismatch = engine.check.mismatch(encoded.keys, texts, (encoded.ids, offsets))
        self._clock.end("check")
        if mismatch is not None:
            raise self._wrong_ids(engine, encoded, mismatch)

    def _account(self, encoded: Encoded) -> None:
        """Count and report a group."""
        self._words.append(encoded.keys)
        self._counts.add(encoded)
        self._sink.advance(
            self._log.n_bytes - self._reported,
            tokens=len(encoded.ids),
            documents=len(encoded.n_tokens),
            **self._clock.take(),
        )
        self._reported = self._log.n_bytes

    def _wrong_ids(
        self, engine: _UnitEngine, encoded: Encoded, mismatch: Mismatch
    ) -> IntegrityError:
        described = mismatch.difference.describe(self._loaded.vocabulary)
        place = mismatch.document
        return IntegrityError(
            f"the engine {engine.chosen.described} gives other ids than the reference: {described}",
            where=f"{encoded.sources[place]} at {encoded.positions[place]:,},"
            f" unit {self._task.name}",
            effect="nothing of this unit was published; units that this engine finished before "
            "cannot be trusted either",
            fix="run the command again with --engine huggingface --fresh, and report the document",
        )


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
