"""Exercises with letters: equations, sequences, polynomials, counting."""

from __future__ import annotations

import random
from collections import Counter
from fractions import Fraction
from itertools import pairwise
from math import factorial, gcd, isqrt, perm, prod

from dsv3data_pipelines.demo_documents.exercise import (
    Exercise,
    Generator,
    bracketed,
    linear_form,
    nonzero,
    plus,
    polynomial,
)


def linear_equation(rng: random.Random) -> Exercise:
    a, b, c, d = (
        nonzero(rng, -12, 12),
        rng.randint(-40, 40),
        rng.randint(-9, 9),
        rng.randint(-40, 40),
    )
    if a == c:
        c -= 1
    x = Fraction(d - b, a - c)
    left, right = polynomial((a, b)), polynomial((c, d))
    steps = []
    if c:
        verb = "Subtract" if c > 0 else "Add"
        steps.append(
            f"{verb} {polynomial((abs(c), 0))} on both sides: {polynomial((a - c, b))} = {d}"
        )
    if b:
        verb = "Subtract" if b > 0 else "Add"
        steps.append(f"{verb} {abs(b)} on both sides: {polynomial((a - c, 0))} = {d - b}")
    if a - c != 1:
        steps.append(f"Divide by {bracketed(a - c)}: x = {x}")
    value = a * x + b
    check = f"Check: {a} * {bracketed(x)} {plus(b)} = {value}"
    steps.append(f"{check} and {c} * {bracketed(x)} {plus(d)} = {value}")
    question = rng.choice(("Solve {} = {}.", "Solve for x: {} = {}"))
    return Exercise(question.format(left, right), tuple(steps), f"x = {x}")


def two_equations(rng: random.Random) -> Exercise:
    x, y = rng.randint(-9, 9), rng.randint(-9, 9)
    a, b, c, d = (nonzero(rng, -8, 8) for _ in range(4))
    while a * d == b * c:
        c = nonzero(rng, -8, 8)
    first, second = a * x + b * y, c * x + d * y
    left = linear_form(((a, "x"), (b, "y")))
    det = a * d - b * c
    steps = (
        f"Multiply the first equation by {bracketed(d)}: "
        f"{linear_form(((a * d, 'x'), (b * d, 'y')))} = {first * d}",
        f"Multiply the second equation by {bracketed(b)}: "
        f"{linear_form(((b * c, 'x'), (b * d, 'y')))} = {second * b}",
        f"Subtract: {linear_form(((det, 'x'),))} = {first * d - second * b}, so x = {x}",
        f"Put this into the first equation: {a} * {bracketed(x)} {_term(b, 'y')} = {first}, "
        f"so {linear_form(((b, 'y'),))} = {first - a * x} and y = {y}",
        f"Check in the second: {c} * {bracketed(x)} {plus(d)} * {bracketed(y)} = {second}",
    )
    question = f"Solve the system {left} = {first}; {linear_form(((c, 'x'), (d, 'y')))} = {second}."
    return Exercise(question, steps, f"x = {x} and y = {y}")


def quadratic_equation(rng: random.Random) -> Exercise:
    a, b, c = _quadratic(rng)
    discriminant = b * b - 4 * a * c
    steps = [
        f"With coefficients {a}, {b} and {c} the discriminant is "
        f"{bracketed(b)}^2 - 4 * {bracketed(a)} * {bracketed(c)} = {discriminant}."
    ]
    question = f"Solve {polynomial((a, b, c))} = 0."
    if discriminant < 0:
        steps.append("It is negative, so the equation has no real solution.")
        return Exercise(question, tuple(steps), "no real solution")
    root = isqrt(discriminant)
    steps.append(f"Its root is {root}, since {root}^2 = {discriminant}.")
    roots = sorted({Fraction(-b - root, 2 * a), Fraction(-b + root, 2 * a)})
    for sign in (-1, 1) if root else (1,):
        value = Fraction(-b + sign * root, 2 * a)
        steps.append(f"x = ({-b} {'+' if sign > 0 else '-'} {root}) / {bracketed(2 * a)} = {value}")
    for value in roots:
        x = bracketed(value)
        steps.append(f"Check: {bracketed(a)} * {x}^2 {plus(b)} * {x} {plus(c)} = 0")
    return Exercise(question, tuple(steps), " or ".join(f"x = {value}" for value in roots))


def arithmetic_sequence(rng: random.Random) -> Exercise:
    first, difference, n = rng.randint(-20, 50), nonzero(rng, -9, 15), rng.randint(8, 120)
    last = first + (n - 1) * difference
    total = n * (first + last) // 2
    steps = (
        f"There are {n - 1} differences from the first term to term number {n}: "
        f"{first} + {n - 1} * {bracketed(difference)} = {last}",
        f"The sum is the number of terms times the mean of first and last: "
        f"{n} * ({first} + {bracketed(last)}) / 2 = {total}",
    )
    question = (
        f"An arithmetic sequence starts with {first} and has the difference {difference}. "
        f"Find term number {n} and the sum of the first {n} terms."
    )
    return Exercise(question, steps, f"term {last} and sum {total}")


def geometric_sequence(rng: random.Random) -> Exercise:
    first, ratio, n = rng.randint(1, 9), rng.choice((-3, -2, 2, 3, 4, 5)), rng.randint(4, 9)
    last, total = first * ratio ** (n - 1), first * (ratio**n - 1) // (ratio - 1)
    r = bracketed(ratio)
    steps = (
        f"Term number {n} is {first} * {r}^{n - 1} = "
        f"{first} * {bracketed(ratio ** (n - 1))} = {last}",
        f"The sum is {first} * ({r}^{n} - 1) / ({ratio} - 1) = {total}",
    )
    question = (
        f"A geometric sequence starts with {first} and has the ratio {ratio}. "
        f"Find term number {n} and the sum of the first {n} terms."
    )
    return Exercise(question, steps, f"term {last} and sum {total}")


def next_term(rng: random.Random) -> Exercise:
    a, b, c = rng.randint(1, 4), rng.randint(-6, 6), rng.randint(-10, 20)
    terms = [a * n * n + b * n + c for n in range(1, 7)]
    gaps = [right - left for left, right in pairwise(terms)]
    shown = ", ".join(map(str, terms[:5]))
    steps = [f"{right} - {bracketed(left)} = {right - left}" for left, right in pairwise(terms[:5])]
    steps += [
        f"The differences grow by {2 * a} each time, so the next one is "
        f"{gaps[3]} + {2 * a} = {gaps[4]}",
        f"and the next term is {terms[4]} {plus(gaps[4])} = {terms[5]}",
    ]
    return Exercise(f"How does the sequence {shown} go on?", tuple(steps), str(terms[5]))


def derivative(rng: random.Random) -> Exercise:
    coefficients = [nonzero(rng, -9, 9), *(rng.randint(-9, 9) for _ in range(rng.randint(2, 4)))]
    degree = len(coefficients) - 1
    slopes = [c * (degree - k) for k, c in enumerate(coefficients[:-1])]
    at = rng.randint(-4, 4)
    steps = [
        f"The derivative of {linear_form([(c, f'x^{k}' if k > 1 else 'x')])} is "
        f"{polynomial([c * k, *([0] * (k - 1))])}."
        for k, c in zip(range(degree, 0, -1), coefficients[:-1], strict=True)
        if c
    ]
    slope = 0
    values = []
    for power, c in zip(range(degree - 1, -1, -1), slopes, strict=True):
        slope += c * at**power
        values.append(f"{bracketed(c)} * {bracketed(at)}^{power}")
    steps += [
        f"Together: f'(x) = {polynomial(slopes)}",
        f"At the point {at} the slope is {' + '.join(values)} = {slope}.",
    ]
    question = f"Differentiate f(x) = {polynomial(coefficients)} and find the slope at x = {at}."
    return Exercise(
        question, tuple(steps), f"f'(x) = {polynomial(slopes)} and the slope is {slope}"
    )


def binomial_square(rng: random.Random) -> Exercise:
    a, b = rng.randint(1, 12), nonzero(rng, -15, 15)
    steps = (
        f"The square of the first term has the coefficient {a}^2 = {a * a},",
        f"twice the product has 2 * {a} * {bracketed(b)} = {2 * a * b},",
        f"and the square of the last term is {bracketed(b)}^2 = {b * b}.",
    )
    result = polynomial((a * a, 2 * a * b, b * b))
    return Exercise(f"Expand ({polynomial((a, b))})^2.", steps, result)


def committee(rng: random.Random) -> Exercise:
    n, k = rng.randint(5, 20), rng.randint(2, 5)
    top = " * ".join(str(n - i) for i in range(k))
    bottom = " * ".join(str(k - i) for i in range(k))
    ordered, result = perm(n, k), perm(n, k) // factorial(k)
    steps = (
        f"In order there are {top} = {ordered} choices.",
        f"Each group of {k} was counted {bottom} = {factorial(k)} times.",
        f"So there are {ordered} / {factorial(k)} = {result} groups.",
    )
    whom = rng.choice(("members of a club", "books on a shelf", "players", "colours", "villages"))
    return Exercise(f"In how many ways can {k} of {n} {whom} be chosen?", steps, str(result))


_WORDS = (
    "BANANA",
    "LETTER",
    "PEPPER",
    "COFFEE",
    "SUMMER",
    "TOMATO",
    "RIVER",
    "MISSISSIPPI",
    "ALGEBRA",
    "BALLOON",
    "WINDOW",
    "SENTENCE",
    "PARALLEL",
    "COMMITTEE",
    "ADDRESS",
    "CARROT",
    "TEETH",
    "NEEDLE",
    "PENCIL",
    "GARDEN",
    "ORANGE",
    "MARKET",
)


def letter_arrangements(rng: random.Random) -> Exercise:
    word = rng.choice(_WORDS)
    repeats = {letter: n for letter, n in Counter(word).items() if n > 1}
    result = factorial(len(word)) // prod(map(factorial, repeats.values()))
    steps = [
        f"{len(word)} different letters would give {len(word)}! = {factorial(len(word))} orders."
    ]
    if repeats:
        said = ", ".join(f"{letter} comes {n} times" for letter, n in repeats.items())
        bottom = " * ".join(f"{n}!" for n in repeats.values())
        steps.append(f"But {said}, and exchanging equal letters changes nothing:")
        steps.append(f"{len(word)}! / ({bottom}) = {result}")
    else:
        steps.append("All letters are different.")
    question = f"In how many different orders can the letters of {word} be written?"
    return Exercise(question, tuple(steps), str(result))


def two_dice(rng: random.Random) -> Exercise:
    faces = rng.choice((4, 6, 8, 10, 12))
    total = rng.randint(2, 2 * faces)
    pairs = [(i, total - i) for i in range(1, faces + 1) if 1 <= total - i <= faces]
    chance = Fraction(len(pairs), faces**2)
    sums = "; ".join(f"{i} + {j} = {total}" for i, j in pairs)
    steps = (
        f"Two dice with {faces} faces show {faces} * {faces} = {faces**2} equally likely pairs.",
        f"These have the right sum: {sums}.",
        f"Their number is {len(pairs)}, so the probability is {len(pairs)}/{faces**2} = {chance}.",
    )
    question = f"Two fair dice with {faces} faces are thrown. How likely is the sum {total}?"
    return Exercise(question, steps, str(chance))


def _term(coefficient: int, name: str) -> str:
    """As a further summand: "+ 3y" or "- y"."""
    sign = "-" if coefficient < 0 else "+"
    return f"{sign} {linear_form(((abs(coefficient), name),))}"


def _quadratic(rng: random.Random) -> tuple[int, int, int]:
    """Coefficients with rational roots, or, one time in six, without real ones."""
    if rng.random() < 1 / 6:
        a, b = rng.randint(1, 5), rng.randint(-6, 6)
        return a, b, b * b // (4 * a) + rng.randint(1, 9)
    p, q = rng.choice((1, 1, 1, 2, 3)), rng.choice((1, 1, 2))
    r, s = rng.randint(-9, 9), rng.randint(-9, 9)
    sign = rng.choice((1, 1, 1, -1))
    a, b, c = p * q, -(p * s + q * r), r * s
    common = gcd(a, b, c)
    return sign * a // common, sign * b // common, sign * c // common


ALGEBRA: tuple[Generator, ...] = (
    linear_equation,
    two_equations,
    quadratic_equation,
    arithmetic_sequence,
    geometric_sequence,
    next_term,
    derivative,
    binomial_square,
    committee,
    letter_arrangements,
    two_dice,
)
