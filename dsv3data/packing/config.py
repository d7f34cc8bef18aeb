"""What a packed set is made with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dsv3data.contracts.errors import BadConfig

MIN_CONTEXT = 16
MAX_CONTEXT = 1 << 20


@dataclass(frozen=True, kw_only=True)
class PackConfig:
    """Settings of `pack`; the same values over the same token set give the same bytes.

    Attributes:
        context: ids in a row, L.
        fim_rate: share of documents chosen for fill-in-the-middle [arXiv 2412.19437 §4.1: 0.1].
        fim_mode: order of a sample's parts; "psm" is begin, prefix, hole, suffix, end, middle.
        fim_min_codepoints: a piece with fewer code points stays plain. Three is the least that can
            give prefix, middle and suffix one code point each.
        seed: of every keyed choice made while packing.
        partition_tokens: token count that one independently packed partition should have. At the
            default (67 M) padding of web text at L = 4096 is about 0.005 %.
    """

    context: int = 4096
    fim_rate: float = 0.1
    fim_mode: Literal["psm"] = "psm"
    fim_min_codepoints: int = 3
    seed: int = 0
    partition_tokens: int = 2**26

    def __post_init__(self) -> None:
        if not MIN_CONTEXT <= self.context <= MAX_CONTEXT:
            raise _bad("context", self.context, f"from {MIN_CONTEXT} to {MAX_CONTEXT} ids", 4096)
        if not 0.0 <= self.fim_rate <= 1.0:
            raise _bad("fim_rate", self.fim_rate, "a share of the documents from 0 to 1", 0.1)
        if self.fim_mode != "psm":
            raise _bad("fim_mode", self.fim_mode, "'psm', the only order offered", '"psm"')
        if self.fim_min_codepoints < 1:
            raise _bad("fim_min_codepoints", self.fim_min_codepoints, "1 code point or more", 3)
        if self.partition_tokens < self.context:
            expected = f"at least one row of {self.context} ids"
            raise _bad("partition_tokens", self.partition_tokens, expected, 2**26)


def _bad(name: str, value: object, expected: str, example: object) -> BadConfig:
    return BadConfig(
        f"{name} must be {expected}, not {value!r}",
        where=f"pack.{name}",
        effect="nothing was packed",
        fix=f"for example --set {name}={example}",
    )
