"""Compiled kernels where no cache can be written, and the machine instructions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dsv3data import compiled as compiled_module
from dsv3data.compiled import compiled, load_u64, signed, trailing_zeros


@compiled
def word_at(data: Any, position: int) -> Any:
    return load_u64(data, position)


@compiled
def zeros_below(word: Any) -> int:
    return trailing_zeros(word)


@compiled
def sum_as_signed(number: Any) -> int:
    return signed(number) - 1


def test_a_kernel_is_compiled_where_no_cache_can_be_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = compiled_module.njit

    def without_cache(**options: Any) -> Callable[[Any], Any]:
        if options.get("cache"):
            raise RuntimeError("cannot cache function 'twice': no locator available for file")
        return real(**options)

    def twice(number: int) -> int:
        return 2 * number

    monkeypatch.setattr(compiled_module, "njit", without_cache)
    assert compiled(twice)(21) == 42


@pytest.mark.parametrize("position", range(9))
def test_a_word_is_loaded_from_any_position(position: int) -> None:
    data = np.frombuffer(bytearray(range(200, 217)), dtype=np.uint8)
    assert word_at(data, position) == int.from_bytes(data[position : position + 8], "little")


@pytest.mark.parametrize("bit", [0, 1, 7, 8, 31, 32, 63])
def test_trailing_zeros(bit: int) -> None:
    assert zeros_below(np.uint64((1 << bit) | (1 << 63))) == bit


def test_an_unsigned_number_becomes_a_signed_one_not_a_float() -> None:
    assert sum_as_signed(np.uint32(0)) == -1
    assert sum_as_signed(np.uint64((1 << 63) - 1)) == (1 << 63) - 2
