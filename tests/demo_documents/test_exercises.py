"""Every equality of every exercise is read back and evaluated; every answer is derived again."""

from __future__ import annotations

import ast
import hashlib
import math
import operator
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import pairwise, product

import pytest

from dsv3data_pipelines.demo_documents import arithmetic
from dsv3data_pipelines.demo_documents.arithmetic import GENERATORS, arithmetic_document
from dsv3data_pipelines.demo_documents.exercise import (
    Exercise,
    Generator,
    decimal,
    linear_form,
    polynomial,
)

_CASES = 100
_Env = dict[str, Fraction]


# Reading mathematics.

_BETWEEN_FORMULAS = re.compile(r"\b(?!mod\b)[A-Za-z]{2,}|[,;:?]|\.(?!\d)|\ba\b|\bA\b")
_OPERATORS: dict[type[ast.AST], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Mod: operator.mod,
    ast.Pow: lambda base, exponent: Fraction(base**exponent),
}


def evaluate(formula: str, env: _Env | None = None) -> Fraction:
    """The exact value of a formula with `^`, `!`, `mod`, decimals and products like 3x."""
    text = re.sub(r"(\d+)!", lambda found: str(math.factorial(int(found[1]))), formula)
    text = re.sub(
        r"(\d+)\.(\d+)", lambda found: f"({found[1]}{found[2]}/1{'0' * len(found[2])})", text
    )
    text = re.sub(r"\(0+(?=\d)", "(", text)
    text = re.sub(r"(\d)([xy])", r"\1*\2", text).replace("^", "**").replace("mod", "%")
    return _value(ast.parse(text.strip(), mode="eval").body, env or {})


def _value(node: ast.expr, env: _Env) -> Fraction:
    match node:
        case ast.Constant(value=int() as number):
            return Fraction(number)
        case ast.Name(id=name):
            return env[name]
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand, env)
        case ast.BinOp(left=left, op=op, right=right):
            return _OPERATORS[type(op)](_value(left, env), _value(right, env))
    raise ValueError(ast.dump(node))


def equations(text: str) -> Iterator[list[str]]:
    """The sides of every chain of equalities, e.g. [" 1/2 + 1/3 ", " 3/6 + 2/6 ", " 5/6"]."""
    for line in text.splitlines():
        for formula in _BETWEEN_FORMULAS.split(line):
            if "=" in formula and "(x)" not in formula:
                yield formula.split("=")


def check_equations(text: str, env: _Env | None = None) -> int:
    """Evaluate all chains; sides with letters only where `env` gives their values."""
    checked = 0
    for sides in equations(text):
        known = [side for side in sides if env or not re.search("[a-z]", side.replace("mod", ""))]
        values = [evaluate(side, env) for side in known]
        assert len(set(values)) <= 1, sides
        checked += len(values) > 1
    return checked


def numbers(text: str) -> list[Fraction]:
    return [Fraction(found) for found in re.findall(r"-?\d+(?:\.\d+)?", text)]


def coefficients(form: str, degree: int) -> list[int]:
    """Of a polynomial in x from its text, highest power first."""
    found = [0] * (degree + 1)
    for sign, size, x, power in re.findall(r"([+-]?)\s*(\d*)(x?)(?:\^(\d+))?", form):
        if size or x:
            at = degree - (int(power) if power else len(x))
            found[at] += int(f"{sign}{size or 1}")
    return found


def solution_env(answer: str) -> _Env:
    return {
        name: Fraction(value) for name, value in re.findall(r"([xy]) = (-?\d+(?:/\d+)?)", answer)
    }


def test_the_reader_of_equalities_refuses_false_ones() -> None:
    text = "tens: 1/2 + 0.25 = 3/4, then 3! mod 4 = 6 mod 4 = 2. So (-2)^3 + 3x = x."
    assert check_equations(text) == 2
    assert check_equations(text, {"x": Fraction(4)}) == 3
    for false in ("2 + 2 = 5", "7 mod 4 = 2", "1.5 * 2 = 3.01", "3 = 1 + 2 = 4", "4! = 25"):
        with pytest.raises(AssertionError):
            check_equations(f"So {false}.")


# What the answer must be, from the numbers of the question alone.


def _long_division(n: list[Fraction], _: str) -> str:
    a, b = max(n), min(n)
    return f"{a // b} remainder {a % b}"


def _is_prime(n: int) -> bool:
    return n > 1 and all(n % d for d in range(2, n) if d * d <= n)


def _base_digits(n: list[Fraction], _: str) -> str:
    number, base = map(int, n)
    return next(
        "".join("0123456789ABCDEF"[d] for d in digits)
        for size in range(1, 14)
        if base**size > number
        for digits in [[number // base**k % base for k in range(size - 1, -1, -1)]]
    )


def _arithmetic_sequence(n: list[Fraction], _: str) -> str:
    first, difference, count = map(int, n[:3])
    terms = [first + k * difference for k in range(count)]
    return f"term {terms[-1]} and sum {sum(terms)}"


def _geometric_sequence(n: list[Fraction], _: str) -> str:
    first, ratio, count = map(int, n[:3])
    terms = [first * ratio**k for k in range(count)]
    return f"term {terms[-1]} and sum {sum(terms)}"


def _next_term(n: list[Fraction], _: str) -> str:
    gaps = [b - a for a, b in pairwise(n)]
    (growth,) = {b - a for a, b in pairwise(gaps)}
    return str(n[-1] + gaps[-1] + growth)


def _derivative(_: list[Fraction], question: str) -> str:
    form, at = re.fullmatch(
        r"Differentiate f\(x\) = (.*) and .* at x = (-?\d+)\.", question
    ).groups()  # type: ignore[union-attr]
    degree = max([int(k) for k in re.findall(r"\^(\d+)", form)], default=1)
    found = coefficients(form, degree)
    slopes = [c * (degree - k) for k, c in enumerate(found[:-1])]
    slope = sum(c * int(at) ** (degree - 1 - k) for k, c in enumerate(slopes))
    return f"f'(x) = {polynomial(slopes)} and the slope is {slope}"


def _binomial_square(_: list[Fraction], question: str) -> str:
    a, b = coefficients(question[question.index("(") + 1 : question.index(")")], 1)
    return polynomial((a * a, 2 * a * b, b * b))


def _arrangements(_: list[Fraction], question: str) -> str:
    letters = Counter(re.search(r"of ([A-Z]+) be", question)[1])  # type: ignore[index]
    return str(math.factorial(letters.total()) // math.prod(map(math.factorial, letters.values())))


def _two_dice(n: list[Fraction], _: str) -> str:
    faces, total = map(int, n)
    pairs = product(range(1, faces + 1), repeat=2)
    return str(Fraction(sum(i + j == total for i, j in pairs), faces**2))


def _compound_interest(n: list[Fraction], _: str) -> str:
    start, percent, years = n
    return f"{decimal(start * Fraction((1 + percent / 100) ** int(years)))} euros"


_FACTORS = {
    ("kilometres", "metres"): 1000,
    ("metres", "centimetres"): 100,
    ("centimetres", "millimetres"): 10,
    ("kilograms", "grams"): 1000,
    ("tonnes", "kilograms"): 1000,
    ("litres", "millilitres"): 1000,
    ("hectares", "square metres"): 10_000,
    ("cubic metres", "litres"): 1000,
    ("hours", "minutes"): 60,
    ("minutes", "seconds"): 60,
    ("days", "hours"): 24,
    ("weeks", "days"): 7,
    ("dozens", "pieces"): 12,
}


def _units(n: list[Fraction], question: str) -> str:
    wanted, given = re.fullmatch(r"How many (.*) are [\d.]+ (.*)\?", question).groups()  # type: ignore[union-attr]
    if (given, wanted) in _FACTORS:
        return f"{decimal(n[0] * _FACTORS[given, wanted])} {wanted}"
    return f"{decimal(n[0] / _FACTORS[wanted, given])} {wanted}"


def _temperature(n: list[Fraction], question: str) -> str:
    if question.endswith("to Fahrenheit."):
        return f"{n[0] * 9 / 5 + 32} degrees Fahrenheit"
    return f"{(n[0] - 32) * 5 / 9} degrees Celsius"


def _time_between(n: list[Fraction], _: str) -> str:
    minutes = int((n[2] - n[0]) * 60 + n[3] - n[1])
    return f"{minutes // 60} hours and {minutes % 60} minutes"


_WEEK = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def _weekday(n: list[Fraction], question: str) -> str:
    today = _WEEK.index(re.search(r"is (\w+)\.", question)[1])  # type: ignore[index]
    return _WEEK[int(today + n[0]) % 7]


def _change(n: list[Fraction], _: str) -> str:
    percent = (n[1] - n[0]) / n[0] * 100
    return f"it {'rises' if percent > 0 else 'falls'} by {abs(percent)} percent"


def _shopping(n: list[Fraction], _: str) -> str:
    return f"{float(n[4] - n[0] * n[1] - n[2] * n[3]):.2f} euros"


def _trains(n: list[Fraction], _: str) -> str:
    hours = n[0] / (n[1] + n[2])
    return f"after {hours} hours, at {hours * n[1]} km"


def _ages(n: list[Fraction], question: str) -> str:
    older, younger = re.match(r"(\w+) is \d+ times as old as (\w+)", question).groups()  # type: ignore[union-attr]
    child = (n[2] - 2 * n[1]) / (n[0] + 1)
    return f"{older} is {n[0] * child}, {younger} is {child}"


def _mixture(n: list[Fraction], _: str) -> str:
    return f"{(n[0] * n[1] + n[2] * n[3]) / (n[0] + n[2])} percent"


def _sharing(n: list[Fraction], _: str) -> str:
    return ", ".join(f"{n[0] * part / sum(n[1:])} euros" for part in n[1:])


def _mean_and_median(n: list[Fraction], _: str) -> str:
    ordered = sorted(n)
    median = (ordered[(len(n) - 1) // 2] + ordered[len(n) // 2]) / 2
    return f"mean {decimal(Fraction(sum(n), len(n)))} and median {decimal(median)}"


def _formula(_: list[Fraction], question: str) -> str:
    formula = re.fullmatch(r"(?:Compute|What is) (.*)[.?]", question)[1]  # type: ignore[index]
    return decimal(evaluate(formula)) if "." in formula else str(evaluate(formula))


def _committee(n: list[Fraction], _: str) -> str:
    return str(math.comb(int(n[1]), int(n[0])))


_EXPECTED: dict[str, Callable[[list[Fraction], str], str]] = {
    "long_addition": lambda n, _: str(n[0] + n[1]),
    "long_subtraction": lambda n, _: str(abs(n[0] - n[1])),
    "long_multiplication": lambda n, _: str(n[0] * n[1]),
    "long_division": _long_division,
    "decimal_multiplication": _formula,
    "fraction_sum": _formula,
    "fraction_product": _formula,
    "fraction_quotient": _formula,
    "signed_chain": _formula,
    "order_of_operations": _formula,
    "greatest_common_divisor": lambda n, _: str(math.gcd(int(n[0]), int(n[1]))),
    "is_it_prime": lambda n, _: "yes" if _is_prime(int(n[0])) else "no",
    "power_modulo": lambda n, _: str(pow(int(n[0]), int(n[1]), int(n[2]))),
    "inverse_modulo": lambda n, _: str(pow(int(n[2]), -1, int(n[3]))),
    "to_base": _base_digits,
    "from_base": lambda n, _: str(int(str(n[0]), int(n[1]))),
    "arithmetic_sequence": _arithmetic_sequence,
    "geometric_sequence": _geometric_sequence,
    "next_term": _next_term,
    "derivative": _derivative,
    "binomial_square": _binomial_square,
    "committee": _committee,
    "letter_arrangements": _arrangements,
    "two_dice": _two_dice,
    "percentage_of": lambda n, _: decimal(n[0] * n[1] / 100),
    "discount": lambda n, _: f"{float(n[0] * (100 - n[1]) / 100):.2f} euros",
    "percentage_change": _change,
    "compound_interest": _compound_interest,
    "unit_conversion": _units,
    "temperature": _temperature,
    "time_between": _time_between,
    "weekday": _weekday,
    "shopping": _shopping,
    "meeting_trains": _trains,
    "ages": _ages,
    "working_together": lambda n, _: f"{n[0] * n[1] / (n[0] + n[1])} hours",
    "mixture": _mixture,
    "sharing": _sharing,
    "rectangle": lambda n, _: f"{(n[0] / 2 - n[1]) * n[1]} square metres",
    "mean_and_median": _mean_and_median,
}
# These are checked by putting the answer into the question.
_SOLVED = {"linear_equation", "two_equations", "quadratic_equation", "prime_factors"}


def _examples(generator: Generator) -> Iterator[Exercise]:
    for number in range(_CASES):
        yield generator(random.Random(number))


def test_every_kind_of_exercise_is_checked() -> None:
    assert {generator.__name__ for generator in GENERATORS} == _EXPECTED.keys() | _SOLVED


@pytest.mark.parametrize("generator", GENERATORS, ids=lambda generator: generator.__name__)
def test_all_stated_equalities_hold(generator: Generator) -> None:
    checked = sum(check_equations("\n".join(example.steps)) for example in _examples(generator))
    assert checked >= _CASES // 2


@pytest.mark.parametrize(
    "generator", [g for g in GENERATORS if g.__name__ in _EXPECTED], ids=lambda g: g.__name__
)
def test_answers_follow_from_the_questions(generator: Generator) -> None:
    expected = _EXPECTED[generator.__name__]
    for example in _examples(generator):
        assert example.answer == expected(numbers(example.question), example.question), example


@pytest.mark.parametrize("name", ["linear_equation", "two_equations"])
def test_solutions_satisfy_the_question_and_every_step(name: str) -> None:
    generator = next(g for g in GENERATORS if g.__name__ == name)
    for example in _examples(generator):
        env = solution_env(example.answer)
        text = "\n".join((example.question, *example.steps))
        assert env
        assert check_equations(text, env) >= 3, example


def test_ages_satisfy_every_step() -> None:
    generator = next(g for g in GENERATORS if g.__name__ == "ages")
    for example in _examples(generator):
        env = {"x": numbers(example.answer)[-1]}
        assert check_equations("\n".join(example.steps), env) == 4


def test_quadratic_equations_have_exactly_the_stated_roots() -> None:
    generator = next(g for g in GENERATORS if g.__name__ == "quadratic_equation")
    seen: Counter[int] = Counter()
    for example in _examples(generator):
        a, b, c = coefficients(example.question.removeprefix("Solve ").partition(" =")[0], 2)
        roots = [Fraction(root) for root in re.findall(r"x = (-?\d+(?:/\d+)?)", example.answer)]
        discriminant = b * b - 4 * a * c
        assert len(set(roots)) == (discriminant > 0) + (discriminant >= 0)
        assert all(a * x * x + b * x + c == 0 for x in roots)
        seen[len(roots)] += 1
    assert min(seen[0], seen[1], seen[2]) > 0


def test_prime_factors_are_prime_and_multiply_to_the_number() -> None:
    generator = next(g for g in GENERATORS if g.__name__ == "prime_factors")
    for example in _examples(generator):
        number = numbers(example.question)[0]
        assert evaluate(example.answer) == number
        bases = [int(power.partition("^")[0]) for power in example.answer.split(" * ")]
        assert all(map(_is_prime, bases))
        divisors = sum(number % d == 0 for d in range(1, int(number) + 1)) if number < 3000 else 0
        assert not divisors or f" = {divisors} divisors." in example.steps[-1]


def test_digits_written_column_by_column_spell_the_answer() -> None:
    carries = 0
    for example in _examples(arithmetic.long_addition):
        digits = [found for step in example.steps for found in re.findall(r"write (\d)", step)]
        carried = re.findall(r"write the carried (\d)", example.steps[-2])
        carries += len(carried)
        assert "".join(reversed(digits + carried)) == example.answer
    assert carries > 0


def test_quotient_digits_spell_the_quotient() -> None:
    for example in _examples(arithmetic.long_division):
        digits = "".join(
            found for step in example.steps for found in re.findall(r"write (\d)", step)
        )
        assert digits == example.answer.partition(" ")[0]


# Sheets.


def test_a_sheet_is_a_pure_function_of_seed_and_index() -> None:
    sheets = [arithmetic_document(0, index) for index in range(40)]
    assert [arithmetic_document(0, index) for index in reversed(range(40))] == sheets[::-1]
    assert arithmetic_document(1, 0) != sheets[0]
    # The same bytes on every Python version.
    digest = hashlib.blake2b("\0".join(sheets).encode(), digest_size=8).hexdigest()
    assert digest == "9fff74ae7c0d10fa"


def test_sheets_have_both_layouts_and_true_equalities() -> None:
    sheets = [arithmetic_document(0, index) for index in range(400)]
    assert len(set(sheets)) > 390
    at_the_end = [sheet for sheet in sheets if sheet.startswith("Exercises\n")]
    assert 20 < len(at_the_end) < 200
    for sheet in at_the_end:
        assert sheet.count("\nAnswer: ") == sheet.count("\nSolution ") >= 2
    assert sum(map(check_equations, sheets)) > 3 * len(sheets)


# Notation.


@pytest.mark.parametrize(
    ("value", "text"), [("5", "5"), ("-1/4", "-0.25"), ("1/1000", "0.001"), ("120/10", "12")]
)
def test_decimal(value: str, text: str) -> None:
    assert decimal(Fraction(value)) == text


def test_decimal_refuses_an_endless_expansion() -> None:
    with pytest.raises(ValueError, match="1/3 has no finite decimal expansion"):
        decimal(Fraction(1, 3))


def test_polynomials_drop_ones_and_zeros() -> None:
    assert polynomial((1, 0, -1, 5)) == "x^3 - x + 5"
    assert polynomial((-3, 0)) == "-3x"
    assert polynomial((0,)) == "0"
    assert linear_form(((-1, "x"), (4, "y"))) == "-x + 4y"
