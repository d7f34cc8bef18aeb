"""Token shards → packed rows of exactly L ids, with document-level FIM and lineage."""

from dsv3data_pipelines.pack.exclude import Exclusions, read_exclusions
from dsv3data_pipelines.pack.forecast import forecast
from dsv3data_pipelines.pack.stage import (
    DEFAULT_MEMORY,
    PackPlan,
    PackResult,
    cluster_tasks,
    pack,
    pack_contexts,
    plan_pack,
    publish_packed,
)

__all__ = [
    "DEFAULT_MEMORY",
    "Exclusions",
    "PackPlan",
    "PackResult",
    "cluster_tasks",
    "forecast",
    "pack",
    "pack_contexts",
    "plan_pack",
    "publish_packed",
    "read_exclusions",
]
