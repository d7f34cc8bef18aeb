"""Token shards → packed rows of exactly L ids, with document-level FIM and lineage."""

from dsv3data_pipelines.pack.stage import (
    PackPlan,
    PackResult,
    forecast,
    pack,
    plan_pack,
    publish_packed,
)

__all__ = ["PackPlan", "PackResult", "forecast", "pack", "plan_pack", "publish_packed"]
