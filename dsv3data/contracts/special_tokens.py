"""Control tokens of the DeepSeek-V3 tokenizer: their texts, and their ids for any vocabulary size.

DeepSeek-V3 (128,000 model entries) has ids 0-2 inside the vocabulary and 815 added tokens above
it: 800 placeholders, then the three FIM sentinels, the chat turns and the tool-call marks. For
another vocabulary size N the texts are the same and the added ids follow N.
[tokenizer.json of deepseek-ai/DeepSeek-V3; arXiv 2412.19437 §4.1]
"""

from __future__ import annotations

from dataclasses import dataclass

# The bars are fullwidth (U+FF5C) and the low lines are U+2581, as in the published tokenizer.
BOS = "<｜begin▁of▁sentence｜>"
EOS = "<｜end▁of▁sentence｜>"
PAD = "<｜▁pad▁｜>"
FIM_HOLE = "<｜fim▁hole｜>"
FIM_BEGIN = "<｜fim▁begin｜>"
FIM_END = "<｜fim▁end｜>"
USER = "<｜User｜>"
ASSISTANT = "<｜Assistant｜>"
EOT = "<|EOT|>"

IN_VOCABULARY = (BOS, EOS, PAD)
PLACEHOLDERS = tuple(f"<｜place▁holder▁no▁{number}｜>" for number in range(800))
TOOLS = (
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁calls▁end｜>",
    "<｜tool▁call▁begin｜>",
    "<｜tool▁call▁end｜>",
    "<｜tool▁outputs▁begin｜>",
    "<｜tool▁outputs▁end｜>",
    "<｜tool▁output▁begin｜>",
    "<｜tool▁output▁end｜>",
    "<｜tool▁sep｜>",
)
ADDED = (*PLACEHOLDERS, FIM_HOLE, FIM_BEGIN, FIM_END, USER, ASSISTANT, EOT, *TOOLS)

EMBEDDING_MULTIPLE = 128


@dataclass(frozen=True, kw_only=True)
class ControlIds:
    """Ids of the control tokens that the data path writes."""

    bos: int
    eos: int
    pad: int
    fim_hole: int
    fim_begin: int
    fim_end: int

    @property
    def every(self) -> tuple[int, ...]:
        """All of them."""
        return (self.bos, self.eos, self.pad, self.fim_hole, self.fim_begin, self.fim_end)


def padded_vocab_size(token_count: int) -> int:
    """Embedding rows for `token_count` ids: the next multiple of 128 (128,815 → 128,896).

    DeepSeek-V3's own table has 129,280 rows; the size is a free choice above the token count.
    """
    return -(-token_count // EMBEDDING_MULTIPLE) * EMBEDDING_MULTIPLE
