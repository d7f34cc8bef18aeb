"""Documents → token shards: one row per document, no FIM, no control ids."""

from dsv3data_pipelines.tokenize.config import TokenizeConfig
from dsv3data_pipelines.tokenize.stage import TokenizeResult, forecast, tokenize

__all__ = ["TokenizeConfig", "TokenizeResult", "forecast", "tokenize"]
