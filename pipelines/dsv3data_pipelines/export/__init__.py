"""Export: a token set or a packed set in the formats of other programs."""

from dsv3data_pipelines.export.stage import FORMATS, ExportResult, export, plan_export

__all__ = ["FORMATS", "ExportResult", "export", "plan_export"]
