"""The quick look: what it finds, and what it says that it does not read."""

from __future__ import annotations

from pathlib import Path

import pytest

from dsv3data.audit.verify import verify, verify_quick
from dsv3data.contracts.errors import BadInput, IntegrityError
from dsv3data.contracts.progress import NullSink
from folders import copy_of, flip_bit


@pytest.mark.parametrize("kind", ["tokenizer", "tokens", "packed"])
def test_whole_sets_pass(kind: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(f"tiny_{kind}")
    quick, full = verify_quick(folder, sink=NullSink()), verify(folder, sink=NullSink())
    assert (quick.root, quick.files, quick.size_bytes) == (full.root, full.files, full.size_bytes)
    assert quick.facts == {}


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def stranger(path: Path) -> None:
    path.with_name("packed-x-00000.arrow").write_bytes(b"x")


def schema_bit(path: Path) -> None:
    flip_bit(path, 100, 1)


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (cut, "bytes, the manifest says"),
        (Path.unlink, "a file that the manifest lists is missing"),
        (stranger, "a file lies here that the manifest does not list"),
        (schema_bit, "the schema does not match its checksum"),
    ],
)
def test_damage_to_a_shard_is_found(
    tiny_packed: Path, tmp_path: Path, damage: object, text: str
) -> None:
    folder = copy_of(tiny_packed, tmp_path / "packed")
    damage(max(folder.glob("packed-*.arrow")))  # type: ignore[operator]
    with pytest.raises(IntegrityError, match=text):
        verify_quick(folder, sink=NullSink())


def test_the_manifest_is_checked_and_rows_are_not(tiny_packed: Path, tmp_path: Path) -> None:
    folder = copy_of(tiny_packed, tmp_path / "packed")
    shard = max(folder.glob("packed-*.arrow"))
    flip_bit(shard, shard.stat().st_size // 2, 1)
    verify_quick(folder, sink=NullSink())
    flip_bit(folder / "manifest.json", 200, 1)
    with pytest.raises((IntegrityError, BadInput)):
        verify_quick(folder, sink=NullSink())
