"""manifest.json on disk: what is refused, and how damage of a listed file is named."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from dsv3data.contracts.errors import BadInput, IntegrityError
from dsv3data.contracts.manifest import (
    FORMAT_VERSION,
    PACKED,
    TOKENS,
    FileRecord,
    Manifest,
    TokenizerRecord,
)
from dsv3data.io.manifest_file import (
    check_file,
    check_no_strangers,
    describe_file,
    hash_file,
    is_intact,
    read_manifest,
    write_manifest,
)
from dsv3data.io.sealed import seal


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    (tmp_path / "a").write_bytes(b"content")
    made = Manifest(
        format=TOKENS,
        plan={},
        input={},
        tokenizer=TokenizerRecord(sha256="", vocab_size=1, embedding_rows=128),
        counts={},
        keys_digest="",
        files=(describe_file(tmp_path, "a"),),
    )
    write_manifest(tmp_path, made)
    return made


def test_round_trip(tmp_path: Path, manifest: Manifest) -> None:
    assert read_manifest(tmp_path, expect=(TOKENS,)) == manifest
    assert read_manifest(tmp_path) == manifest


def test_no_folder_and_no_manifest_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="there is no such folder"):
        read_manifest(tmp_path / "absent")
    with pytest.raises(BadInput, match="this folder holds no finished data set"):
        read_manifest(tmp_path)


def test_another_kind_is_named(tmp_path: Path, manifest: Manifest) -> None:
    with pytest.raises(BadInput, match=r"this folder holds dsv3data.tokens, not dsv3data.packed"):
        read_manifest(tmp_path, expect=(PACKED,))


def test_a_newer_format_is_refused(tmp_path: Path, manifest: Manifest) -> None:
    newer = dataclasses.replace(manifest, format_version=FORMAT_VERSION + 1)
    write_manifest(tmp_path, newer)
    with pytest.raises(BadInput, match="format version 2 is newer than this program's 1") as caught:
        read_manifest(tmp_path)
    assert caught.value.fix == "update dsv3data"


@pytest.mark.parametrize("change", [{"config": {}}, {"files": None}, {"tokenizer": {"x": 1}}])
def test_other_keys_than_the_format_has_are_refused(
    tmp_path: Path, manifest: Manifest, change: dict[str, object]
) -> None:
    (tmp_path / "manifest.json").write_bytes(seal({**manifest.to_tree(), **change}))
    with pytest.raises(BadInput, match="the manifest has other keys than those of format"):
        read_manifest(tmp_path)


def test_a_sealed_manifest_with_a_foreign_root_is_refused(
    tmp_path: Path, manifest: Manifest
) -> None:
    (tmp_path / "manifest.json").write_bytes(seal(manifest.to_tree() | {"root": "0" * 64}))
    with pytest.raises(IntegrityError, match="the manifest's root hash is not the hash of"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("name", ["../a", "/etc/hostname", "sub/a", "..", "", ".hidden"])
def test_a_name_outside_the_folder_is_refused_before_opening(
    tmp_path: Path, manifest: Manifest, name: str
) -> None:
    hostile = dataclasses.replace(manifest, files=(FileRecord(name=name, size=1, sha256="0" * 64),))
    write_manifest(tmp_path, hostile)
    with pytest.raises(IntegrityError, match="which is no file of its folder"):
        read_manifest(tmp_path)


def test_hash_and_size(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert hash_file(tmp_path / "x") == (3, expected)


def test_listed_files_are_checked(tmp_path: Path, manifest: Manifest) -> None:
    record = manifest.files[0]
    check_file(tmp_path, record)
    assert is_intact(tmp_path, record)
    (tmp_path / "a").write_bytes(b"Content")
    with pytest.raises(IntegrityError, match="the file's SHA-256 differs from the manifest's"):
        check_file(tmp_path, record)
    assert not is_intact(tmp_path, record)
    (tmp_path / "a").write_bytes(b"content+")
    with pytest.raises(IntegrityError, match="the file has 8 bytes, the manifest says 7"):
        check_file(tmp_path, record)
    (tmp_path / "a").unlink()
    with pytest.raises(IntegrityError, match="a file that the manifest lists is missing"):
        check_file(tmp_path, record)
    assert not is_intact(tmp_path, record)


def test_strangers_are_found_hidden_files_and_run_facts_are_not(
    tmp_path: Path, manifest: Manifest
) -> None:
    (tmp_path / ".lock").write_bytes(b"")
    (tmp_path / "run.json").write_bytes(b"")
    check_no_strangers(tmp_path, manifest)
    (tmp_path / "more.arrow").write_bytes(b"")
    with pytest.raises(IntegrityError, match="a file lies here that the manifest does not list"):
        check_no_strangers(tmp_path, manifest)


def test_records_compare_by_content(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    record = describe_file(tmp_path, "x", rows=2)
    assert record == FileRecord(name="x", size=3, sha256=record.sha256, rows=2)
