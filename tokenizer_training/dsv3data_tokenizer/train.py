"""`dsv3data tokenizer train`: documents or word counts in, a tokenizer folder and manifest out.

Two phases. Counting reads all documents, in units and processes, and leaves every unique pre-token
with its number; merging needs only these, and no longer the text.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence, Set
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from dsv3data.contracts.config import config_hash, to_dict
from dsv3data.contracts.errors import BadInput
from dsv3data.contracts.manifest import MANIFEST_NAME, TOKENIZER, TOKENIZER_NAME, WORD_COUNTS
from dsv3data.contracts.progress import Sink
from dsv3data.encoding.vocabulary import parse_vocabulary
from dsv3data.io.atomic import remove_partials, set_aside
from dsv3data.io.ledger import Ledger
from dsv3data.io.lock import OutputLock
from dsv3data.io.manifest_file import check_file, is_intact, read_manifest
from dsv3data.io.places import refuse_output_inside
from dsv3data.stages.counts import add_counts
from dsv3data_tokenizer.bpe import add_control_tokens, tokenizer_json
from dsv3data_tokenizer.config import TokenizerTrainConfig
from dsv3data_tokenizer.count import COUNTS_NAME, SAMPLE_NAME, CountConfig, count_corpus
from dsv3data_tokenizer.folder import REPORT_NAME, write_tokenizer_folder
from dsv3data_tokenizer.judge.compression import compression
from dsv3data_tokenizer.ladder import cut_vocabulary
from dsv3data_tokenizer.merges import bpe_tokenizer, train_merges
from dsv3data_tokenizer.text_sample import merge_samples
from dsv3data_tokenizer.without import without_record
from dsv3data_tokenizer.word_counts import counts_of, merge_counts, read_counts

# Raised when the same counts and config would give another tokenizer than before.
CODE_FORMAT = 2


@dataclass(frozen=True, kw_only=True)
class TokenizerResult:
    """A trained tokenizer: its folder, identity and report (content of report.json)."""

    out: Path
    sha256: str
    report: dict[str, Any]
    reused: bool


@dataclass(frozen=True, kw_only=True)
class _Words:
    """The counted training text, and samples of it."""

    path: Path
    roots: tuple[str, ...]
    counts: Mapping[str, Any]
    samples: tuple[Path, ...]


@dataclass(frozen=True, kw_only=True)
class _Recipe:
    """What the words are merged by."""

    config: TokenizerTrainConfig
    without: Set[bytes]


def train_tokenizer(
    inputs: Sequence[Path],
    *,
    out: Path,
    config: TokenizerTrainConfig,
    sink: Sink,
    workers: int = 1,
    memory_bytes: int = 4 << 30,
    from_counts: bool = False,
    ladder: Sequence[int] = (),
    without: Set[bytes] = frozenset(),
    fresh: bool = False,
) -> TokenizerResult:
    """Train on the documents below `inputs`; the folder appears complete or not at all.

    A finished folder of the same config and the same input bytes is kept as it is; counting
    continues where an interrupted run stopped.

    Args:
        workers, memory_bytes: of the counting phase; neither reaches a byte of the result.
        from_counts: `inputs` are folders of `dsv3data tokenizer count`, which add up.
        ladder: sizes of smaller vocabularies to cut from the same merges, into OUT-SIZE.
        without: strings that may not become tokens.

    Raises:
        BadInput: no documents, or too few distinct pairs for the vocabulary.
        BadConfig: `out` lies in an input, or holds a tokenizer of another config or input.
    """
    refuse_output_inside(inputs, out)
    if fresh and out.exists():
        with OutputLock(out):  # never move a folder from under a running process
            sink.note(f"old output moved to {set_aside(out)}")
    with OutputLock(out):
        ledger = Ledger(out)
        remove_partials(out)
        remove_partials(ledger.folder)
        if from_counts:
            words = _given_words(inputs, ledger.folder)
        else:
            words = _count(inputs, ledger.folder, config, workers, memory_bytes, sink)
        recipe = _Recipe(config=config, without=without)
        plan = _plan(recipe, words)
        if not (out / MANIFEST_NAME).is_file():
            ledger.forget_plan()  # of a run that was refused or killed
        ledger.open_plan(plan)
        result = _finished(out) or _publish(
            _merge(words, recipe, sink), words, out, recipe, plan, sink
        )
        _cut_ladder(result, ladder, words, recipe, sink)
        return result


def _count(
    inputs: Sequence[Path],
    work: Path,
    config: TokenizerTrainConfig,
    workers: int,
    memory_bytes: int,
    sink: Sink,
) -> _Words:
    """Count into the working folder; another recipe or reading counts into another place."""
    counting = CountConfig(
        unit_bytes=config.unit_bytes,
        report_bytes=config.report_bytes,
        sample=config.sample,
        read=config.read,
    )
    folder = work / f"words-{config_hash(counting)[:16]}"
    for other in work.glob("words-*"):
        if other != folder:
            shutil.rmtree(other)
    counted = count_corpus(
        inputs,
        out=folder,
        config=counting,
        sink=sink,
        workers=workers,
        memory_bytes=memory_bytes,
    )
    return _Words(
        path=folder / COUNTS_NAME,
        roots=(counted.root,),
        counts=counted.counts,
        samples=(folder / SAMPLE_NAME,),
    )


def _given_words(folders: Sequence[Path], work: Path) -> _Words:
    """Counts of earlier runs, checked; several are merged."""
    manifests = [read_manifest(folder, expect=(WORD_COUNTS,)) for folder in folders]
    for folder, manifest in zip(folders, manifests, strict=True):
        for record in manifest.files:
            check_file(folder, record)
    paths = [folder / COUNTS_NAME for folder in folders]
    counts = add_counts([manifest.counts for manifest in manifests])
    roots = tuple(sorted(manifest.root for manifest in manifests))
    samples = tuple(folder / SAMPLE_NAME for folder in folders)
    if len(paths) == 1:
        return _Words(path=paths[0], roots=roots, counts=counts, samples=samples)
    counts["words"] = merge_counts(paths, work / COUNTS_NAME)
    return _Words(path=work / COUNTS_NAME, roots=roots, counts=counts, samples=samples)


def _plan(recipe: _Recipe, words: _Words) -> dict[str, Any]:
    plan = {
        "code_format": CODE_FORMAT,
        "tokenizer": to_dict(recipe.config),
        "word_counts_roots": list(words.roots),
    }
    if recipe.without:
        plan["without"] = without_record(recipe.without)
    return plan


def _finished(out: Path) -> TokenizerResult | None:
    """The result of an earlier run whose files are all intact."""
    if not (out / MANIFEST_NAME).is_file():
        return None
    manifest = read_manifest(out, expect=(TOKENIZER,))
    if not all(is_intact(out, record) for record in manifest.files):
        return None
    report = json.loads((out / REPORT_NAME).read_text(encoding="utf-8"))
    return TokenizerResult(out=out, sha256=manifest.tokenizer.sha256, report=report, reused=True)


def _merge(words: _Words, recipe: _Recipe, sink: Sink) -> bytes:
    """tokenizer.json of the trained tokenizer."""
    config = recipe.config
    sink.phase("merge pairs", total=config.vocab_size, unit="entries")
    table: pa.Table = read_counts(words.path)
    merges = train_merges(
        table["word"],
        counts_of(table["count"]),
        vocab_size=config.vocab_size,
        min_frequency=config.min_frequency,
        max_token_bytes=config.max_token_bytes,
        without=recipe.without,
        progress=_Progress(sink),
    )
    reached = merges.vocab_size
    if reached < config.vocab_size and not config.allow_smaller:
        raise BadInput(
            f"the corpus yields only {reached:,} entries, {config.vocab_size:,} were asked for",
            where=f"{words.counts['documents']:,} documents, {words.counts['bytes']:,} bytes",
            effect="no tokenizer was written",
            fix=f"give more text, --vocab-size {reached}, or --allow-smaller",
        )
    tokenizer = bpe_tokenizer(merges)
    add_control_tokens(tokenizer)
    return tokenizer_json(tokenizer)


class _Progress:
    """Turns "so many so far" into steps for a sink."""

    def __init__(self, sink: Sink) -> None:
        self._sink, self._done = sink, 0

    def __call__(self, done: int, total: int) -> None:
        self._sink.advance(done - self._done)
        self._done = done


def _publish(
    data: bytes,
    words: _Words,
    out: Path,
    recipe: _Recipe,
    plan: Mapping[str, Any],
    sink: Sink,
) -> TokenizerResult:
    sink.phase(f"report {out.name}")
    vocabulary = parse_vocabulary(data, where="the trained tokenizer")
    texts = merge_samples(words.samples, limit_bytes=recipe.config.report_bytes).texts()
    figures = {
        domain: {**asdict(figure), "bytes_per_token": round(figure.bytes_per_token, 4)}
        for domain, figure in compression(vocabulary, texts, note=sink.note).items()
    }
    report = write_tokenizer_folder(
        out,
        vocabulary,
        plan=plan,
        training_text=words.counts,
        compression=figures,
        without=recipe.without,
    )
    return TokenizerResult(out=out, sha256=vocabulary.sha256, report=report, reused=False)


def _cut_ladder(
    result: TokenizerResult,
    sizes: Sequence[int],
    words: _Words,
    recipe: _Recipe,
    sink: Sink,
) -> None:
    """Smaller vocabularies from the same merges, each a tokenizer folder OUT-SIZE of its own."""
    data = (result.out / TOKENIZER_NAME).read_bytes()
    for size in sizes:
        out = result.out.with_name(f"{result.out.name}-{size}")
        rung = cut_vocabulary(data, size)
        cut = replace(recipe, config=replace(recipe.config, vocab_size=size))
        plan = {**_plan(cut, words), "cut_from": result.sha256}
        with OutputLock(out):
            Ledger(out).open_plan(plan)
            if _finished(out) is None:
                _publish(rung, words, out, cut, plan, sink)
