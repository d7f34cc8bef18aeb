"""DeepSeek-V3's pre-tokenizer on cases worked out by hand, regex by regex."""

from __future__ import annotations

import pytest
from tokenizers import Regex, pre_tokenizers

from dsv3data_tokenizer.pretokenizer import (
    DIGITS,
    HAN_AND_KANA,
    PATTERNS,
    WORDS,
    deepseek_v3_pre_tokenizer,
)


def pieces(text: str, *patterns: str) -> list[str]:
    splits = [pre_tokenizers.Split(Regex(pattern), behavior="isolated") for pattern in patterns]
    return [piece for piece, _ in pre_tokenizers.Sequence(splits).pre_tokenize_str(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1234567", ["123", "456", "7"]),
        ("a12b", ["a", "12", "b"]),
        ("1,000.25", ["1", ",", "000", ".", "25"]),
        ("x²³ ½", ["x", "²³", " ", "½"]),
        ("٣٤٥٦", ["٣٤٥", "٦"]),
        ("Ⅷ and 12", ["Ⅷ", " and ", "12"]),
    ],
)
def test_digits_in_groups_of_three_from_the_left(text: str, expected: list[str]) -> None:
    assert pieces(text, DIGITS) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("abc中文def", ["abc", "中文", "def"]),
        ("ひらがなカタカナ漢字", ["ひらがなカタカナ漢字"]),
        ("コーヒー。お茶", ["コーヒー", "。", "お茶"]),
        ("한국어", ["한국어"]),
        ("中 文", ["中", " ", "文"]),
        ("㐀一龥龦", ["㐀", "一龥", "龦"]),
    ],
)
def test_han_and_kana_runs(text: str, expected: list[str]) -> None:
    assert pieces(text, HAN_AND_KANA) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello world", ["Hello", " world"]),
        ("don't", ["don", "'t"]),
        ("a.b_c", ["a", ".b", "_c"]),
        ("(foo)", ["(foo", ")"]),
        ("x = y;\n\nz", ["x", " =", " y", ";\n\n", "z"]),
        ("end.\r\nNext", ["end", ".\r\n", "Next"]),
        ("a  b", ["a", " ", " b"]),
        ("a \n b", ["a", " \n", " b"]),
        ("tail   ", ["tail", "   "]),
        ("\tif x", ["\tif", " x"]),
        ("    return", ["   ", " return"]),
        ("naïve café", ["naïve", " café"]),
        ("e\u0301a", ["e\u0301a"]),
        (" !?...", [" !?..."]),
        ("a→b", ["a", "→", "b"]),
        ("😀😀 x", ["😀😀", " x"]),
        ("-->abc", ["-->", "abc"]),
        ("-abc", ["-abc"]),
        ("-äbc", ["-", "äbc"]),
    ],
)
def test_words_punctuation_and_line_breaks(text: str, expected: list[str]) -> None:
    assert pieces(text, WORDS) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("In 2024年12月, x1=中文;\n", "In| |202|4|年|12|月|,| x|1|=|中文|;\n"),
        ("def f(x):\n    return x + 10\n", "def| f|(x|):\n|   | return| x| +| |10|\n"),
        ("3.14", "3|.|14"),
    ],
)
def test_all_three_in_a_row(text: str, expected: str) -> None:
    assert pieces(text, *PATTERNS) == expected.split("|")


@pytest.mark.parametrize(
    "text", ["", "a b", "é中1\r\n\0\u2028", " \t \n", "\U0001f468\u200d\U0001f469"]
)
def test_nothing_is_lost_and_bytes_become_the_alphabet(text: str) -> None:
    assert "".join(pieces(text, *PATTERNS)) == text
    made = deepseek_v3_pre_tokenizer().pre_tokenize_str(text)
    alphabet = set(pre_tokenizers.ByteLevel.alphabet())
    assert all(set(piece) <= alphabet for piece, _ in made)
    assert sum(len(piece) for piece, _ in made) == len(text.encode())
