"""Texts written for this project, in `texts/`: many languages, and mathematics."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from importlib import resources
from typing import Literal

from dsv3data_pipelines.demo_documents.selection import Candidate

_SEPARATOR = "\n%%\n"


def authored_candidates(kind: Literal["multi", "math"]) -> Iterator[Candidate]:
    """One candidate per text, such as "multi/zh/0"; a line `%%` separates the texts of a file."""
    folder = resources.files("dsv3data_pipelines.demo_documents") / "texts" / kind
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        stem, _, suffix = file.name.rpartition(".")
        if suffix == "txt":
            for number, text in enumerate(file.read_text(encoding="utf-8").split(_SEPARATOR)):
                yield Candidate(id=f"{kind}/{stem}/{number}", read=partial(str, text.strip("\n")))
