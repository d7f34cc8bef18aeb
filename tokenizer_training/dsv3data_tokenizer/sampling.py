"""Which documents a tokenizer is trained on: declared shares of domains, by document key.

A share is a threshold on a keyed uniform number of each document, so that the sample is the same
for any number of workers and grows, document by document, with the share.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dsv3data.contracts.errors import BadConfig, BadInput
from dsv3data.contracts.keys import keyed_u64_scalar
from dsv3data.io.sources import Document

_ALL_ONES = (1 << 64) - 1


@dataclass(frozen=True, kw_only=True)
class SampleConfig:
    """The recipe of the training text. Left alone, every document is taken.

    Attributes:
        weights: `domain=weight`, the shares of the text's bytes; other domains are left out.
        max_bytes: bytes of text to take, 0 for as many as the weights allow.
        source_cap_bytes: no source gives more than this, 0 for no limit.
        seed: of the keyed choice.
    """

    weights: tuple[str, ...] = ()
    max_bytes: int = 0
    source_cap_bytes: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("max_bytes", "source_cap_bytes"):
            if getattr(self, name) < 0:
                raise _bad(f"{name} must be 0 or more, not {getattr(self, name)}")
        weights = self.weight_of_domain()
        if self.weights and (min(weights.values()) < 0 or sum(weights.values()) <= 0):
            raise _bad("weights must be 0 or more, and one above 0")

    def weight_of_domain(self) -> dict[str, float]:
        """The weights as numbers."""
        weights = {}
        for text in self.weights:
            name, separator, value = text.rpartition("=")
            try:
                weights[name] = float(value)
            except ValueError:
                separator = ""
            if not separator or not name:
                raise _bad(f"a weight must look like domain=0.3, not {text!r}")
        return weights

    @property
    def takes_everything(self) -> bool:
        """Whether no document is left out, so that nothing need be measured first."""
        return not (self.weights or self.max_bytes or self.source_cap_bytes)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Share of each (domain, source) that is taken; None takes everything."""

    shares: Mapping[str, Mapping[str, float]] | None
    seed: int

    def takes(self, document: Document) -> bool:
        """Whether a document is in the sample: a function of its key and its share alone."""
        if self.shares is None:
            return True
        share = self.shares.get(document.domain, {}).get(document.source, 0.0)
        if share >= 1.0:
            return True
        word = keyed_u64_scalar(document.key, seed=self.seed, purpose="tokenizer-sample")
        return word < share * _ALL_ONES


EVERYTHING = Sample(shares=None, seed=0)


def plan_sample(bytes_of: Mapping[str, Mapping[str, int]], config: SampleConfig) -> Sample:
    """Shares that meet the recipe, from the bytes of each (domain, source).

    The scarcest domain bounds the total: a weight is never met by repeating documents. Documents
    are whole, so a small domain meets its share only roughly; the report says what was achieved.

    Raises:
        BadInput: a domain with a weight has no text.
    """
    if config.takes_everything:
        return EVERYTHING
    capped = {
        domain: {source: _capped_share(size, config) for source, size in sources.items()}
        for domain, sources in bytes_of.items()
    }
    available = {
        domain: sum(bytes_of[domain][source] * share for source, share in sources.items())
        for domain, sources in capped.items()
    }
    wanted = _wanted_bytes(available, config)
    return Sample(
        shares={
            domain: {
                source: share * min(1.0, wanted.get(domain, 0.0) / (available[domain] or 1.0))
                for source, share in sources.items()
            }
            for domain, sources in capped.items()
        },
        seed=config.seed,
    )


def _capped_share(size: int, config: SampleConfig) -> float:
    cap = config.source_cap_bytes
    return min(1.0, cap / size) if cap and size else 1.0


def _wanted_bytes(available: Mapping[str, float], config: SampleConfig) -> dict[str, float]:
    """Bytes to take of each domain."""
    weights = config.weight_of_domain() or dict(available)
    missing = [name for name, weight in weights.items() if weight and not available.get(name)]
    if missing:
        raise BadInput(
            f"the recipe wants text of domain {missing[0]!r}, the input has none",
            where="sample.weights",
            effect="no tokenizer was written",
            fix="domains in the input: " + ", ".join(sorted(available)),
        )
    whole = sum(weights.values())
    shares = {name: weight / whole for name, weight in weights.items() if weight}
    total = min(available[name] / share for name, share in shares.items())
    if config.max_bytes:
        total = min(total, config.max_bytes)
    return {name: total * share for name, share in shares.items()}


def _bad(what: str) -> BadConfig:
    return BadConfig(
        what,
        where="sample",
        effect="nothing was started",
        fix="""for example --set 'sample.weights=["code=0.3", "en=0.7"]'""",
    )
