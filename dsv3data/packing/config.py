"""What a packed set is made with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dsv3data.contracts.errors import BadConfig
from dsv3data.contracts.keys import stream_constant

MIN_CONTEXT = 16
MAX_CONTEXT = 1 << 20


@dataclass(frozen=True, kw_only=True)
class PackConfig:
    """Settings of `pack`; the same values over the same token set give the same bytes.

    Attributes:
        context: ids in a row, L.
        fim_rate: share of documents chosen for fill-in-the-middle [arXiv 2412.19437 §4.1: 0.1].
        fim_domain_rates: "domain=rate" for domains with another share, each domain once.
        fim_mode: order of a sample's parts. "psm" is prefix, suffix, middle as DeepSeek-V3 has it,
            "spm" suffix, prefix, middle [arXiv 2207.14255 §3]; "mixed" draws for each sample.
        fim_line_domains: domains whose samples are split at line starts instead of code points.
        fim_min_codepoints: a piece with fewer code points stays plain. Three is the least that can
            give prefix, middle and suffix one code point each.
        debias_rate: share of the occurrences of a token of punctuation and line breaks that are
            split in two (`packing.debias`). DeepSeek-V3 splits "a certain proportion" [§4.1]; a
            tenth is our choice.
        seed: of every keyed choice made while packing.
        epoch: number of the pass over the documents. Each has other companions in rows, other FIM
            samples and other split tokens.
        partition_tokens: token count that one independently packed partition should have. At the
            default (67 M) padding of web text at L = 4096 is about 0.005 %.
    """

    context: int = 4096
    fim_rate: float = 0.1
    fim_domain_rates: tuple[str, ...] = ()
    fim_mode: Literal["psm", "spm", "mixed"] = "psm"
    fim_line_domains: tuple[str, ...] = ()
    fim_min_codepoints: int = 3
    debias_rate: float = 0.1
    seed: int = 0
    epoch: int = 0
    partition_tokens: int = 2**26

    def __post_init__(self) -> None:
        if not MIN_CONTEXT <= self.context <= MAX_CONTEXT:
            raise _bad("context", self.context, f"from {MIN_CONTEXT} to {MAX_CONTEXT} ids", 4096)
        if not 0.0 <= self.fim_rate <= 1.0:
            raise _bad("fim_rate", self.fim_rate, "a share of the documents from 0 to 1", 0.1)
        self._check_domain_rates()
        if self.fim_mode not in ("psm", "spm", "mixed"):
            raise _bad("fim_mode", self.fim_mode, "'psm', 'spm' or 'mixed'", '"psm"')
        if self.fim_min_codepoints < 1:
            raise _bad("fim_min_codepoints", self.fim_min_codepoints, "1 code point or more", 3)
        if not 0.0 <= self.debias_rate <= 1.0:
            raise _bad("debias_rate", self.debias_rate, "a share of the tokens from 0 to 1", 0.1)
        if self.epoch < 0:
            raise _bad("epoch", self.epoch, "0 or more", 1)
        if self.partition_tokens < self.context:
            expected = f"at least one row of {self.context} ids"
            raise _bad("partition_tokens", self.partition_tokens, expected, 2**26)

    @property
    def draws(self) -> int:
        """The seed of this epoch's keyed choices; that of epoch 0 is `seed` itself."""
        return stream_constant(self.seed, f"epoch-{self.epoch}") if self.epoch else self.seed

    def fim_rate_of(self, domain: str) -> float:
        """Share of a domain's documents chosen for FIM."""
        return dict(map(_pair, self.fim_domain_rates)).get(domain, self.fim_rate)

    @property
    def named_domains(self) -> list[str]:
        """Domains that have values of their own here."""
        return [_pair(text)[0] for text in self.fim_domain_rates] + [*self.fim_line_domains]

    def _check_domain_rates(self) -> None:
        example = '["code=0.5"]'
        for text in self.fim_domain_rates:
            name, rate = _pair(text)
            if not name or not 0.0 <= rate <= 1.0:
                raise _bad("fim_domain_rates", text, "domain=share, the share from 0 to 1", example)
        names = [_pair(text)[0] for text in self.fim_domain_rates]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise _bad("fim_domain_rates", twice[0], "of different domains", example)


def _pair(text: str) -> tuple[str, float]:
    """A domain and its rate; nan where that is no number."""
    name, _, value = text.partition("=")
    try:
        return name, float(value)
    except ValueError:
        return name, float("nan")


def _bad(name: str, value: object, expected: str, example: object) -> BadConfig:
    return BadConfig(
        f"{name} must be {expected}, not {value!r}",
        where=f"pack.{name}",
        effect="nothing was packed",
        fix=f"for example --set {name}={example}",
    )
