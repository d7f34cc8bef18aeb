"""datatrove's stream of documents → a token set, one unit per rank.

Each rank writes the shards of its own stream, so the bytes depend on the number of tasks and on
what the steps before yield, and on nothing else. A rank that is started again does its stream again
and gives the same files. `PublishTokens` runs after all ranks, in a pipeline of one task.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from datatrove.pipeline.base import PipelineStep

from dsv3data.contracts.config import config_hash, to_dict
from dsv3data.contracts.errors import EnvironmentFault
from dsv3data.contracts.manifest import Manifest
from dsv3data.contracts.progress import NullSink
from dsv3data.encoding.vocabulary import Vocabulary, load_vocabulary
from dsv3data.io.ledger import Ledger, UnitRecord
from dsv3data.io.lock import SharedOutputLock
from dsv3data.io.sources import Document, InputLog, ReadOptions, Rejected, Unit
from dsv3data.io.sources.documents import DocumentMaker
from dsv3data.stages.output import open_output
from dsv3data_pipelines.blocks.read_documents import KEY
from dsv3data_pipelines.executors.steps import LogSink
from dsv3data_pipelines.tokenize import TokenizeConfig, TokenizePlan, publish_tokens
from dsv3data_pipelines.tokenize.unit import TokenizeUnit

# Raised when the same stream and config would give other bytes than before.
CODE_FORMAT = 1
_SHOWN = 8


class TokenizeDocuments(PipelineStep):  # type: ignore[misc]
    """Writes the documents of the stream into token shards in `out`; yields none.

    A document's key is that of our reader, or comes from its `id`, which must be unique; `domain`,
    `source` and `position` are taken from its metadata where they are. Documents that we refuse are
    in rejected.jsonl at the end.

    Args:
        tokenizer: folder of a tokenizer, or its tokenizer.json.
        options: limits, the domain's name, what to do with lone surrogates.
    """

    type = "dsv3data"
    name = "tokenize documents"

    def __init__(
        self, tokenizer: Path | str, out: Path | str, *, options: ReadOptions | None = None
    ) -> None:
        super().__init__()
        self.tokenizer = str(Path(tokenizer).absolute())
        self.out = str(Path(out).absolute())
        self.options = options or ReadOptions()

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        """One rank's stream, to its end."""
        work = _StreamWork(self.tokenizer, self.out, self.options, tasks=world_size)
        with SharedOutputLock(work.out), self.track_time("task"):
            ledger = Ledger(work.out)
            ledger.open_plan(work.tree)
            stream = _Stream(data or (), self.options)
            unit = work.unit(rank, stream)
            files, counts = unit.run(LogSink(f"task {rank} of {world_size}"))
            record = UnitRecord(
                plan_hash=unit.plan_hash,
                input_sha256=stream.sha256,
                files=tuple(files),
                counts=counts,
            )
            ledger.record(unit.name, record)
        self.stat_update("documents", value=counts["documents"], unit="task")
        self.stat_update("tokens", value=counts["tokens"], unit="task")
        for reason, number in counts["rejected_by_reason"].items():
            self.stat_update(f"rejected_{reason}", value=number, unit="task")
        yield from ()


class PublishTokens(PipelineStep):  # type: ignore[misc]
    """Publishes the manifest of what all ranks of `TokenizeDocuments` wrote.

    Give it the same arguments, and the number of tasks of that pipeline; run it with one task.
    """

    type = "dsv3data"
    name = "publish tokens"

    def __init__(
        self,
        tokenizer: Path | str,
        out: Path | str,
        *,
        tasks: int,
        options: ReadOptions | None = None,
    ) -> None:
        super().__init__()
        self.tokenizer = str(Path(tokenizer).absolute())
        self.out = str(Path(out).absolute())
        self.tasks = tasks
        self.options = options or ReadOptions()

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        """Passes on what comes in; only rank 0 publishes."""
        yield from data or ()
        if rank == 0:
            work = _StreamWork(self.tokenizer, self.out, self.options, tasks=self.tasks)
            manifest = work.publish()
            self.stat_update("documents", value=manifest.counts["documents"], unit="set")
            self.stat_update("tokens", value=manifest.counts["tokens"], unit="set")


class _StreamWork:
    """What both steps know of a token set that is made from `tasks` streams."""

    def __init__(self, tokenizer: str, out: str, options: ReadOptions, *, tasks: int) -> None:
        self.out = Path(out)
        self._tokenizer = Path(tokenizer)
        self._tasks = tasks
        self._vocabulary: Vocabulary = load_vocabulary(self._tokenizer)
        # Ids stand in the place of keys: `publish_tokens` looks for twins.
        self._config = TokenizeConfig(read=replace(options, id_key="id"))
        self.tree = {
            "code_format": CODE_FORMAT,
            "tokenize": to_dict(self._config),
            "tokenizer_sha256": self._vocabulary.sha256,
            "input": {"stream": f"{tasks} tasks"},
        }

    def unit(self, rank: int, stream: _Stream | None = None) -> _StreamUnit:
        """The unit of one rank."""
        return _StreamUnit(
            unit=Unit(number=rank, spans=()),
            tokenizer=self._tokenizer,
            tokenizer_sha256=self._vocabulary.sha256,
            config=self._config,
            out=self.out,
            plan_hash=config_hash(self.tree),
            stream=stream,
        )

    def publish(self) -> Manifest:
        """The manifest, published."""
        units = tuple(self.unit(rank) for rank in range(self._tasks))
        plan = TokenizePlan(
            out=self.out,
            config=self._config,
            vocabulary=self._vocabulary,
            tree=self.tree,
            tasks=units,
        )
        with open_output(self.out, self.tree, fresh=False, sink=NullSink()):
            ledger = Ledger(self.out)
            found = [ledger.entered(unit.name, plan_hash=unit.plan_hash) for unit in units]
            missing = [unit.name for unit, record in zip(units, found, strict=True) if not record]
            if missing:
                raise _not_done(missing, self._tasks, self.out)
            return publish_tokens(plan, [record for record in found if record is not None])


def _not_done(missing: list[str], tasks: int, out: Path) -> EnvironmentFault:
    return EnvironmentFault(
        f"{len(missing)} of {tasks} tasks have not written their shards:"
        f" {', '.join(missing[:_SHOWN])}{' …' if len(missing) > _SHOWN else ''}",
        where=str(out),
        effect="nothing was published; what the other tasks wrote is kept",
        fix="run the pipeline with TokenizeDocuments again, then this one",
    )


@dataclass(frozen=True, kw_only=True)
class _StreamUnit(TokenizeUnit):
    """A unit that consists of what a rank's pipeline yields."""

    stream: _Stream | None = field(default=None, repr=False)

    def items(self, log: InputLog) -> Iterator[Document | Rejected]:
        return iter(self.stream or ())


class _Stream:
    """datatrove's documents as ours, and a hash over those that passed."""

    def __init__(self, data: Any, options: ReadOptions) -> None:
        self._data = data
        self._options = replace(options, text_key="text", id_key="id", domain_key="domain")
        self._digest = hashlib.sha256()

    @property
    def sha256(self) -> str:
        """SHA-256 (hex) over key, length and text of each document that passed so far."""
        return self._digest.hexdigest()

    def __iter__(self) -> Iterator[Document | Rejected]:
        for index, given in enumerate(self._data):
            item = self._item(given, index)
            if isinstance(item, Document):
                self._digest.update(item.key + item.n_bytes.to_bytes(8, "little") + item.data)
            yield item

    def _item(self, given: Any, index: int) -> Document | Rejected:
        metadata = given.metadata
        source = str(metadata.get("source") or metadata.get("file_path") or "stream")
        fields = {"text": given.text, "id": given.id, "domain": metadata.get("domain")}
        position = int(metadata.get("position", index))
        item = DocumentMaker(source, self._options).make(fields, position)
        key = metadata.get(KEY)
        if isinstance(item, Document) and key is not None:
            return item._replace(key=bytes.fromhex(key))
        return item
