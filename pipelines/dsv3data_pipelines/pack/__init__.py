"""Token shards → packed rows of exactly L ids, with document-level FIM and lineage."""

from dsv3data_pipelines.pack.stage import PackResult, forecast, pack

__all__ = ["PackResult", "forecast", "pack"]
