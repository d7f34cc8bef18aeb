"""The fast CRC-32 is zlib's."""

from __future__ import annotations

import importlib
import random
import sys
import zlib

import numpy as np
import pytest

from dsv3data.io import checksums


def test_equal_to_zlib_for_any_buffer() -> None:
    chance = random.Random(4)
    for length in [*range(70), 255, 4096, 16_384, 100_003]:
        data = chance.randbytes(length)
        assert checksums.crc32(data) == zlib.crc32(data)
        assert checksums.crc32(memoryview(data)[3:]) == zlib.crc32(data[3:])
        begin = zlib.crc32(data[: length // 3])
        assert checksums.crc32(data[length // 3 :], begin) == zlib.crc32(data)
    ids = np.arange(4096, dtype=np.int32)
    assert checksums.crc32(ids) == checksums.crc32(ids.data) == zlib.crc32(ids.tobytes())


def test_without_isal_it_is_zlib_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        for name in ("isal", "isal.isal_zlib"):
            patch.setitem(sys.modules, name, None)
        assert importlib.reload(checksums).crc32 is zlib.crc32
    importlib.reload(checksums)
