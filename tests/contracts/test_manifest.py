"""The manifest in memory: round trip through JSON, and the root that names a data set."""

from __future__ import annotations

import dataclasses
import hashlib
import json

import pytest

from dsv3data.contracts.manifest import (
    PACKED,
    FileRecord,
    Manifest,
    Segment,
    TokenizerRecord,
    manifest_from_tree,
    root_hash,
)

FILES = (
    FileRecord(
        name="b.arrow",
        size=20,
        sha256="bb",
        rows=3,
        segments=(Segment(offset=0, size=9, crc32=7), Segment(offset=9, size=11, crc32=8, rows=3)),
    ),
    FileRecord(name="a.json", size=10, sha256="aa"),
)


@pytest.fixture
def manifest() -> Manifest:
    return Manifest(
        format=PACKED,
        plan={"pack": {"context": 8}},
        input={"tokens_root": "t"},
        tokenizer=TokenizerRecord(sha256="c", vocab_size=5, embedding_rows=128),
        counts={"rows": 3},
        keys_digest="d",
        files=FILES,
    )


def test_round_trip_through_json(manifest: Manifest) -> None:
    tree = json.loads(json.dumps(manifest.to_tree()))
    assert tree["root"] == manifest.root
    assert manifest_from_tree(tree) == manifest


def test_root_is_the_hash_of_sorted_lines(manifest: Manifest) -> None:
    lines = b"a.json\x0010\x00aa\nb.arrow\x0020\x00bb\n"
    assert manifest.root == hashlib.sha256(lines).hexdigest()
    assert root_hash(reversed(FILES)) == manifest.root


@pytest.mark.parametrize("change", [{"name": "c"}, {"size": 11}, {"sha256": "ab"}])
def test_root_changes_with_each_file(manifest: Manifest, change: dict[str, object]) -> None:
    changed = (FILES[0], dataclasses.replace(FILES[1], **change))
    assert root_hash(changed) != manifest.root


def test_shards_are_the_arrow_files_in_their_order(manifest: Manifest) -> None:
    assert [record.name for record in manifest.shards()] == ["b.arrow"]
