"""Configuration of `dsv3data tokenizer train`."""

from __future__ import annotations

from dataclasses import dataclass, field

from dsv3data.contracts.errors import BadConfig
from dsv3data.io.sources import ReadOptions
from dsv3data_tokenizer.sampling import SampleConfig

# Three control tokens and the 256 bytes.
SMALLEST_VOCABULARY = 259


@dataclass(frozen=True, kw_only=True)
class TokenizerTrainConfig:
    """What shapes a tokenizer.

    Attributes:
        vocab_size: model entries, control ids 0-2 included; the 815 added tokens come on top.
        min_frequency: a pair seen less often is not merged; DeepSeek-V3's is not published.
        max_token_bytes: no token is longer, which keeps rulers, blank runs and base64 from filling
            the vocabulary; 0 for no limit, as for DeepSeek-V3, whose longest is a run of blanks.
        allow_smaller: accept fewer entries when the corpus has no more pairs to merge.
        report_bytes: text per domain that the report encodes.
        unit_bytes: input bytes of a work unit of the counting phase.
        sample: the recipe of the training text.
    """

    vocab_size: int = 128_000
    min_frequency: int = 0
    max_token_bytes: int = 0
    allow_smaller: bool = False
    report_bytes: int = 1_000_000
    unit_bytes: int = 64 << 20
    sample: SampleConfig = field(default_factory=SampleConfig)
    read: ReadOptions = field(default_factory=ReadOptions)

    def __post_init__(self) -> None:
        if not SMALLEST_VOCABULARY <= self.vocab_size <= 1 << 20:
            raise BadConfig(
                f"vocab_size must be from {SMALLEST_VOCABULARY} to 1,048,576, "
                f"not {self.vocab_size:,}",
                where="--vocab-size",
                effect="nothing was started",
                fix="DeepSeek-V3 has 128000",
            )
        if not 0 <= self.min_frequency < 1 << 32:
            raise BadConfig(
                f"min_frequency must be a count of occurrences, not {self.min_frequency:,}",
                where="--min-frequency",
                effect="nothing was started",
                fix="0 and 1 merge every pair, 2 leaves out those seen once",
            )
        if self.max_token_bytes < 0 or self.max_token_bytes == 1:
            raise BadConfig(
                f"max_token_bytes must be 0 or at least 2, not {self.max_token_bytes:,}",
                where="--max-token-bytes",
                effect="nothing was started",
                fix="0 sets no limit; 64 leaves out what is hardly a word in any language",
            )
        if self.unit_bytes < 1 << 10:
            raise BadConfig(
                f"unit_bytes must be at least 1024 bytes, not {self.unit_bytes}",
                where="--set unit_bytes",
                effect="nothing was started",
                fix="for example --set unit_bytes=67108864",
            )
