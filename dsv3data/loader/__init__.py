"""Sequences for training: verified random access to packed rows, and their keyed global order."""
