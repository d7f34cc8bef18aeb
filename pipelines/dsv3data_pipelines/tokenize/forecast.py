"""`--dry-run`: what a run would do, from a sample of the input."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dsv3data.contracts.progress import Sink
from dsv3data.encoding.choose import choose_engine
from dsv3data.encoding.vocabulary import load_vocabulary
from dsv3data.io.sources import Document, Unit, discover, plan_units, read_unit
from dsv3data.io.sources.raw import UnhashedLog
from dsv3data_pipelines.tokenize.config import TokenizeConfig

# Enough for the first megabyte of documents to be a small part of it, and quick with any engine.
_UNITS = 8
_UNIT_BYTES = 2 << 20
_ENCODE_BYTES = 1 << 20
# What a row takes beside its ids: key, source, position, domain, length, offset.
_ROW_BYTES = 64
_TABLES = ("parquet", "arrow")


@dataclass
class _Sample:
    """Documents from the beginnings of some units."""

    input_bytes: int = 0
    text_bytes: int = 0
    documents: int = 0
    seconds: float = 0.0
    texts: list[str] = field(default_factory=list)


def forecast(
    inputs: Sequence[Path | str],
    *,
    tokenizer: Path,
    config: TokenizeConfig,
    workers: int,
    sink: Sink,
    engine: str = "auto",
) -> dict[str, Any]:
    """Files and units exactly; documents, tokens, time and disk by a sample of the input and the
    engine that a run would use. Loading engines is not in the time, writing is."""
    vocabulary = load_vocabulary(tokenizer)
    files, _ = discover(inputs, text_files=config.read.text_files)
    units = plan_units(files, unit_bytes=config.unit_bytes)
    sample = _take_sample(units, config)
    chosen = choose_engine(vocabulary, engine, note=sink.note, texts=sample.texts)
    chosen.encoder.encode(sample.texts[:8])  # the first call of an engine is slow
    values, seconds = _timed(lambda: chosen.encoder.encode(sample.texts)[0])
    encoded = sum(len(text.encode("utf-8")) for text in sample.texts) or 1
    size = sum(unit.size for unit in units)
    texts = size * sample.text_bytes / (sample.input_bytes or 1)
    documents = size * sample.documents / (sample.input_bytes or 1)
    tokens = texts * len(values) / encoded
    reading = size * sample.seconds / (sample.input_bytes or 1)
    return {
        "files": len(files),
        "units": len(units),
        "input_bytes": size,
        "engine": chosen.described,
        "documents_estimate": round(documents),
        "text_bytes_estimate": round(texts),
        "tokens_estimate": round(tokens),
        "disk_bytes_estimate": round(tokens * 4 + documents * _ROW_BYTES),
        "seconds_estimate": round((texts * seconds / encoded + reading) / max(1, workers), 1),
    }


def _take_sample(units: Sequence[Unit], config: TokenizeConfig) -> _Sample:
    """The beginnings of some units; of units of tables one, whole, since nothing tells how much of
    its bytes a row takes."""
    sample = _Sample()
    tables = [unit for unit in units if unit.spans[0].file.kind in _TABLES][:1]
    streams = [unit for unit in units if unit.spans[0].file.kind not in _TABLES]
    chosen = [*tables, *streams[:: max(1, len(streams) // _UNITS)][:_UNITS]]
    for unit in chosen:
        started = time.perf_counter()
        _read_beginning(unit, config, sample, _ENCODE_BYTES // len(chosen))
        sample.seconds += time.perf_counter() - started
    return sample


def _read_beginning(unit: Unit, config: TokenizeConfig, sample: _Sample, keep_bytes: int) -> None:
    log = UnhashedLog()
    covered = 0  # raw bytes that all documents before the current one came from
    for item in read_unit(unit, config.read, log):
        if log.n_bytes != covered and covered >= _UNIT_BYTES:
            sample.input_bytes += covered
            return
        covered = log.n_bytes
        if isinstance(item, Document):
            sample.documents += 1
            sample.text_bytes += item.n_bytes
            if keep_bytes > 0:
                sample.texts.append(item.text)
                keep_bytes -= item.n_bytes
    sample.input_bytes += unit.size


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    started = time.perf_counter()
    result = work()
    return result, time.perf_counter() - started
