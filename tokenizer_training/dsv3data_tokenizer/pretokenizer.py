"""DeepSeek-V3's pre-tokenizer: three isolated splits, then the byte-level alphabet.

[tokenizer.json of deepseek-ai/DeepSeek-V3; arXiv 2412.19437 §4.1: "the pretokenizer introduces
tokens that combine punctuations and line breaks"]
"""

from __future__ import annotations

from tokenizers import Regex, pre_tokenizers

# Digits in groups of at most three, from the left.
DIGITS = r"\p{N}{1,3}"
# Runs of Han characters and kana stay together.
HAN_AND_KANA = "[一-龥぀-ゟ゠-ヿ]+"
# In this order: a punctuation mark glued to letters; letters with at most one other leading
# character; punctuation with the line breaks that follow it; line breaks; white space. Character by
# character as in DeepSeek-V3's file, where CR and LF stand as themselves: fast engines recognise
# the pre-tokenizer by its text.
WORDS = (
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+"""
    "|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
    "| ?[\\p{P}\\p{S}]+[\r\n]*"
    "|\\s*[\r\n]+"
    r"|\s+(?!\S)"
    r"|\s+"
)
PATTERNS = (DIGITS, HAN_AND_KANA, WORDS)


def deepseek_v3_pre_tokenizer() -> pre_tokenizers.PreTokenizer:
    """The pre-tokenizer as an object of `tokenizers`."""
    splits = [pre_tokenizers.Split(Regex(pattern), behavior="isolated") for pattern in PATTERNS]
    byte_level = pre_tokenizers.ByteLevel(
        add_prefix_space=False, trim_offsets=True, use_regex=False
    )
    return pre_tokenizers.Sequence([*splits, byte_level])
