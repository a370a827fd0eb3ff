"""How a sweep stands, for a person: a bar on a terminal, one plain line every tenth elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console

from repro.book.sweep.engine import Tally

__all__ = ["duration", "shown_on"]


def duration(seconds: float) -> str:
    """A span of time in two units at most: ``42 s``, ``3 min 20 s``, ``2 h 5 min``.

    >>> duration(200)
    '3 min 20 s'
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


@contextmanager
def shown_on(console: Console, chapter: str) -> Iterator[Callable[[Tally], None]]:
    """What to hand to ``engine.sweep`` as its progress."""
    begun = time.monotonic()
    if not console.is_terminal:
        yield _lines(chapter, begun)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[state]}"),
    )
    with Progress(*columns, console=console, transient=True) as bars:
        task = bars.add_task(chapter, total=None, state="")
        yield lambda tally: bars.update(
            task, total=tally.total, completed=tally.total - tally.left, state=_state(tally, begun)
        )


def _lines(chapter: str, begun: float) -> Callable[[Tally], None]:
    last = -1

    def tell(tally: Tally) -> None:
        nonlocal last
        ended = tally.total - tally.left
        tenth = 10 * ended // max(tally.total, 1)
        if tenth > last:
            last = tenth
            print(f"{chapter}: {ended} of {tally.total} runs; {_state(tally, begun)}", flush=True)

    return tell


def _state(tally: Tally, begun: float) -> str:
    """``17 done, 2 failed, 0 lost, 11 left, about 3 min 20 s to go``."""
    state = f"{tally.done} done, {tally.failed} failed, {tally.lost} lost, {tally.left} left"
    run_now = tally.total - tally.left - tally.kept
    if not run_now or not tally.left:
        return state
    to_go = (time.monotonic() - begun) / run_now * tally.left
    return f"{state}, about {duration(to_go)} to go"
