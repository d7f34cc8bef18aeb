"""Rates and remaining time on a clock that the test turns."""

from __future__ import annotations

import pytest

from dsv3data.contracts.meter import Meter


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_rates_of_the_unit_and_of_named_counts(clock: Clock) -> None:
    meter = Meter(total=100, clock=clock)
    clock.now += 4
    meter.advance(20, tokens=8)
    meter.advance(20, tokens=8, documents=1)
    assert meter.done == 40
    assert meter.counts == {"tokens": 16, "documents": 1}
    assert meter.seconds == 4
    assert meter.rate() == 10
    assert meter.rate("tokens") == 4
    assert meter.rate("unknown") == 0
    assert meter.remaining_seconds() == 6


def test_nothing_is_known_before_work_or_time(clock: Clock) -> None:
    meter = Meter(total=100, clock=clock)
    assert meter.rate() == 0
    assert meter.remaining_seconds() is None
    meter.advance(5)
    assert meter.rate() == 0
    assert meter.remaining_seconds() is None


def test_the_first_percent_says_nothing_about_the_end(clock: Clock) -> None:
    meter = Meter(total=1000, clock=clock)
    clock.now += 1
    meter.advance(10)
    assert meter.remaining_seconds() is None
    meter.advance(1)
    assert meter.remaining_seconds() == pytest.approx(989 / 11)


def test_no_total_no_end(clock: Clock) -> None:
    meter = Meter(clock=clock)
    clock.now += 1
    meter.advance(5)
    assert meter.remaining_seconds() is None


def test_a_clock_that_goes_back_gives_no_negative_figures(clock: Clock) -> None:
    meter = Meter(total=10, clock=clock)
    meter.advance(5)
    clock.now -= 50
    assert meter.seconds == 0
    assert meter.rate() == 0
    assert meter.remaining_seconds() is None


def test_more_work_than_announced_leaves_nothing(clock: Clock) -> None:
    meter = Meter(total=10, clock=clock)
    clock.now += 2
    meter.advance(12)
    assert meter.remaining_seconds() == 0


def test_a_correction_downwards_is_no_rate(clock: Clock) -> None:
    meter = Meter(total=10, clock=clock)
    clock.now += 2
    meter.advance(6)
    meter.advance(-2)
    assert meter.done == 4
    assert meter.rate() == 2


def test_the_part_that_binds_is_the_longest(clock: Clock) -> None:
    meter = Meter(clock=clock)
    assert meter.binding() is None
    meter.advance(1, tokens=9, read_us=100, encode_us=250)
    meter.advance(1, write_us=50, read_us=100)
    assert meter.binding() == ("encode", 0.5)
