"""The tree of errors: four lines, exit codes, and the way across processes."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import pytest

from dsv3data.contracts.errors import (
    BadConfig,
    BadInput,
    Dsv3DataError,
    EnvironmentFault,
    IntegrityError,
    Stopped,
    TooManyRejected,
)

KINDS = {
    BadInput: 3,
    BadConfig: 3,
    IntegrityError: 4,
    EnvironmentFault: 5,
    TooManyRejected: 6,
    Stopped: 75,
}


def raise_one(kind: type[Dsv3DataError]) -> None:
    raise kind("what é", where="there", effect="that", fix="this")


def test_four_lines() -> None:
    error = BadInput("a", where="b", effect="c", fix="d")
    assert str(error) == "error: a\nwhere: b\neffect: c\nfix: d"
    assert error.args == ("a",)


def test_lines_without_text_are_left_out() -> None:
    assert str(BadInput("a", fix="d")) == "error: a\nfix: d"


@pytest.mark.parametrize(("kind", "code"), KINDS.items())
def test_exit_codes(kind: type[Dsv3DataError], code: int) -> None:
    assert kind("x").exit_code == code
    assert issubclass(kind, Dsv3DataError)


def test_every_kind_has_its_exit_code_tested() -> None:
    assert set(Dsv3DataError.__subclasses__()) == set(KINDS)


def test_errors_keep_their_lines_across_processes() -> None:
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(1, mp_context=context) as executor:
        for kind in KINDS:
            with pytest.raises(kind) as caught:
                executor.submit(raise_one, kind).result(timeout=600)
            assert type(caught.value) is kind
            assert str(caught.value) == "error: what é\nwhere: there\neffect: that\nfix: this"
