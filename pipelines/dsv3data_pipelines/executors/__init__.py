"""Stages on clusters: their units dealt to tasks of Slurm or Ray, by datatrove's executors.

`--executor local` needs none of this: it is the process pool of `dsv3data.stages.units`.
"""

from dsv3data_pipelines.executors.cluster import Submitted, run_on_cluster
from dsv3data_pipelines.executors.progress import RunProgress, run_progress
from dsv3data_pipelines.executors.stages import count_stage, pack_stage, tokenize_stage

__all__ = [
    "RunProgress",
    "Submitted",
    "count_stage",
    "pack_stage",
    "run_on_cluster",
    "run_progress",
    "tokenize_stage",
]
