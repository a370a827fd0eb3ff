"""Errors a person can act on: one clear line each, and an exit code that a script can rely on.

=====  ==========================================================
code   meaning
=====  ==========================================================
0      all well
1      a run, a check or the rendering failed, or the output could not be written
2      bad input: unknown name, wrong type, broken file
3      a run contradicts a committed answer
4      another build of this book, or sweep of this folder, is at work
130    stopped with Ctrl-C
=====  ==========================================================
"""

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
    """A chapter did not run to its end; ``notebook`` is where the attempt was kept, if it was."""

    def __init__(self, message: str, notebook: Path | None = None) -> None:
        super().__init__(message)
        self.notebook = notebook


class BudgetExceeded(RunFailed):
    """A chapter took more seconds or memory than its profile allows."""


class RunLost(RunFailed):
    """A run was ended from outside, by a kill or a machine that went away: another try may well succeed."""


class DiskFull(BookError):
    """There was no room to write."""


class VerdictTurned(BookError):
    """A run contradicts a committed answer."""

    exit_code = 3


class Locked(BookError):
    """Another build of the same book is at work."""

    exit_code = 4


def known(what: str, name: str, among: Iterable[str]) -> str:
    """The name; raises ``BadInput``, with the nearest one, unless it is among those that are known."""
    names = list(among)
    if name not in names:
        raise BadInput(f"there is no {what} {name!r}; {nearest(name, names)}")
    return name
