"""Packing documents into rows of exactly L ids: pure numpy, no I/O."""
