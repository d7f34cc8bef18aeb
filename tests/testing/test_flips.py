"""The check of flipped bits looks at every byte, and finds readers that notice too little."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import pytest

from dsv3data.contracts.manifest import MANIFEST_NAME
from dsv3data.io.manifest_file import read_manifest
from dsv3data.testing import assert_flips_found
from dsv3data.testing.flips import set_regions
from folders import copy_of, everything


@pytest.mark.parametrize("kind", ["tokens", "packed"])
def test_regions_are_every_byte_once(kind: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(f"tiny_{kind}")
    places = defaultdict(list)
    for region in set_regions(folder):
        places[region.file].append((region.start, region.stop))
    sizes = {record.name: record.size for record in read_manifest(folder).files if record.size}
    assert places.keys() == {*sizes, MANIFEST_NAME}
    for name, found in places.items():
        size = (folder / name).stat().st_size
        assert [start for start, _ in found] == [0, *(stop for _, stop in found[:-1])], name
        assert found[-1][1] == size == sizes.get(name, size)


@pytest.mark.parametrize("blind", ["_is_refused", "_is_refused_by_reader"])
def test_what_is_not_noticed_is_named(
    tiny_tokens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blind: str
) -> None:
    folder = copy_of(tiny_tokens, tmp_path / "tokens")
    before = everything(folder)
    monkeypatch.setattr(f"dsv3data.testing.flips.{blind}", lambda *_: False)
    with pytest.raises(AssertionError) as caught:
        assert_flips_found(folder, flips=3, seed=8)
    assert "seed 8: not noticed: " in str(caught.value)
    assert len(re.findall(r"\(.+?\), byte [\d,]+, bit \d", str(caught.value))) == 3
    assert everything(folder) == before
