"""Errors a person can act on: one clear line each, and an exit code that a script can rely on (``repro --help``)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from repro.base import nearest


class BookError(Exception):
    """Base of every expected error; the command line prints its text as one line."""

    exit_code = 1


class BadInput(BookError, ValueError):
    """Something the person gave is wrong: a name, a value, a file."""

    exit_code = 2


class RunFailed(BookError):
    """A notebook did not run to its end; ``notebook`` is where the attempt was kept, if it was.

    ``lost`` is one that was ended from outside, by a kill or a machine that went away: another try may well succeed.
    """

    def __init__(self, message: str, notebook: Path | None = None, lost: bool = False) -> None:
        super().__init__(message)
        self.notebook, self.lost = notebook, lost


class DiskFull(BookError):
    """There was no room to write."""


def known(what: str, name: str, among: Iterable[str]) -> str:
    """The name; raises ``BadInput``, with the nearest one, unless it is among those that are known."""
    names = list(among)
    if name not in names:
        raise BadInput(f"there is no {what} {name!r}; {nearest(name, names)}")
    return name
