"""A worked exercise, and how its numbers and formulas are written.

Every equality in a solution is written so that a program can read it: `*` for times, `^` for
powers, a fraction as 3/4, negative operands in brackets, `a mod b` for the remainder.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class Exercise:
    question: str
    steps: tuple[str, ...]
    answer: str


# Draws from the given random source only, so an exercise is a pure function of its seed.
Generator = Callable[[random.Random], Exercise]


def bracketed(value: int | Fraction) -> str:
    """As an operand: negative numbers and fractions in brackets."""
    text = str(value)
    return f"({text})" if value < 0 or "/" in text else text


def plus(value: int | Fraction) -> str:
    """As a further summand: "+ 3" or "- 3"."""
    return f"- {-value}" if value < 0 else f"+ {value}"


def decimal(value: Fraction) -> str:
    """The finite decimal expansion, without trailing zeros. Needs a denominator 2^a 5^b."""
    places = 0
    while (value * 10**places).denominator != 1:
        places += 1
        if places > 20:
            raise ValueError(f"{value} has no finite decimal expansion")
    if places == 0:
        return str(value)
    digits = str(abs(int(value * 10**places))).rjust(places + 1, "0")
    return f"{'-' if value < 0 else ''}{digits[:-places]}.{digits[-places:]}"


def money(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02d}"


def linear_form(terms: Sequence[tuple[int, str]]) -> str:
    """Coefficients with names, as in "3x - y + 5"; zero terms are dropped."""
    text = ""
    for coefficient, name in terms:
        if coefficient == 0:
            continue
        size = "" if abs(coefficient) == 1 and name else str(abs(coefficient))
        sign = "-" if coefficient < 0 else "+"
        text += f" {sign} {size}{name}" if text else f"{sign.strip('+')}{size}{name}"
    return text or "0"


def polynomial(coefficients: Sequence[int]) -> str:
    """Coefficients from the highest power down, as in "3x^2 - x + 5"."""
    degree = len(coefficients) - 1
    powers = [f"x^{k}" if k > 1 else "x" * k for k in range(degree, -1, -1)]
    return linear_form(list(zip(coefficients, powers, strict=True)))


def nonzero(rng: random.Random, low: int, high: int) -> int:
    """Uniform in low..high without 0."""
    while (value := rng.randint(low, high)) == 0:
        pass
    return value
