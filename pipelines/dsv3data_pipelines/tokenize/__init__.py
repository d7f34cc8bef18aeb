"""Documents → token shards: one row per document, no FIM, no control ids."""

from dsv3data_pipelines.tokenize.config import TokenizeConfig
from dsv3data_pipelines.tokenize.forecast import forecast
from dsv3data_pipelines.tokenize.stage import (
    TokenizePlan,
    TokenizeResult,
    plan_tokenize,
    publish_tokens,
    tokenize,
)

__all__ = [
    "TokenizeConfig",
    "TokenizePlan",
    "TokenizeResult",
    "forecast",
    "plan_tokenize",
    "publish_tokens",
    "tokenize",
]
