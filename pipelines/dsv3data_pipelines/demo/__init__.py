"""The whole path on the text that a machine already has."""

from dsv3data_pipelines.demo.run import DemoConfig, run_demo

__all__ = ["DemoConfig", "run_demo"]
