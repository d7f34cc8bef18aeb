"""Configuration of `dsv3data tokenize`."""

from __future__ import annotations

from dataclasses import dataclass, field

from dsv3data.contracts.errors import BadConfig
from dsv3data.io.sources import ReadOptions


@dataclass(frozen=True, kw_only=True)
class TokenizeConfig:
    """What shapes token shards.

    Attributes:
        unit_bytes: input bytes of a work unit; also about the size of a shard.
        shard_bytes: a unit that cannot be cut (compressed input) starts a new shard at this size.
    """

    unit_bytes: int = 64 << 20
    shard_bytes: int = 1 << 30
    read: ReadOptions = field(default_factory=ReadOptions)

    def __post_init__(self) -> None:
        for name, value in (("unit_bytes", self.unit_bytes), ("shard_bytes", self.shard_bytes)):
            if value < 1 << 10:
                raise BadConfig(
                    f"{name} must be at least 1024 bytes, not {value}",
                    where=f"tokenize.{name}",
                    effect="nothing was started",
                    fix=f"for example --set {name}=67108864",
                )
