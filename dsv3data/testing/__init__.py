"""Checks that users can run on their own loaders, and damage to run them against."""

from dsv3data.testing.damage import cut_file, flip_bit
from dsv3data.testing.flips import assert_flips_found
from dsv3data.testing.streams import assert_resume_exact, assert_same_for_any_world

__all__ = [
    "assert_flips_found",
    "assert_resume_exact",
    "assert_same_for_any_world",
    "cut_file",
    "flip_bit",
]
