"""Write the demo's documents: OUT/code.jsonl, en.jsonl, multi.jsonl and math.jsonl."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from dsv3data.contracts.errors import BadInput
from dsv3data.io.atomic import atomic_writer, make_folder
from dsv3data_pipelines.demo_documents.arithmetic import arithmetic_candidates
from dsv3data_pipelines.demo_documents.authored import authored_candidates
from dsv3data_pipelines.demo_documents.english import english_candidates
from dsv3data_pipelines.demo_documents.python_source import PythonPlaces, python_source_candidates
from dsv3data_pipelines.demo_documents.selection import (
    Candidate,
    Document,
    Selection,
    in_keyed_order,
    select,
)


@dataclass(frozen=True, kw_only=True)
class DomainSizes:
    """How much text to take, in bytes of UTF-8; a domain ends with the document that reaches its
    size. `multi` is always taken whole. Less than `least_total_bytes` altogether is an error."""

    code_bytes: int = 9_500_000
    en_bytes: int = 5_000_000
    math_bytes: int = 3_500_000
    least_total_bytes: int = 15_000_000


@dataclass(frozen=True, kw_only=True)
class DomainSummary:
    """`size_bytes` counts the texts in UTF-8, without the JSON around them. `skipped` counts texts
    that were read and left out: unreadable, too short, too long, not prose, or seen before."""

    domain: str
    documents: int
    size_bytes: int
    skipped: int


def build_documents(
    out: Path, *, seed: int = 0, sizes: DomainSizes = DomainSizes()
) -> list[DomainSummary]:
    """Choose and write the documents of all four domains.

    One machine and one seed always give the same bytes. Every file holds one object
    `{"id", "text", "domain"}` a line.

    Raises:
        BadInput: this environment holds too little text; nothing was written.
    """
    return build_from(PythonPlaces.of_this_interpreter(), out, seed=seed, sizes=sizes)


def build_from(
    places: PythonPlaces, out: Path, *, seed: int, sizes: DomainSizes
) -> list[DomainSummary]:
    """`build_documents` for Python files that lie anywhere."""
    selections = select_domains(places, seed=seed, sizes=sizes)
    _require_enough(selections, places, sizes)
    make_folder(out)
    for domain, selection in selections.items():
        with atomic_writer(out / f"{domain}.jsonl") as file:
            file.writelines(_lines(selection.documents, domain))
    return [_summary(domain, selection) for domain, selection in selections.items()]


def select_domains(places: PythonPlaces, *, seed: int, sizes: DomainSizes) -> dict[str, Selection]:
    multi = in_keyed_order(authored_candidates("multi"), seed)
    return {
        "code": select(python_source_candidates(places, seed=seed), size_bytes=sizes.code_bytes),
        "en": select(english_candidates(places, seed=seed), size_bytes=sizes.en_bytes),
        "multi": select(multi, size_bytes=sys.maxsize),
        "math": select(_math_candidates(seed), size_bytes=sizes.math_bytes),
    }


def _math_candidates(seed: int) -> Iterator[Candidate]:
    """Written texts first, then exercises without end."""
    written = in_keyed_order(authored_candidates("math"), seed)
    return chain(written, arithmetic_candidates(seed))


def _require_enough(
    selections: dict[str, Selection], places: PythonPlaces, sizes: DomainSizes
) -> None:
    total_bytes = sum(selection.size_bytes for selection in selections.values())
    if total_bytes >= sizes.least_total_bytes:
        return
    found = ", ".join(f"{domain} {part.size_bytes:,}" for domain, part in selections.items())
    raise BadInput(
        f"only {total_bytes:,} bytes of text in this Python environment, "
        f"the demo needs {sizes.least_total_bytes:,} ({found})",
        where=", ".join(map(str, (places.stdlib, *places.packages))),
        effect="no documents were written",
        fix="run the demo from an environment with more packages, e.g. pip install 'dsv3data[dev]'",
    )


def _lines(documents: tuple[Document, ...], domain: str) -> Iterator[bytes]:
    for document in documents:
        row = {"id": document.id, "text": document.text, "domain": domain}
        yield json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _summary(domain: str, selection: Selection) -> DomainSummary:
    return DomainSummary(
        domain=domain,
        documents=len(selection.documents),
        size_bytes=selection.size_bytes,
        skipped=selection.skipped,
    )
