"""Documents for `dsv3data demo`, made offline from what a Python environment already holds."""

from dsv3data_pipelines.demo_documents.build import DomainSizes, DomainSummary, build_documents

__all__ = ["DomainSizes", "DomainSummary", "build_documents"]
