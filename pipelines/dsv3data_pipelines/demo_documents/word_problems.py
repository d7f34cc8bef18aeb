"""Exercises from daily life: percentages, units, prices, journeys, ages, mixtures."""

from __future__ import annotations

import random
from fractions import Fraction

from dsv3data_pipelines.demo_documents.exercise import (
    Exercise,
    Generator,
    bracketed,
    decimal,
    money,
)

_NAMES = (
    "Amina",
    "Boris",
    "Chen",
    "Dalia",
    "Emre",
    "Fatou",
    "Goran",
    "Hana",
    "Ivan",
    "Joana",
    "Kofi",
    "Lena",
    "Marta",
    "Nadia",
    "Omar",
    "Priya",
    "Quentin",
    "Rosa",
    "Sven",
    "Tomoko",
    "Uma",
    "Viktor",
    "Wanda",
    "Xenia",
    "Yusuf",
    "Zoe",
)
_GOODS = ("notebooks", "apples", "tickets", "stamps", "pencils", "lemons", "postcards", "bottles")
_THINGS = ("coat", "lamp", "bicycle", "radio", "chair", "camera", "tent", "pair of shoes")


def percentage_of(rng: random.Random) -> Exercise:
    percent, whole = rng.randint(1, 150), rng.randint(2, 900) * rng.choice((1, 5, 10))
    part = decimal(Fraction(percent * whole, 100))
    steps = (
        f"One percent of {whole} is {whole} / 100 = {decimal(Fraction(whole, 100))}.",
        f"{percent} percent are {percent} * {decimal(Fraction(whole, 100))} = {part}.",
    )
    return Exercise(f"How much is {percent} percent of {whole}?", steps, part)


def discount(rng: random.Random) -> Exercise:
    cents, percent = rng.randint(4, 400) * 100, rng.randint(1, 14) * 5
    off = cents * percent // 100
    thing = rng.choice(_THINGS)
    steps = (
        f"The discount is {money(cents)} * {percent} / 100 = {money(off)} euros.",
        f"The new price is {money(cents)} - {money(off)} = {money(cents - off)} euros.",
    )
    question = f"A {thing} costs {money(cents)} euros. What does it cost {percent} percent cheaper?"
    return Exercise(question, steps, f"{money(cents - off)} euros")


def percentage_change(rng: random.Random) -> Exercise:
    old, percent = rng.randint(2, 90) * 20, rng.choice((-1, 1)) * rng.randint(1, 18) * 5
    new = old + old * percent // 100
    verb = "rises" if percent > 0 else "falls"
    steps = (
        f"The difference is {new} - {old} = {new - old}.",
        f"Compared with the old value: {bracketed(new - old)} / {old} * 100 = {percent}.",
    )
    question = f"The number of visitors changes from {old} to {new}. By how many percent?"
    return Exercise(question, steps, f"it {verb} by {abs(percent)} percent")


def compound_interest(rng: random.Random) -> Exercise:
    start, percent, years = (
        rng.randint(1, 50) * 1000,
        rng.choice((2, 4, 5, 10, 20)),
        rng.randint(2, 3),
    )
    factor = decimal(1 + Fraction(percent, 100))
    steps, value = [f"Each year multiplies by 1 + {percent} / 100 = {factor}."], Fraction(start)
    for year in range(1, years + 1):
        after = value * (100 + percent) / 100
        steps.append(f"After year {year}: {decimal(value)} * {factor} = {decimal(after)}")
        value = after
    question = (
        f"{rng.choice(_NAMES)} saves {start} euros at {percent} percent a year. "
        f"How much is it after {years} years?"
    )
    return Exercise(question, tuple(steps), f"{decimal(value)} euros")


# (unit, smaller unit, how many of the smaller make one)
_UNITS = (
    ("kilometres", "metres", 1000),
    ("metres", "centimetres", 100),
    ("centimetres", "millimetres", 10),
    ("kilograms", "grams", 1000),
    ("tonnes", "kilograms", 1000),
    ("litres", "millilitres", 1000),
    ("hectares", "square metres", 10_000),
    ("cubic metres", "litres", 1000),
    ("hours", "minutes", 60),
    ("minutes", "seconds", 60),
    ("days", "hours", 24),
    ("weeks", "days", 7),
    ("dozens", "pieces", 12),
)


def unit_conversion(rng: random.Random) -> Exercise:
    large, small, factor = rng.choice(_UNITS)
    value = Fraction(rng.randint(1, 400), rng.choice((1, 1, 2, 4, 5, 10)))
    big, little = decimal(value), decimal(value * factor)
    if rng.random() < 0.5:
        steps = (f"From {large} to {small} multiply by {factor}: {big} * {factor} = {little}",)
        return Exercise(f"How many {small} are {big} {large}?", steps, f"{little} {small}")
    steps = (f"From {small} to {large} divide by {factor}: {little} / {factor} = {big}",)
    return Exercise(f"How many {large} are {little} {small}?", steps, f"{big} {large}")


def temperature(rng: random.Random) -> Exercise:
    celsius = rng.randint(-8, 50) * 5
    fahrenheit = celsius * 9 // 5 + 32
    if rng.random() < 0.5:
        steps = (
            f"Times 9, divided by 5, plus 32: {bracketed(celsius)} * 9 / 5 + 32 = {fahrenheit}",
        )
        question = f"Convert {celsius} degrees Celsius to Fahrenheit."
        return Exercise(question, steps, f"{fahrenheit} degrees Fahrenheit")
    steps = (
        f"Minus 32, times 5, divided by 9: ({bracketed(fahrenheit)} - 32) * 5 / 9 = {celsius}",
    )
    question = f"Convert {fahrenheit} degrees Fahrenheit to Celsius."
    return Exercise(question, steps, f"{celsius} degrees Celsius")


def time_between(rng: random.Random) -> Exercise:
    start = rng.randint(5 * 60, 14 * 60)
    end = start + rng.randint(20, 9 * 60)
    gap = end - start
    steps = (
        f"In minutes since midnight: {start // 60} * 60 + {start % 60} = {start} "
        f"and {end // 60} * 60 + {end % 60} = {end}.",
        f"The difference is {end} - {start} = {gap} minutes.",
        f"{gap} = {gap // 60} * 60 + {gap % 60}",
    )
    question = (
        f"A train leaves at {start // 60}:{start % 60:02d} and arrives at "
        f"{end // 60}:{end % 60:02d}. How long is the journey?"
    )
    return Exercise(question, steps, f"{gap // 60} hours and {gap % 60} minutes")


_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def weekday(rng: random.Random) -> Exercise:
    today, days = rng.randrange(7), rng.randint(15, 2000)
    then = _WEEKDAYS[(today + days) % 7]
    steps = (
        f"Weekdays repeat after 7 days: {days} = {days // 7} * 7 + {days % 7}",
        f"So count {days % 7} days on from {_WEEKDAYS[today]}.",
    )
    question = f"Today is {_WEEKDAYS[today]}. Which weekday is it in {days} days?"
    return Exercise(question, steps, then)


def shopping(rng: random.Random) -> Exercise:
    (first, second), name = rng.sample(_GOODS, 2), rng.choice(_NAMES)
    n, m = rng.randint(2, 12), rng.randint(2, 12)
    price, other = rng.randint(3, 60) * 5, rng.randint(3, 60) * 5
    total = n * price + m * other
    paid = (total // 1000 + 1) * 1000
    steps = (
        f"The {first} cost {n} * {money(price)} = {money(n * price)} euros,",
        f"the {second} cost {m} * {money(other)} = {money(m * other)} euros.",
        f"Together: {money(n * price)} + {money(m * other)} = {money(total)} euros.",
        f"The change is {money(paid)} - {money(total)} = {money(paid - total)} euros.",
    )
    question = (
        f"{name} buys {n} {first} at {money(price)} euros each and {m} {second} at "
        f"{money(other)} euros each, and pays with {money(paid)} euros. How much is the change?"
    )
    return Exercise(question, steps, f"{money(paid - total)} euros")


def meeting_trains(rng: random.Random) -> Exercise:
    fast, slow, hours = rng.randint(8, 20) * 10, rng.randint(4, 8) * 10, rng.randint(1, 6)
    distance = (fast + slow) * hours
    steps = (
        f"Together they cover {fast} + {slow} = {fast + slow} km in an hour.",
        f"So they meet after {distance} / {fast + slow} = {hours} hours.",
        f"By then the faster one has gone {fast} * {hours} = {fast * hours} km.",
    )
    question = (
        f"Two towns are {distance} km apart. At the same time one train leaves each town towards "
        f"the other, one at {fast} km/h, the other at {slow} km/h. When do they meet, and how far "
        "has the faster train gone?"
    )
    return Exercise(question, steps, f"after {hours} hours, at {fast * hours} km")


def ages(rng: random.Random) -> Exercise:
    (older, younger) = rng.sample(_NAMES, 2)
    times, child, years = rng.randint(2, 5), rng.randint(4, 20), rng.randint(2, 15)
    total = times * child + child + 2 * years
    steps = (
        f"Let x be the age of {younger} today.",
        f"In {years} years the ages add up to {times + 1}x + 2 * {years} = {total}.",
        f"Therefore {times + 1}x = {total} - {2 * years} = {total - 2 * years} and x = {child}.",
        f"{older} is {times} * {child} = {times * child} years old.",
    )
    question = (
        f"{older} is {times} times as old as {younger}. In {years} years they will be {total} "
        "years old together. How old are they today?"
    )
    return Exercise(question, steps, f"{older} is {times * child}, {younger} is {child}")


def working_together(rng: random.Random) -> Exercise:
    a, b = rng.sample((2, 3, 4, 5, 6, 8, 9, 10, 12, 15, 18, 20, 24, 30), 2)
    rate = Fraction(1, a) + Fraction(1, b)
    (one, two) = rng.sample(_NAMES, 2)
    steps = (
        f"In one hour {one} does 1/{a} of the work and {two} does 1/{b}.",
        f"Together: 1/{a} + 1/{b} = {rate} of the work in an hour.",
        f"So the time is 1 / ({rate}) = {1 / rate} hours.",
    )
    question = (
        f"{one} paints a fence in {a} hours, {two} in {b} hours. How long do they take together?"
    )
    return Exercise(question, steps, f"{1 / rate} hours")


def mixture(rng: random.Random) -> Exercise:
    strong, weak = rng.randint(8, 18) * 5, rng.randint(0, 7) * 5
    litres, more = rng.randint(2, 9), rng.randint(2, 9)
    pure = Fraction(strong * litres + weak * more, 100)
    share = pure / (litres + more) * 100
    steps = (
        f"The syrup in it: {litres} * {strong} / 100 + {more} * {weak} / 100 = "
        f"{decimal(pure)} litres.",
        f"The whole mixture: {litres} + {more} = {litres + more} litres.",
        f"The share is {decimal(pure)} / {litres + more} * 100 = {share} percent.",
    )
    question = (
        f"{litres} litres of a drink with {strong} percent syrup are mixed with {more} litres of a "
        f"drink with {weak} percent syrup. How many percent syrup has the mixture?"
    )
    return Exercise(question, steps, f"{share} percent")


def sharing(rng: random.Random) -> Exercise:
    parts = [rng.randint(1, 9) for _ in range(rng.choice((2, 3)))]
    unit, names = rng.randint(2, 80), rng.sample(_NAMES, 3)[: len(parts)]
    total = unit * sum(parts)
    steps = [
        f"There are {' + '.join(map(str, parts))} = {sum(parts)} parts.",
        f"One part is {total} / {sum(parts)} = {unit} euros.",
    ]
    steps += [
        f"{name} gets {part} * {unit} = {part * unit} euros."
        for name, part in zip(names, parts, strict=True)
    ]
    question = (
        f"{', '.join(names)} share {total} euros in the ratio {' : '.join(map(str, parts))}. "
        "How much does each of them get?"
    )
    return Exercise(question, tuple(steps), ", ".join(f"{part * unit} euros" for part in parts))


def rectangle(rng: random.Random) -> Exercise:
    a, b = rng.randint(3, 90), rng.randint(3, 90)
    perimeter, area = 2 * (a + b), a * b
    steps = (
        f"Half the perimeter is {perimeter} / 2 = {a + b} metres.",
        f"The other side is {a + b} - {a} = {b} metres.",
        f"The area is {a} * {b} = {area} square metres.",
    )
    question = (
        f"A rectangular garden has a fence of {perimeter} metres around it. One side measures "
        f"{a} metres. What is its area?"
    )
    return Exercise(question, steps, f"{area} square metres")


def mean_and_median(rng: random.Random) -> Exercise:
    n = rng.choice((4, 5, 8, 10))
    values = [rng.randint(1, 60) for _ in range(n)]
    ordered = sorted(values)
    mean = Fraction(sum(values), n)
    middle = Fraction(ordered[(n - 1) // 2] + ordered[n // 2], 2)
    steps = [
        f"Mean: ({' + '.join(map(str, values))}) / {n} = {sum(values)} / {n} = {decimal(mean)}",
        f"In order: {', '.join(map(str, ordered))}",
    ]
    if n % 2:
        steps.append(f"The one in the middle is {middle}.")
    else:
        low, high = ordered[n // 2 - 1], ordered[n // 2]
        steps.append(f"Halfway between the middle two: ({low} + {high}) / 2 = {decimal(middle)}")
    question = f"Find the mean and the median of {', '.join(map(str, values))}."
    return Exercise(question, tuple(steps), f"mean {decimal(mean)} and median {decimal(middle)}")


WORD_PROBLEMS: tuple[Generator, ...] = (
    percentage_of,
    discount,
    percentage_change,
    compound_interest,
    unit_conversion,
    temperature,
    time_between,
    weekday,
    shopping,
    meeting_trains,
    ages,
    working_together,
    mixture,
    sharing,
    rectangle,
    mean_and_median,
)
