"""``repro sweep``: a chapter at every point of a grid, and one table of all runs."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from repro.book.errors import BookError

if TYPE_CHECKING:
    from repro.book.layout import Book

__all__ = ["sweep"]

_SHOWN = 20
_AXIS = "An axis: a,b,c or 0..9 or 0..100..10 or linspace(0, 1, 5) or logspace(-4, -1, 4); axes are crossed."
_POINTS = "A CSV or YAML file of points, crossed with the axes."
_CLUSTER = "A Dask scheduler, or `local` to start one on this machine."
_OUTPUT = "Folder of the sweep [default: one in _build/sweeps]."
_RESUME = "Run only what is missing, was lost, or is out of date."
_RETRY = "Like --resume, and run those again that failed: for trouble that is mended, such as missing data."


def sweep(
    chapter: Annotated[str, typer.Argument(help="Name of a chapter; see `params`.")],
    axes: Annotated[
        list[str] | None, typer.Option("-p", "--parameter", metavar="NAME=VALUES", help=_AXIS)
    ] = None,
    zipped: Annotated[
        str, typer.Option("--zip", metavar="NAME,NAME", help="Axes that advance together.")
    ] = "",
    points: Annotated[Path | None, typer.Option(metavar="FILE", help=_POINTS)] = None,
    profile: Annotated[
        str | None, typer.Option(help="smoke, quick or paper; the same as -p profile=...")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Runs at the same time [default: one a core].")
    ] = None,
    cluster: Annotated[str | None, typer.Option(metavar="ADDRESS", help=_CLUSTER)] = None,
    output: Annotated[Path | None, typer.Option(metavar="DIR", help=_OUTPUT)] = None,
    resume: Annotated[bool, typer.Option("--resume", help=_RESUME)] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help=_RETRY)] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the points and the expected cost; run nothing.")
    ] = False,
    timeout: Annotated[
        float | None, typer.Option(min=1, help="Seconds a run, instead of the budget.")
    ] = None,
    memory: Annotated[
        float | None, typer.Option(min=1, help="Megabytes a run, instead of the budget.")
    ] = None,
    retries: Annotated[
        int, typer.Option(min=0, help="How often a lost run, ended by a kill, is tried again.")
    ] = 2,
    report: Annotated[
        bool, typer.Option("--report", help="Write a page of pictures and tables, report.html.")
    ] = False,
) -> None:
    """Run a chapter at every point of a grid, and write one table of all runs.

    Every point is checked before anything runs. A run that fails is a row of the table with its error. What is
    finished is kept whatever happens: the same command with --resume goes on. The exit code is 1 if any run failed.
    """
    from repro.book import claims, parameters
    from repro.book.cache import commit_of
    from repro.book.files import shown
    from repro.book.layout import Book
    from repro.book.sweep import engine, grid, runs
    from repro.book.sweep.cluster import cluster as dask

    book = Book.find()
    chapter = book.chapter(chapter)
    notebook, claims_file = book.notebook(chapter), book.claims_file(chapter)
    axes = [*([] if profile is None else [f"profile={profile}"]), *(axes or [])]
    declared, profiles = parameters.declared(notebook), claims.load(claims_file).profiles
    together = zipped.split(",") if zipped else ()
    given = grid.points(declared, profiles, axes, zipped=together, file=points, where=claims_file.name)
    found = {grid.point_id(values): values for values in given}
    if extra := len(given) - len(found):
        print(f"note: {extra} of {len(given)} points repeat another and are run once")
    at_once = workers or _cores()
    if dry_run:
        _show(book, chapter, found, at_once)
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a request to end counts as Ctrl-C
    asked = {"axes": axes, "zip": zipped, "file": points and points.name}
    asked |= commit_of(book.root, [notebook, claims_file])
    again = resume or retry_failed
    with (
        runs.Folder.open(book, chapter, found, output, resume=again, asked=asked) as folder,
        dask(cluster, workers) if cluster else engine.Threads(at_once) as place,
        _progress(chapter, len(found)) as tell,
    ):
        limits = {"timeout": timeout, "memory_mb": memory}
        tally = engine.sweep(folder, place, limits, retries=retries, retry_failed=retry_failed, tell=tell)
    table = shown(folder.path / "table.parquet")
    print(f"{chapter}: {len(found)} runs ({tally['kept']} from before), {_state(tally)}: {table}")
    if report:
        from repro.book.sweep.report import make

        print(f"report: {shown(make(folder.path, book))}")
    if bad := tally["failed"] + tally["lost"]:
        raise BookError(f"{bad} of {len(found)} runs did not end well; the table's column error says why")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _show(book: Book, chapter: str, points: Mapping[str, Any], workers: int) -> None:
    """The first points, by the parameters that vary, and what all of them are likely to take."""
    import pandas as pd

    more = f", the first {_SHOWN} of them" if len(points) > _SHOWN else ""
    print(f"{chapter}: {len(points)} point{'s' * (len(points) != 1)}{more}")
    table = pd.DataFrame(points.values(), index=range(1, len(points) + 1))
    varied = [name for name in table if table[name].nunique() > 1]
    print(table[varied or list(table)].head(_SHOWN).to_string())
    past = {profile: _past_seconds(book, chapter, profile) for profile in table["profile"].unique()}
    seconds = table["profile"].map(past)
    if seconds.isna().any():
        print(f"expected cost: unknown, as no run of {chapter} in this profile was found")
        return
    total, here = (timedelta(seconds=round(seconds.sum() / n)) for n in (1, workers))
    print(f"expected cost: {total} of computing, {here} with {workers} at a time, as the last run took")


def _past_seconds(book: Book, chapter: str, profile: str) -> float | None:
    """Seconds of the last run of a profile here, or of the committed one."""
    here = book.build_dir / "notebooks" / f"{chapter}.{profile}.ipynb"
    for path in (here, book.results_file(chapter, profile)):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            return float(content.get("metadata", {}).get("repro", content)["run"]["seconds"])
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            continue
    return None


@contextmanager
def _progress(chapter: str, total: int) -> Iterator[Callable[[Counter[str]], None]]:
    """What to hand to ``engine.sweep``: a bar on a terminal, one plain line every tenth elsewhere."""
    from rich.progress import Progress

    console = Console()

    def tell(tally: Counter[str]) -> None:
        ended = tally["done"] + tally["failed"] + tally["lost"]
        bars.update(task, completed=ended, description=f"{chapter}: {_state(tally)}")
        if not console.is_terminal and 10 * ended // total > 10 * (ended - 1) // total:
            print(f"{chapter}: {ended} of {total} runs; {_state(tally)}", flush=True)

    with Progress(console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task(chapter, total=total)
        yield tell


def _state(tally: Counter[str]) -> str:
    return ", ".join(f"{tally[status]} {status}" for status in ("done", "failed", "lost"))
