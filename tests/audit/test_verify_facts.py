"""Verify: the facts it recomputes are the data's, for every kind of folder."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from dsv3data.audit.checks import ranges_sum
from dsv3data.audit.verify import verify
from dsv3data.contracts.errors import BadInput, IntegrityError
from dsv3data.contracts.manifest import Manifest
from dsv3data.contracts.progress import NullSink
from dsv3data.io.manifest_file import read_manifest, write_manifest
from folders import copy_of
from tiny_data import tokenize_tiny, write_texts


class Progress(NullSink):
    def __init__(self) -> None:
        self.phases: list[list[object]] = []

    def phase(self, name: str, *, total: int | None = None, unit: str = "") -> None:
        self.phases.append([name, total, 0])

    def advance(self, amount: int, **counts: int) -> None:
        self.phases[-1][2] += amount  # type: ignore[operator]


def test_token_set(tiny_tokens: Path) -> None:
    progress = Progress()
    result = verify(tiny_tokens, sink=progress)
    manifest = read_manifest(tiny_tokens)
    assert (result.folder, result.format, result.root) == (
        tiny_tokens,
        "dsv3data.tokens",
        manifest.root,
    )
    assert result.files == len(manifest.files)
    assert result.size_bytes == sum((tiny_tokens / r.name).stat().st_size for r in manifest.files)
    names = ("documents", "tokens", "bytes", "domains")
    assert result.facts == {name: manifest.counts[name] for name in names}
    assert progress.phases == [
        ["checksums", result.size_bytes, result.size_bytes],
        ["documents", result.facts["documents"], result.facts["documents"]],
    ]


def test_packed_set(tiny_packed: Path) -> None:
    progress = Progress()
    result = verify(tiny_packed, sink=progress)
    counts = read_manifest(tiny_packed).counts
    names = ("bytes", "documents", "padding", "pieces", "row_ids", "rows", "text_tokens")
    stated = {name: counts[name] for name in names}
    assert counts["debias"]["split"] > 0
    assert result.facts == {**stated, "debias": {"split": counts["debias"]["split"]}}
    assert progress.phases[-1] == ["rows", counts["rows"], counts["rows"]]


def test_empty_token_set(tiny_tokenizer: Path, tmp_path: Path) -> None:
    path = write_texts(tmp_path / "x.jsonl", ["", ""])
    result = verify(tokenize_tiny(path, tiny_tokenizer, tmp_path / "out"), sink=NullSink())
    assert result.facts == {"documents": 0, "tokens": 0, "bytes": 0, "domains": {}}


def changed(manifest: Manifest, name: str) -> Manifest:
    """The manifest with one count, overall or of a domain, raised by one."""
    counts = {**manifest.counts}
    if "." in name:
        domain, name = name.split(".")
        figures = counts["domains"][domain]
        counts["domains"] = {**counts["domains"], domain: {**figures, name: figures[name] + 1}}
    else:
        counts[name] += 1
    return dataclasses.replace(manifest, counts=counts)


@pytest.mark.parametrize("name", ["documents", "tokens", "bytes", "web.tokens", "zh.documents"])
def test_each_count_of_a_token_set_is_recomputed(
    tiny_tokens: Path, tmp_path: Path, name: str
) -> None:
    folder = copy_of(tiny_tokens, tmp_path / "copy")
    write_manifest(folder, changed(read_manifest(folder), name))
    with pytest.raises(IntegrityError, match=rf"{name} is [\d,]+ in the data, \d+ in the manifest"):
        verify(folder, sink=NullSink())


@pytest.mark.parametrize("name", ["documents", "rows", "pieces", "bytes", "padding", "row_ids"])
def test_each_count_of_a_packed_set_is_recomputed(
    tiny_packed: Path, tmp_path: Path, name: str
) -> None:
    folder = copy_of(tiny_packed, tmp_path / "copy")
    write_manifest(folder, changed(read_manifest(folder), name))
    with pytest.raises(IntegrityError, match=rf"{name} is [\d,]+ in the data, \d+ in the manifest"):
        verify(folder, sink=NullSink())


@pytest.mark.parametrize("name", ["rejected", "empty"])
def test_rejections_are_counted(tiny_tokens: Path, tmp_path: Path, name: str) -> None:
    folder = copy_of(tiny_tokens, tmp_path / "copy")
    write_manifest(folder, changed(read_manifest(folder), name))
    with pytest.raises(IntegrityError, match="0 rejections are listed, the manifest counts 1"):
        verify(folder, sink=NullSink())


def test_a_folder_without_a_manifest(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="this folder holds no finished data set"):
        verify(tmp_path, sink=NullSink())


def test_sums_of_ranges() -> None:
    import numpy as np

    values = np.array([1, 2, 3, 4])
    starts, stops = np.array([0, 1, 4, 2]), np.array([4, 1, 4, 3])
    assert ranges_sum(values, starts, stops).tolist() == [10, 0, 0, 3]
