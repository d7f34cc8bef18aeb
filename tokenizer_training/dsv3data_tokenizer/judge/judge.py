"""`dsv3data tokenizer report`: one tokenizer, and others beside it, on a sample of documents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsv3data.contracts.progress import Sink
from dsv3data.encoding.vocabulary import Vocabulary, load_vocabulary
from dsv3data.io.sources import ReadOptions
from dsv3data_tokenizer.judge.bootstrap import CONFIDENCE, RESAMPLES
from dsv3data_tokenizer.judge.compression import compare
from dsv3data_tokenizer.judge.contender import Contender, load_contender, parse_contender
from dsv3data_tokenizer.judge.growth import ladder_sizes, parents_of, tokens_at
from dsv3data_tokenizer.judge.junk import junk_rows
from dsv3data_tokenizer.judge.measures import (
    TextMeasures,
    TokenMeasures,
    measure_texts,
    measure_tokens,
)
from dsv3data_tokenizer.judge.sample import Sample, read_sample
from dsv3data_tokenizer.judge.vocabulary import vocabulary_shape, vocabulary_use

SAMPLE_BYTES = 4_000_000
_WORST = 10
# A shorter document says little: one name in a rare script decides.
_WORST_BYTES = 256
_EXCERPT = 80


def judge_tokenizer(
    folder: Path,
    inputs: Sequence[Path],
    *,
    options: ReadOptions,
    sink: Sink,
    against: Sequence[tuple[str, Path]] = (),
    sample_bytes: int = SAMPLE_BYTES,
    language_key: str = "",
    junk: Sequence[str] = (),
) -> dict[str, Any]:
    """Everything that the report shows, as plain values; no clock, no machine.

    Args:
        folder: a tokenizer of ours (DeepSeek-V3's id layout), or its tokenizer.json.
        against: name and place of any other tokenizer.json, or folder that holds one; without a
            name it is called after its folder or file.
        sample_bytes: text of each domain that is encoded, at most.
        language_key: field that holds a document's language; empty: there is none.
        junk: kinds of junk candidates to list whole.

    Raises:
        BadInput: a tokenizer or the documents cannot be used.
    """
    vocabulary = load_vocabulary(folder)
    ours = parse_contender(vocabulary.tokenizer_json, name=folder.resolve().name, where=str(folder))
    contenders = _with_distinct_names(
        [ours, *(load_contender(path, name=name) for name, path in against)]
    )
    sample = read_sample(
        inputs, options=options, sample_bytes=sample_bytes, language_key=language_key, sink=sink
    )
    texts = measure_texts(sample.documents)
    measures = []
    for contender in contenders:
        sink.phase("encode", total=int(texts.bytes.sum()), unit="B")
        measures.append(measure_tokens(contender, sample.documents, sink))
    sink.phase("report")
    return {
        "folder": str(folder),
        "tokenizers": [
            {"name": contender.name, "ids": contender.n_ids, "sha256": contender.sha256}
            for contender in contenders
        ],
        "sample": _sample(sample, sample_bytes),
        "intervals": {"confidence": CONFIDENCE, "resamples": RESAMPLES},
        "compression": {
            kind: _compression(kind, groups, texts, measures)
            for kind, groups in _groups(sample, language_key).items()
        },
        "growth": _growth(vocabulary, measures[0], sample),
        "vocabulary": {
            **vocabulary_shape(vocabulary),
            **vocabulary_use(vocabulary, measures[0], sample.documents),
        },
        "worst_documents": _worst(sample, texts, measures[0]),
        "junk": junk_rows(vocabulary, measures[0], sample.documents, junk),
    }


def _with_distinct_names(contenders: Sequence[Contender]) -> list[Contender]:
    """The second tokenizer of a name becomes `name (2)`."""
    seen: Counter[str] = Counter()
    named = []
    for contender in contenders:
        seen[contender.name] += 1
        number = seen[contender.name]
        name = contender.name if number == 1 else f"{contender.name} ({number})"
        named.append(replace(contender, name=name))
    return named


def _sample(sample: Sample, sample_bytes: int) -> dict[str, Any]:
    documents: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for document in sample.documents:
        documents[document.domain] += 1
        sizes[document.domain] += document.n_bytes
    return {
        "limit_bytes": sample_bytes,
        "documents": len(sample.documents),
        "cut_documents": sum(document.is_cut for document in sample.documents),
        "bytes": sizes.total(),
        "rejected": sample.rejected,
        "domains": {
            name: {
                "documents": documents[name],
                "bytes": sizes[name],
                "available_documents": sample.available_documents[name],
                "available_bytes": sample.available_bytes[name],
            }
            for name in sorted(documents)
        },
    }


Groups = dict[str, NDArray[np.intp]]


def _groups(sample: Sample, language_key: str) -> dict[str, Groups]:
    """Numbers of the documents of each domain, of each language, and of all."""
    kinds = {"domains": _grouped([document.domain for document in sample.documents])}
    if language_key:
        kinds["languages"] = _grouped([document.language for document in sample.documents])
    return {**kinds, "all": {"all": np.arange(len(sample.documents))}}


def _grouped(names: Sequence[str]) -> Groups:
    return {name: np.flatnonzero([other == name for other in names]) for name in sorted(set(names))}


def _compression(
    kind: str, groups: Groups, texts: TextMeasures, measures: Sequence[TokenMeasures]
) -> dict[str, list[dict[str, Any]]]:
    """By group, a figure for each tokenizer in their order."""
    return {
        name: [one.tree() for one in compare(f"{kind}\0{name}", texts, measures, members)]
        for name, members in groups.items()
    }


def _growth(vocabulary: Vocabulary, measures: TokenMeasures, sample: Sample) -> dict[str, Any]:
    """Bytes per token by domain for nested smaller vocabularies."""
    parents = parents_of(vocabulary.tokenizer_json)
    sizes = ladder_sizes(len(parents))
    n_bytes: Counter[str] = Counter()
    for document in sample.documents:
        n_bytes[document.domain] += document.n_bytes
    domains = {}
    for name, use in measures.use.items():
        tokens = tokens_at(sizes, parents, use)
        domains[name] = [n_bytes[name] / tokens[size] for size in sizes]
    return {"vocab_sizes": sizes, "bytes_per_token": domains}


def _worst(sample: Sample, texts: TextMeasures, measures: TokenMeasures) -> list[dict[str, Any]]:
    """Documents with the fewest bytes per token, the worst first."""
    ratios = texts.bytes / np.maximum(1, measures.tokens)
    ratios[texts.bytes < _WORST_BYTES] = np.inf
    rows = []
    for number in np.argsort(ratios, kind="stable")[:_WORST]:
        if np.isfinite(ratios[number]):
            document = sample.documents[number]
            rows.append(
                {
                    "source": document.source,
                    "position": document.position,
                    "domain": document.domain,
                    "bytes": document.n_bytes,
                    "tokens": int(measures.tokens[number]),
                    "bytes_per_token": float(ratios[number]),
                    "beginning": document.text[:_EXCERPT],
                }
            )
    return rows
