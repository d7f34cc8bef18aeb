"""The one tree of errors a user can meet, each with its exit code.

An error says four things: what happened, where, what it means for the data, and how to fix it.
"""

from __future__ import annotations

from typing import ClassVar


class Dsv3DataError(Exception):
    """Base of every expected failure. `exit_code` is what the process returns."""

    exit_code: ClassVar[int] = 1

    def __init__(self, what: str, *, where: str = "", effect: str = "", fix: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.effect = effect
        self.fix = fix

    def __str__(self) -> str:
        lines = [
            f"{label}: {text}"
            for label, text in (
                ("error", self.what),
                ("where", self.where),
                ("effect", self.effect),
                ("fix", self.fix),
            )
            if text
        ]
        return "\n".join(lines)

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions cross process borders; the default would drop the keyword-only fields.
        return _rebuild, (type(self), self.what, self.where, self.effect, self.fix)


def _rebuild(
    cls: type[Dsv3DataError], what: str, where: str, effect: str, fix: str
) -> Dsv3DataError:
    return cls(what, where=where, effect=effect, fix=fix)


class BadInput(Dsv3DataError):
    """The user's files cannot be used as they are."""

    exit_code = 3


class BadConfig(Dsv3DataError):
    """A configuration value, key or combination is wrong, or differs from the finished work."""

    exit_code = 3


class IntegrityError(Dsv3DataError):
    """Data that we wrote is not what we wrote."""

    exit_code = 4


class EnvironmentFault(Dsv3DataError):
    """Disk, memory, permission or another process stands in the way."""

    exit_code = 5


class TooManyRejected(Dsv3DataError):
    """The work is finished and published, but more documents were rejected than allowed."""

    exit_code = 6


class Stopped(Dsv3DataError):
    """Stopped on request with all finished work kept; the same command continues."""

    exit_code = 75
