"""`dsv3data tokenizer train`: documents in, a tokenizer folder with its manifest out."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from dsv3data.contracts.config import to_dict
from dsv3data.contracts.errors import BadInput
from dsv3data.contracts.keys import keyed_u64_scalar
from dsv3data.contracts.manifest import (
    MANIFEST_NAME,
    TOKENIZER,
    TOKENIZER_NAME,
    Manifest,
)
from dsv3data.contracts.progress import Sink
from dsv3data.encoding.vocabulary import Vocabulary, parse_vocabulary
from dsv3data.io.atomic import remove_partials, set_aside, write_atomic
from dsv3data.io.ledger import Ledger
from dsv3data.io.lock import OutputLock
from dsv3data.io.manifest_file import describe_file, is_intact, read_manifest, write_manifest
from dsv3data.io.places import refuse_output_inside
from dsv3data.io.sources import (
    Document,
    ReadOptions,
    SourceFile,
    Unit,
    discover,
    input_sha256,
    plan_units,
    read_unit,
)
from dsv3data_tokenizer.bpe import (
    add_control_tokens,
    tokenizer_config_json,
    tokenizer_json,
    train_bpe,
)
from dsv3data_tokenizer.config import TokenizerTrainConfig
from dsv3data_tokenizer.report import compression, vocabulary_shape

CONFIG_NAME = "tokenizer_config.json"
REPORT_NAME = "report.json"
_READ_UNIT_BYTES = 64 << 20
_ALL_ONES = (1 << 64) - 1


@dataclass(frozen=True, kw_only=True)
class TokenizerResult:
    """A trained tokenizer: its folder, identity and report (content of report.json)."""

    out: Path
    sha256: str
    report: dict[str, Any]
    reused: bool


def train_tokenizer(
    inputs: Sequence[Path],
    *,
    out: Path,
    config: TokenizerTrainConfig,
    sink: Sink,
    fresh: bool = False,
) -> TokenizerResult:
    """Train on all documents below `inputs`; the folder appears complete or not at all.

    A finished folder of the same config and the same input bytes is kept as it is.

    Raises:
        BadInput: no documents, or too few distinct pairs for the vocabulary.
        BadConfig: `out` lies in an input, or holds a tokenizer of another config or input.
    """
    refuse_output_inside(inputs, out)
    files, skipped = discover(inputs, text_files=config.read.text_files)
    if skipped:
        sink.note(f"{len(skipped)} files of unknown kind were skipped, the first: {skipped[0]}")
    units = plan_units(files, unit_bytes=_READ_UNIT_BYTES)
    if fresh and out.exists():
        with OutputLock(out):  # never move a folder from under a running process
            sink.note(f"old output moved to {set_aside(out)}")
    with OutputLock(out):
        ledger = Ledger(out)
        remove_partials(out)
        remove_partials(ledger.folder)
        plan = _plan(config, files, _source_hash(units, sink))
        if not (out / MANIFEST_NAME).is_file():
            ledger.forget_plan()  # of a run that was refused or killed
        ledger.open_plan(plan)
        finished = _finished(out)
        if finished is not None:
            return finished
        counts = _Counts()
        tokenizer = _train(units, config, counts, sink)
        return _publish(tokenizer, units, out, config, plan, counts, sink)


def describe_input(
    inputs: Sequence[Path], config: TokenizerTrainConfig, *, sink: Sink
) -> dict[str, Any]:
    """What a run would read, without reading it."""
    files, skipped = discover(inputs, text_files=config.read.text_files)
    if skipped:
        sink.note(f"{len(skipped)} files of unknown kind are skipped, the first: {skipped[0]}")
    return {
        "files": len(files),
        "input_bytes": sum(file.size for file in files),
        "vocab_size": config.vocab_size,
    }


class _Counts:
    """Documents and bytes per domain, and rejected records, of one reading."""

    def __init__(self) -> None:
        self.documents: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()
        self.rejected = 0

    def tree(self) -> dict[str, Any]:
        domains = {
            name: {"documents": self.documents[name], "bytes": self.bytes[name]}
            for name in sorted(self.documents)
        }
        return {
            "documents": self.documents.total(),
            "bytes": self.bytes.total(),
            "rejected": self.rejected,
            "domains": domains,
        }


def _plan(
    config: TokenizerTrainConfig, files: Sequence[SourceFile], source_hash: str
) -> dict[str, Any]:
    return {
        "tokenizer": to_dict(config),
        "input": {file.name: file.size for file in files},
        "input_sha256": source_hash,
    }


def _source_hash(units: Sequence[Unit], sink: Sink) -> str:
    sink.phase("hash input", total=sum(unit.size for unit in units), unit="B")
    digest = hashlib.sha256()
    for unit in units:
        digest.update(input_sha256(unit).encode())
        sink.advance(unit.size)
    return digest.hexdigest()


def _finished(out: Path) -> TokenizerResult | None:
    """The result of an earlier run whose files are all intact."""
    if not (out / MANIFEST_NAME).is_file():
        return None
    manifest = read_manifest(out, expect=(TOKENIZER,))
    if not all(is_intact(out, record) for record in manifest.files):
        return None
    report = json.loads((out / REPORT_NAME).read_text(encoding="utf-8"))
    return TokenizerResult(out=out, sha256=manifest.tokenizer.sha256, report=report, reused=True)


def _train(
    units: Sequence[Unit], config: TokenizerTrainConfig, counts: _Counts, sink: Sink
) -> Tokenizer:
    sink.phase("read and count", total=sum(unit.size for unit in units), unit="B")
    texts = _texts(units, config.read, counts, sink)
    tokenizer = train_bpe(texts, vocab_size=config.vocab_size, min_frequency=config.min_frequency)
    if not counts.documents:
        raise BadInput(
            "the input has no usable document"
            + (f": all {counts.rejected:,} records were rejected" if counts.rejected else ""),
            where=", ".join(sorted({span.file.name for unit in units for span in unit.spans})[:4]),
            effect="no tokenizer was written",
            fix="check --text-key and the encoding of the files",
        )
    reached = tokenizer.get_vocab_size()
    if reached < config.vocab_size and not config.allow_smaller:
        raise BadInput(
            f"the corpus yields only {reached:,} entries, {config.vocab_size:,} were asked for",
            where=f"{counts.documents.total():,} documents, {counts.bytes.total():,} bytes",
            effect="no tokenizer was written",
            fix=f"give more text, --vocab-size {reached}, or --allow-smaller",
        )
    add_control_tokens(tokenizer)
    return tokenizer


def _texts(
    units: Sequence[Unit], options: ReadOptions, counts: _Counts, sink: Sink
) -> Iterator[str]:
    for unit in units:
        for document in read_unit(unit, options):
            if isinstance(document, Document):
                counts.documents[document.domain] += 1
                counts.bytes[document.domain] += len(document.data)
                yield document.data.decode("utf-8")
            else:
                counts.rejected += 1
        sink.advance(unit.size)
    sink.phase("merge pairs")


def _publish(
    tokenizer: Tokenizer,
    units: Sequence[Unit],
    out: Path,
    config: TokenizerTrainConfig,
    plan: Mapping[str, Any],
    counts: _Counts,
    sink: Sink,
) -> TokenizerResult:
    data = tokenizer_json(tokenizer)
    vocabulary = parse_vocabulary(data, where="the trained tokenizer")
    sink.phase("report")
    report = {
        **vocabulary_shape(vocabulary),
        "sha256": vocabulary.sha256,
        "training_text": counts.tree(),
        "compression": _compression(vocabulary, units, config, counts),
    }
    write_atomic(out / TOKENIZER_NAME, data)
    write_atomic(out / CONFIG_NAME, tokenizer_config_json())
    write_atomic(
        out / REPORT_NAME,
        (json.dumps(report, ensure_ascii=False, indent=2) + "\n").encode("utf-8"),
    )
    names = (TOKENIZER_NAME, CONFIG_NAME, REPORT_NAME)
    manifest = Manifest(
        format=TOKENIZER,
        plan=plan,
        input={},
        tokenizer=vocabulary.record(),
        counts=counts.tree(),
        keys_digest="",
        files=tuple(describe_file(out, name) for name in names),
    )
    write_manifest(out, manifest)
    return TokenizerResult(out=out, sha256=vocabulary.sha256, report=report, reused=False)


def _compression(
    vocabulary: Vocabulary, units: Sequence[Unit], config: TokenizerTrainConfig, counts: _Counts
) -> dict[str, Any]:
    """Bytes per token on about `report_bytes` of each domain, the same documents for any run."""
    chosen: dict[str, list[str]] = {domain: [] for domain in counts.documents}
    for unit in units:
        for document in read_unit(unit, config.read):
            if isinstance(document, Document) and _in_sample(document, config, counts):
                chosen[document.domain].append(document.data.decode("utf-8"))
    return {
        domain: {**asdict(figures), "bytes_per_token": round(figures.bytes_per_token, 4)}
        for domain, figures in compression(vocabulary, chosen).items()
    }


def _in_sample(document: Document, config: TokenizerTrainConfig, counts: _Counts) -> bool:
    share = config.report_bytes / counts.bytes[document.domain]
    return keyed_u64_scalar(document.key, seed=0, purpose="tokenizer-report") <= share * _ALL_ONES
