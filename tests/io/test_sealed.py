"""Sealed JSON: byte-exact or refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsv3data.contracts.errors import IntegrityError
from dsv3data.io.sealed import SEAL, read_sealed, seal, unseal

TREE = {"b": [1, 2.5, None, True], "a": {"é": "\u2028\0", "n": -(2**70)}}
KEYS = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=12,
)


def refused(data: bytes) -> bool:
    with pytest.raises(IntegrityError, match="the file is damaged") as caught:
        unseal(data, where="here", fix="do this")
    return (caught.value.where, caught.value.fix) == ("here", "do this")


@settings(max_examples=60)
@given(st.dictionaries(KEYS.filter(lambda key: key != SEAL), VALUES, max_size=4))
def test_round_trip(tree: dict[str, object]) -> None:
    assert unseal(seal(tree), where="", fix="") == tree


def test_every_flipped_bit_is_found() -> None:
    data = seal(TREE)
    for index in range(len(data)):
        for bit in range(8):
            flipped = bytearray(data)
            flipped[index] ^= 1 << bit
            assert refused(bytes(flipped))


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[:-1],
        lambda data: data + b"\n",
        lambda data: b" " + data,
        lambda data: b"",
        lambda data: b"[]\n",
        lambda data: b"null\n",
        lambda data: b"[" * 200_000,
        lambda data: b'{"a": "\xff"}\n',
        lambda data: json.dumps(json.loads(data), sort_keys=True).encode(),
        lambda data: seal(TREE | {"c": 1}).replace(b'"c": 1', b'"c": 2'),
    ],
)
def test_anything_else_is_refused(change: object) -> None:
    assert refused(change(seal(TREE)))  # type: ignore[operator]


def test_the_order_of_keys_does_not_matter() -> None:
    assert seal({"a": 1, "b": 2}) == seal({"b": 2, "a": 1})


def test_numbers_that_are_no_json_cannot_be_sealed() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        seal({"a": float("nan")})


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    with pytest.raises(FileNotFoundError):
        read_sealed(path, fix="")
    path.write_bytes(seal(TREE))
    assert read_sealed(path, fix="") == TREE
