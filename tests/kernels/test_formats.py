"""The numbers: casts against their definition, scales of special tiles, packing of 12 bits."""

from __future__ import annotations

import math

import pytest
import torch

from dsv3data.kernels.formats import (
    E4M3,
    E5M6,
    SMALLEST_AMAX,
    Format,
    e5m6_bytes,
    e5m6_values,
    round_to,
    scale_of,
    to_e4m3,
)
from dsv3data.kernels.measure import loss_of, relative_error
from dsv3data.kernels.reference import dequantise_rows, quantise_rows, retile


def every_e4m3() -> torch.Tensor:
    codes = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn).float()
    return codes[codes.isfinite()]


def neighbours(values: torch.Tensor) -> torch.Tensor:
    """The values, the middles between them, and what lies just beside both."""
    ordered = values.unique()
    points = torch.cat((ordered, (ordered[1:] + ordered[:-1]) / 2))
    infinity = torch.tensor(math.inf)
    return torch.cat((points, points.nextafter(infinity), points.nextafter(-infinity)))


def test_the_cast_is_its_definition_at_every_value_and_every_tie() -> None:
    x = neighbours(every_e4m3())
    assert len(x) > 1400
    assert torch.equal(to_e4m3(x).float(), round_to(x, E4M3))
    ties = torch.tensor([17.0, 19.0, 2**-10, 3 * 2**-10])
    assert to_e4m3(ties).float().tolist() == [16.0, 20.0, 0.0, 2**-8]


def test_values_beyond_the_largest_are_held_there() -> None:
    x = torch.tensor([448.00003, 460.0, 1e30, -1e30])
    assert to_e4m3(x).float().tolist() == [448.0, 448.0, 448.0, -448.0]


def test_twelve_bits_keep_every_code() -> None:
    codes = torch.arange(1 << 12, dtype=torch.int32) << 4
    signed = torch.where(codes >= 1 << 15, codes - (1 << 16), codes).to(torch.int16)
    values = signed.view(torch.float16).float()
    values = values[values.isfinite()]
    assert len(values) == (1 << 12) - 128
    assert torch.equal(e5m6_values(e5m6_bytes(values[None])), values[None])
    x = neighbours(values)
    x = x[: len(x) // 128 * 128].clamp(-E5M6.largest, E5M6.largest)[None]
    assert torch.equal(e5m6_values(e5m6_bytes(x)), round_to(x, E5M6))
    assert e5m6_bytes(x).numel() == x.numel() * 3 // 2


@pytest.mark.parametrize("fmt", [E4M3, E5M6])
def test_a_power_of_two_is_the_smallest_that_fits(fmt: Format) -> None:
    amax = torch.cat(
        (torch.logspace(-29, 38, 500), fmt.largest * 2.0 ** torch.arange(-60, 60))
    ).clamp(min=SMALLEST_AMAX)
    scale = scale_of(amax, fmt, power_of_two=True)
    assert torch.equal(scale, 2.0 ** scale.log2().round())
    assert (amax <= scale.double() * fmt.largest).all()
    assert (amax > scale.double() / 2 * fmt.largest).all()


@pytest.mark.parametrize("power_of_two", [False, True])
@pytest.mark.parametrize("value", [0.0, 1e-45, 1e-42, -1e-38])
def test_a_tile_of_nothing_becomes_zeros_with_a_usable_scale(
    value: float, power_of_two: bool
) -> None:
    q = quantise_rows(torch.full((2, 128), value), power_of_two=power_of_two)
    assert not q.codes_RC.float().any()
    assert torch.isfinite(q.scales_GR).all()
    assert torch.isfinite(1 / q.scales_GR).all()


def test_a_small_tile_keeps_its_precision_down_to_the_floor() -> None:
    x = torch.randn(4, 128, generator=torch.Generator().manual_seed(0)) * 2.0**-90
    assert relative_error(dequantise_rows(quantise_rows(x)), x) < 0.03


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_spoils_its_tile_and_no_other(value: float) -> None:
    x = torch.ones(3, 300)
    x[1, 130] = value
    back = dequantise_rows(quantise_rows(x, power_of_two=True))
    assert back[1, 128:256].isnan().all()
    back[1, 128:256] = 1
    assert (back == 1).all()


def test_a_short_last_tile_is_filled_with_zeros() -> None:
    q = quantise_rows(torch.ones(3, 130))
    assert q.codes_RC.shape == (3, 256)
    assert q.scales_GR.shape == (2, 3)
    assert not q.codes_RC[:, 130:].float().any()
    assert dequantise_rows(q).shape == (3, 130)


def test_retiling_by_powers_of_two_loses_nothing_but_to_underflow() -> None:
    x = torch.randn(256, 256, generator=torch.Generator().manual_seed(1))
    q = quantise_rows(x, power_of_two=True)
    once, twice = dequantise_rows(q), dequantise_rows(retile(q)).T
    kept = once.abs() > 2.0**-6  # the smallest normal number of every tile here is smaller
    assert kept.float().mean() > 0.97
    assert torch.equal(once[kept], twice[kept])


def test_losses_are_measured() -> None:
    x = torch.ones(1, 128)
    x[0, 1] = 1e-6
    loss = loss_of(x, quantise_rows(x))
    assert loss.underflow_share == 1 / 128
    assert 0 < loss.relative_error < 1e-6
    assert relative_error(torch.zeros(2), torch.zeros(2)) == 0
