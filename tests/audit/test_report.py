"""The report's figures, recomputed slowly from the rows themselves."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from dsv3data.audit.report import FILL_NAMES, report_set
from dsv3data.contracts.errors import BadInput, IntegrityError
from dsv3data.contracts.progress import NullSink
from folders import copy_of, flip_bit
from read_sets import documents_in, pieces_in
from tiny_data import CONTEXT


def length_class(tokens: int) -> str:
    return f"{1 << (tokens.bit_length() - 1):,}"


def fill_class(n_tokens: int, context: int) -> str:
    share = n_tokens / context
    ends = (0.5, 0.75, 0.9, 0.95, 0.99, 0.999)
    if n_tokens == context:
        return FILL_NAMES[-1]
    return next((name for end, name in zip(ends, FILL_NAMES, strict=False) if share <= end), "")


def counted(tree: dict[str, dict[str, list[int]]], name: str) -> dict[str, Counter[str]]:
    histogram = tree[name]
    return {
        domain: +Counter(dict(zip(histogram["classes"], counts, strict=True)))
        for domain, counts in histogram["domains"].items()
    }


def test_a_packed_set(tiny_packed: Path) -> None:
    tree = report_set(tiny_packed, sink=NullSink())
    domains = {"web.jsonl": "web", "chinese.jsonl": "zh", "code.jsonl": "code"}
    documents: dict[tuple[str, int], int] = Counter()
    rows: Counter[tuple[str, int, int]] = Counter()
    fim: dict[str, set[int]] = {name: set() for name in domains.values()}
    for origin, _ in pieces_in(tiny_packed):
        domain = domains[origin["source"]]
        documents[origin["source"], origin["position"]] += (
            origin["token_stop"] - origin["token_start"]
        )
        rows[domain, origin["partition"], origin["row"]] += len(origin["ids"])
        if origin["flag"]:
            fim[domain].add(origin["position"])
    lengths: dict[str, Counter[str]] = {name: Counter() for name in fim}
    fills: dict[str, Counter[str]] = {name: Counter() for name in fim}
    for (source, _), tokens in documents.items():
        lengths[domains[source]][length_class(tokens)] += 1
    for (domain, _, _), n_tokens in rows.items():
        fills[domain][fill_class(n_tokens, CONTEXT)] += 1
    assert counted(tree, "lengths") == lengths
    assert counted(tree, "fill") == fills
    assert tree["context"] == CONTEXT
    for name, figures in tree["domains"].items():
        of_domain = [n for (domain, _, _), n in rows.items() if domain == name]
        assert figures["rows"] == len(of_domain)
        assert figures["fill"] == pytest.approx(sum(of_domain) / len(of_domain) / CONTEXT)
        assert figures["padding"] == len(of_domain) * CONTEXT - sum(of_domain)
        assert figures["fim_documents"] == len(fim[name])
        assert figures["padding_share"] + figures["fill"] == pytest.approx(1)
    longest = sorted(documents.items(), key=lambda item: (-item[1], *item[0]))[:10]
    assert [(one["source"], one["position"]) for one in tree["longest"]] == [
        place for place, _ in longest
    ]
    json.dumps(tree)


def test_a_token_set(tiny_tokens: Path) -> None:
    tree = report_set(tiny_tokens, sink=NullSink())
    documents = documents_in(tiny_tokens)
    lengths: dict[str, Counter[str]] = {name: Counter() for name in ("code", "web", "zh")}
    for document in documents:
        lengths[document.domain][length_class(len(document.ids))] += 1
    assert counted(tree, "lengths") == lengths
    assert tree["all"]["documents"] == len(documents)
    assert tree["all"]["tokens"] == sum(len(document.ids) for document in documents)
    assert tree["longest"][0]["tokens"] == max(len(document.ids) for document in documents)
    json.dumps(tree)


def test_damage_and_other_folders(tiny_packed: Path, tiny_tokenizer: Path, tmp_path: Path) -> None:
    packed = copy_of(tiny_packed, tmp_path / "packed")
    lineage = min(packed.glob("lineage-*.parquet"))
    flip_bit(lineage, lineage.stat().st_size // 2, 1)
    with pytest.raises(IntegrityError, match="SHA-256 differs"):
        report_set(packed, sink=NullSink())
    with pytest.raises(BadInput, match=r"holds dsv3data.tokenizer, not dsv3data.packed"):
        report_set(tiny_tokenizer, sink=NullSink())
    with pytest.raises(BadInput, match="there is no such folder"):
        report_set(tmp_path / "absent", sink=NullSink())
