"""Worked exercises without end: sheets of one to six, each a pure function of (seed, index).

This file holds the sheets and the exercises about numbers; `algebra` and `word_problems` the rest.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from itertools import count
from math import gcd, isqrt, lcm

from dsv3data_pipelines.demo_documents.algebra import ALGEBRA
from dsv3data_pipelines.demo_documents.exercise import (
    Exercise,
    Generator,
    bracketed,
    decimal,
    nonzero,
    plus,
)
from dsv3data_pipelines.demo_documents.selection import Candidate
from dsv3data_pipelines.demo_documents.word_problems import WORD_PROBLEMS

_MOST_ON_A_SHEET = 6


def arithmetic_candidates(seed: int) -> Iterator[Candidate]:
    """Sheet 0, 1, 2, … under ids such as "arithmetic/seed-0/17"."""
    for index in count():
        yield Candidate(
            id=f"arithmetic/seed-{seed}/{index}", read=partial(arithmetic_document, seed, index)
        )


def arithmetic_document(seed: int, index: int) -> str:
    """One sheet: exercises of one kind or of many, solved one by one or at the end."""
    rng = _document_rng(seed, index)
    size = 1 + min(rng.randrange(_MOST_ON_A_SHEET), rng.randrange(_MOST_ON_A_SHEET))
    kind = rng.choice(GENERATORS) if rng.random() < 0.5 else None
    exercises = [(kind or rng.choice(GENERATORS))(rng) for _ in range(size)]
    if size == 1:
        return _solved(exercises[0], "")
    if rng.random() < 0.3:
        return _solutions_at_the_end(exercises)
    solved = (_solved(exercise, f"{number}. ") for number, exercise in enumerate(exercises, 1))
    return "\n\n".join(solved)


def _document_rng(seed: int, index: int) -> random.Random:
    key = hashlib.blake2b(f"arithmetic {seed} {index}".encode(), digest_size=16).digest()
    return random.Random(int.from_bytes(key, "little"))


def _solved(exercise: Exercise, number: str) -> str:
    lines = (f"{number}{exercise.question}", *exercise.steps, f"Answer: {exercise.answer}")
    return "\n".join(lines)


def _solutions_at_the_end(exercises: list[Exercise]) -> str:
    questions = [f"{number}. {exercise.question}" for number, exercise in enumerate(exercises, 1)]
    lines = ["Exercises", "", *questions]
    for number, exercise in enumerate(exercises, 1):
        lines += ["", f"Solution {number}", *exercise.steps, f"Answer: {exercise.answer}"]
    return "\n".join(lines)


# The four operations, column by column.

_PLACES = (
    "ones",
    "tens",
    "hundreds",
    "thousands",
    "ten thousands",
    "hundred thousands",
    "millions",
    "ten millions",
    "hundred millions",
)


def long_addition(rng: random.Random) -> Exercise:
    a, b = _number(rng, 3, 8), _number(rng, 2, 8)
    steps, carry = _columns("+", a, b, a + b), 0
    for place, top, bottom in _digit_pairs(a, b):
        total = top + bottom + carry
        carried = f" + {carry}" if carry else ""
        carry = total // 10
        then = f", carry {carry}" if carry else ""
        steps.append(
            f"{_PLACES[place]}: {top} + {bottom}{carried} = {total}, write {total % 10}{then}"
        )
    if carry:
        steps.append(f"{_PLACES[place + 1]}: write the carried {carry}")
    question = rng.choice(("Add {} and {}.", "What is {} + {}?", "Work out the sum of {} and {}."))
    return _finished(question.format(a, b), steps, f"{a} + {b}", a + b)


def long_subtraction(rng: random.Random) -> Exercise:
    a, b = sorted((_number(rng, 3, 8), _number(rng, 2, 8)), reverse=True)
    steps, borrowed = _columns("-", a, b, a - b), 0
    for place, top, bottom in _digit_pairs(a, b):
        difference = top - bottom - borrowed
        taken = " - 1" if borrowed else ""
        borrowed = int(difference < 0)
        start, note = (10 + top, "borrow one ten, ") if borrowed else (top, "")
        steps.append(
            f"{_PLACES[place]}: {note}{start} - {bottom}{taken} = {difference + 10 * borrowed}"
        )
    question = rng.choice(("Subtract {1} from {0}.", "What is {0} - {1}?"))
    return _finished(question.format(a, b), steps, f"{a} - {b}", a - b)


def long_multiplication(rng: random.Random) -> Exercise:
    a, b = _number(rng, 2, 5), _number(rng, 2, 4)
    parts = [int(digit) * 10**k for k, digit in enumerate(reversed(str(b))) if digit != "0"]
    steps = [f"Split {b} by its digits: {b} = {' + '.join(map(str, reversed(parts)))}"]
    steps += [f"{a} * {part} = {a * part}" for part in parts]
    if len(parts) > 1:
        steps.append(f"Add up: {' + '.join(str(a * part) for part in parts)} = {a * b}")
    question = rng.choice(
        ("Multiply {} by {}.", "What is {} * {}?", "Find the product of {} and {}.")
    )
    return _finished(question.format(a, b), steps, f"{a} * {b}", a * b)


def long_division(rng: random.Random) -> Exercise:
    a, b = _number(rng, 3, 7), rng.randint(2, 99)
    steps, rest, started = [], 0, False
    for digit in str(a):
        current = 10 * rest + int(digit)
        quotient, rest = divmod(current, b)
        started = started or quotient > 0
        if started:
            steps.append(
                f"Bring down {digit}: {current} = {quotient} * {b} + {rest}, write {quotient}"
            )
    steps.append(f"Check: {a // b} * {b} + {a % b} = {a}")
    question = rng.choice(("Divide {} by {} with remainder.", "How often does {1} go into {0}?"))
    return Exercise(question.format(a, b), tuple(steps), f"{a // b} remainder {a % b}")


def decimal_multiplication(rng: random.Random) -> Exercise:
    places_a, places_b = rng.randint(1, 3), rng.randint(1, 2)
    a, b = rng.randint(11, 9999), rng.randint(2, 999)
    x, y = Fraction(a, 10**places_a), Fraction(b, 10**places_b)
    places_a, places_b = _places(x), _places(y)
    a, b = int(x * 10**places_a), int(y * 10**places_b)
    steps = (
        f"Without the points: {a} * {b} = {a * b}",
        f"The factors have {places_a} and {places_b} decimal places, "
        f"so divide by 10^{places_a + places_b}: "
        f"{a * b} / 10^{places_a + places_b} = {decimal(x * y)}",
    )
    return Exercise(f"What is {decimal(x)} * {decimal(y)}?", steps, decimal(x * y))


def _number(rng: random.Random, fewest_digits: int, most_digits: int) -> int:
    digits = rng.randint(fewest_digits, most_digits)
    return rng.randint(10 ** (digits - 1), 10**digits - 1)


def _columns(sign: str, a: int, b: int, result: int) -> list[str]:
    width = max(len(str(a)), len(str(b)), len(str(result)))
    rows = (f"  {a:>{width}}", f"{sign} {b:>{width}}", "-" * (width + 2), f"  {result:>{width}}")
    return list(rows)


def _digit_pairs(a: int, b: int) -> Iterator[tuple[int, int, int]]:
    """(place, digit of a, digit of b) from the ones up to the longer number's first digit."""
    for place in range(max(len(str(a)), len(str(b)))):
        yield place, a // 10**place % 10, b // 10**place % 10


def _places(value: Fraction) -> int:
    return len(decimal(value).partition(".")[2])


def _finished(question: str, steps: list[str], formula: str, result: int) -> Exercise:
    return Exercise(question, (*steps, f"So {formula} = {result}."), str(result))


# Fractions, divisors and primes.


def fraction_sum(rng: random.Random) -> Exercise:
    a, b = _proper_fraction(rng), _proper_fraction(rng)
    if rng.random() < 0.4:
        b = -b
    sign, size = ("-", -b) if b < 0 else ("+", b)
    common = lcm(a.denominator, b.denominator)
    top_a, top_b = (
        a.numerator * common // a.denominator,
        size.numerator * common // size.denominator,
    )
    top = top_a + top_b if sign == "+" else top_a - top_b
    steps = [
        f"The least common denominator of {a.denominator} and {b.denominator} is {common}.",
        f"{a} {sign} {size} = {top_a}/{common} {sign} {top_b}/{common} = {top}/{common}",
    ]
    if (divisor := gcd(top, common)) > 1:
        steps.append(f"Cancel {divisor}: {top}/{common} = {a + b}")
    return Exercise(f"Compute {a} {sign} {size}.", tuple(steps), str(a + b))


def fraction_product(rng: random.Random) -> Exercise:
    a, b = _proper_fraction(rng), _proper_fraction(rng)
    top, bottom = a.numerator * b.numerator, a.denominator * b.denominator
    steps = [
        f"Multiply tops and bottoms: ({a}) * ({b}) = "
        f"({a.numerator} * {b.numerator}) / ({a.denominator} * {b.denominator}) = {top}/{bottom}"
    ]
    if (divisor := gcd(top, bottom)) > 1:
        steps.append(f"Cancel {divisor}: {top}/{bottom} = {a * b}")
    return Exercise(f"Compute ({a}) * ({b}).", tuple(steps), str(a * b))


def fraction_quotient(rng: random.Random) -> Exercise:
    a, b = _proper_fraction(rng), _proper_fraction(rng)
    flipped = 1 / b
    upside_down = f"{flipped.numerator}/{flipped.denominator}"
    steps = (
        "Dividing by a fraction is multiplying by its reciprocal.",
        f"({a}) / ({b}) = ({a}) * ({upside_down}) = "
        f"({a.numerator} * {b.denominator}) / ({a.denominator} * {b.numerator}) = {a / b}",
    )
    return Exercise(f"Compute ({a}) / ({b}).", steps, str(a / b))


def greatest_common_divisor(rng: random.Random) -> Exercise:
    common = rng.randint(1, 60)
    a, b = sorted((common * rng.randint(5, 400), common * rng.randint(2, 300)), reverse=True)
    steps, high, low = [], a, b
    while low:
        steps.append(f"{high} = {high // low} * {low} + {high % low}")
        high, low = low, high % low
    s, t = _bezout(a, b)
    steps += [
        f"The last divisor is {high}. It divides both numbers, "
        "and every common divisor divides it.",
        f"The least common multiple is {a} * {b} / {high} = {a * b // high}.",
        f"Working backwards through the divisions: "
        f"{high} = {bracketed(s)} * {a} + {bracketed(t)} * {b}",
    ]
    question = f"Find the greatest common divisor of {a} and {b} by Euclid's algorithm."
    return Exercise(question, tuple(steps), str(high))


def prime_factors(rng: random.Random) -> Exercise:
    number = 1
    while number < 50:
        number *= rng.choice((2, 2, 2, 3, 3, 5, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37))
    number *= rng.choice((1, 2, 3, 5, 7, 12))
    steps, rest, exponents = [], number, _exponents(number)
    for prime, exponent in exponents.items():
        for _ in range(exponent):
            steps.append(f"{rest} / {prime} = {rest // prime}")
            rest //= prime
    powers = [f"{p}^{e}" if e > 1 else str(p) for p, e in exponents.items()]
    answer = " * ".join(powers)
    divisor_count = " * ".join(f"({e} + 1)" for e in exponents.values())
    product = 1
    for exponent in exponents.values():
        product *= exponent + 1
    steps += [
        f"So {number} = {answer}.",
        f"A divisor takes each prime at most that often, so there are "
        f"{divisor_count} = {product} divisors.",
    ]
    return Exercise(f"Write {number} as a product of primes.", tuple(steps), answer)


def is_it_prime(rng: random.Random) -> Exercise:
    number = rng.randrange(101, 3000, 2)
    root = isqrt(number)
    steps = [
        f"Try primes up to {root}, since {root}^2 = {root**2} and {root + 1}^2 = {(root + 1) ** 2} "
        f"is more than {number}."
    ]
    for prime in range(2, root + 1):
        if list(_exponents(prime)) != [prime]:
            continue
        quotient, rest = divmod(number, prime)
        steps.append(f"{number} = {prime} * {quotient}" + (f" + {rest}" if rest else ""))
        if not rest:
            steps.append(f"{prime} divides {number}, so it is not prime.")
            return Exercise(f"Is {number} a prime number?", tuple(steps), "no")
    steps.append("No division comes out even.")
    return Exercise(f"Is {number} a prime number?", tuple(steps), "yes")


def _proper_fraction(rng: random.Random) -> Fraction:
    """Between 0 and 1, with a denominator from 2 to 24."""
    while (value := Fraction(rng.randint(1, 23), rng.randint(2, 24))) >= 1:
        pass
    return value


def _bezout(a: int, b: int) -> tuple[int, int]:
    """(s, t) with s a + t b = gcd(a, b)."""
    if b == 0:
        return 1, 0
    s, t = _bezout(b, a % b)
    return t, s - a // b * t


def _exponents(number: int) -> dict[int, int]:
    """Prime → exponent, by trial division."""
    exponents: dict[int, int] = {}
    prime = 2
    while number > 1:
        if number % prime:
            prime += 1
        else:
            exponents[prime] = exponents.get(prime, 0) + 1
            number //= prime
    return exponents


# Remainders and bases.


def power_modulo(rng: random.Random) -> Exercise:
    base, exponent, modulus = rng.randint(2, 20), rng.randint(5, 60), rng.randint(7, 97)
    bits = [k for k in range(exponent.bit_length()) if exponent >> k & 1]
    steps = [f"{exponent} = {' + '.join(str(2**k) for k in reversed(bits))}"]
    squares = [base % modulus]
    steps.append(f"{base}^1 mod {modulus} = {squares[0]}")
    for k in range(1, exponent.bit_length()):
        last = squares[-1]
        squares.append(last**2 % modulus)
        steps.append(
            f"{base}^{2**k} mod {modulus} = {last}^2 mod {modulus} = "
            f"{last**2} mod {modulus} = {squares[-1]}"
        )
    factors = " * ".join(str(squares[k]) for k in bits)
    result = pow(base, exponent, modulus)
    steps.append(f"{base}^{exponent} mod {modulus} = {factors} mod {modulus} = {result}")
    question = f"Find the remainder of {base}^{exponent} on division by {modulus}."
    return Exercise(question, tuple(steps), str(result))


def inverse_modulo(rng: random.Random) -> Exercise:
    modulus = rng.randint(7, 150)
    while gcd(number := rng.randint(2, modulus - 1), modulus) > 1:
        pass
    steps, high, low = [], modulus, number
    while high % low:
        steps.append(f"{high} = {high // low} * {low} + {high % low}")
        high, low = low, high % low
    s, t = _bezout(modulus, number)
    inverse = t % modulus
    steps += [
        f"Backwards: {bracketed(s)} * {modulus} + {bracketed(t)} * {number} = 1",
        f"{bracketed(t)} mod {modulus} = {inverse}",
        f"Check: {number} * {inverse} = {number * inverse} and "
        f"{number * inverse} mod {modulus} = 1",
    ]
    question = f"Which number from 1 to {modulus - 1} is the inverse of {number} modulo {modulus}?"
    return Exercise(question, tuple(steps), str(inverse))


_DIGITS = "0123456789ABCDEF"


def to_base(rng: random.Random) -> Exercise:
    number, base = rng.randint(20, 5000), rng.choice((2, 2, 3, 5, 7, 8, 16))
    steps, rest, digits = [], number, ""
    while rest:
        steps.append(f"{rest} = {rest // base} * {base} + {rest % base}")
        digits = _DIGITS[rest % base] + digits
        rest //= base
    hint = ", where A to F are the digits 10 to 15" if base == 16 else ""
    steps.append(f"The remainders from the last to the first{hint}: {digits}")
    return Exercise(f"Write {number} in base {base}.", tuple(steps), digits)


def from_base(rng: random.Random) -> Exercise:
    base = rng.choice((2, 2, 3, 4, 5, 6, 8, 9))
    digits = [rng.randint(1, base - 1), *(rng.randrange(base) for _ in range(rng.randint(2, 7)))]
    text = "".join(map(str, digits))
    value, steps = digits[0], [f"Start with the first digit, {digits[0]}."]
    for digit in digits[1:]:
        steps.append(f"Next digit {digit}: {value} * {base} + {digit} = {value * base + digit}")
        value = value * base + digit
    return Exercise(f"Which decimal number is {text} in base {base}?", tuple(steps), str(value))


def signed_chain(rng: random.Random) -> Exercise:
    start, summands = (
        rng.randint(-50, 50),
        [nonzero(rng, -60, 60) for _ in range(rng.randint(2, 6))],
    )
    total, steps = start, []
    for summand in summands:
        steps.append(f"{total} {plus(summand)} = {total + summand}")
        total += summand
    formula = " ".join([str(start), *map(plus, summands)])
    return Exercise(f"Compute {formula}.", tuple(steps), str(total))


def order_of_operations(rng: random.Random) -> Exercise:
    a, b, c, d = (rng.randint(2, 15) for _ in range(4))
    e = rng.randint(2, 4)
    steps = (
        f"Brackets first: {a} + {b} = {a + b}",
        f"then the power: {c}^{e} = {c**e}",
        f"then products: {a + b} * {d} = {(a + b) * d}",
        f"and last the difference: {(a + b) * d} - {c**e} = {(a + b) * d - c**e}",
    )
    question = f"Compute ({a} + {b}) * {d} - {c}^{e}."
    return Exercise(question, steps, str((a + b) * d - c**e))


NUMBERS: tuple[Generator, ...] = (
    long_addition,
    long_subtraction,
    long_multiplication,
    long_division,
    decimal_multiplication,
    fraction_sum,
    fraction_product,
    fraction_quotient,
    greatest_common_divisor,
    prime_factors,
    is_it_prime,
    power_modulo,
    inverse_modulo,
    to_base,
    from_base,
    signed_chain,
    order_of_operations,
)
GENERATORS: tuple[Generator, ...] = (*NUMBERS, *ALGEBRA, *WORD_PROBLEMS)
