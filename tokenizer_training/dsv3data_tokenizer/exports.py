r"""The tokenizer for tiktoken: a file of ranks, and one pattern in place of three splits.

To use the ranks file in tiktoken, with the same ids as everywhere else:

    lines = [line.split() for line in Path("tokenizer.tiktoken").read_bytes().splitlines()]
    encoding = tiktoken.Encoding(
        "dsv3data",
        pat_str=TIKTOKEN_PATTERN,
        mergeable_ranks={base64.b64decode(token): int(rank) for token, rank in lines},
        special_tokens=vocabulary.control_texts,
    )
    encoding.encode(document, disallowed_special=())   # control-token text stays text

tiktoken cannot cut a text three times, and drops what its one pattern does not match. So
TIKTOKEN_PATTERN says in one alternation what the three splits of `pretokenizer` do in a row:

- A later split sees the borders of an earlier one as ends of the text. So there are three kinds of
  text: digits, the Han and kana blocks, and the rest. Each class of the third split becomes one for
  the rest and one for the blocks, which hold marks such as U+30FB beside letters. `(?!\S)`, white
  space or end, becomes "not followed by more of the rest".
- What the third split does not match (control characters, unassigned code points) stays one piece
  up to the next match, which may begin with the last such character before a letter.
"""

from __future__ import annotations

import base64

from dsv3data.encoding.vocabulary import Vocabulary

TIKTOKEN_NAME = "tokenizer.tiktoken"

_BLOCKS = "一-龥぀-ゟ゠-ヿ"
_LETTERS = rf"[[\p{{L}}\p{{M}}]&&[^{_BLOCKS}]]"
_PUNCTUATION = rf"[[\p{{P}}\p{{S}}]&&[^{_BLOCKS}]]"
_OTHER = rf"[^\s\p{{L}}\p{{M}}\p{{N}}\p{{P}}\p{{S}}{_BLOCKS}]"
_BLOCK_LETTERS = rf"[[\p{{L}}\p{{M}}]&&[{_BLOCKS}]]"
_BLOCK_PUNCTUATION = rf"[[\p{{P}}\p{{S}}]&&[{_BLOCKS}]]"
_BLOCK_OTHER = rf"[[{_BLOCKS}]&&[^\p{{L}}\p{{M}}\p{{P}}\p{{S}}]]"

# For engines that know `&&` in classes and look-ahead: tiktoken's (Rust), Oniguruma, Java.
TIKTOKEN_PATTERN = "|".join(
    (
        r"\p{N}{1,3}",
        f"{_BLOCK_OTHER}?{_BLOCK_LETTERS}+",
        f"{_BLOCK_PUNCTUATION}+",
        f"{_BLOCK_OTHER}+(?!{_BLOCK_LETTERS})",
        r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+",
        rf"[^\r\n\p{{L}}\p{{P}}\p{{S}}\p{{N}}{_BLOCKS}]?{_LETTERS}+",
        rf" ?{_PUNCTUATION}+[\r\n]*",
        r"\s*[\r\n]+",
        rf"\s+(?![^\s\p{{N}}{_BLOCKS}])",
        r"\s+",
        rf"{_OTHER}+(?!{_LETTERS})",
    )
)


def tiktoken_ranks(vocabulary: Vocabulary) -> bytes:
    """The ranks file: a line `base64(bytes) rank` for every entry that is no control token.

    The rank is the id. tiktoken merges the adjacent pair whose joined bytes have the lowest rank;
    ids are in the order of the merges, so that is the pair that was learned first.
    """
    lines = [
        base64.b64encode(data) + f" {token}\n".encode()
        for token, data in enumerate(vocabulary.token_bytes)
        if data
    ]
    return b"".join(lines)
