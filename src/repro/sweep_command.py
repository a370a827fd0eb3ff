"""``repro sweep``: a chapter at every point of a grid, and one table of all runs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from repro.book.errors import BookError

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from repro.book.layout import Book
    from repro.book.sweep.grid import Point

__all__ = ["sweep"]

_SHOWN = 20


def sweep(
    chapter: Annotated[str, typer.Argument(help="Name of a chapter; see `params`.")],
    axes: Annotated[
        list[str] | None,
        typer.Option(
            "-p",
            "--parameter",
            metavar="NAME=VALUES",
            help="An axis: a,b,c or 0..9 or 0..100..10 or linspace(0, 1, 5) or logspace(-4, -1, 4); "
            "repeat for more, all are crossed.",
        ),
    ] = None,
    zipped: Annotated[
        str, typer.Option("--zip", metavar="NAME,NAME", help="Axes that advance together.")
    ] = "",
    points: Annotated[
        Path | None,
        typer.Option("--points", metavar="FILE", help="A CSV or YAML file of points, crossed with the axes."),
    ] = None,
    profile: Annotated[
        str | None, typer.Option("--profile", help="smoke, quick or paper; the same as -p profile=...")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=1, help="Runs at the same time [default: one a core]."),
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            "--cluster", metavar="ADDRESS", help="A Dask scheduler, or `local` to start one on this machine."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="DIR", help="Folder of the sweep [default: one in _build/sweeps]."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Run only what is missing, was lost, or is out of date.")
    ] = False,
    retry_failed: Annotated[
        bool,
        typer.Option(
            "--retry-failed",
            help="Like --resume, and run those again that failed: for trouble from outside that is mended, "
            "such as missing data.",
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the points and the expected cost; run nothing.")
    ] = False,
    timeout: Annotated[
        float | None, typer.Option("--timeout", min=1, help="Seconds a run, instead of the budget.")
    ] = None,
    memory: Annotated[
        float | None, typer.Option("--memory", min=1, help="Megabytes a run, instead of the budget.")
    ] = None,
    retries: Annotated[
        int,
        typer.Option("--retries", min=0, help="How often a run that was lost, by a kill, is tried again."),
    ] = 2,
    report: Annotated[
        bool, typer.Option("--report", help="Write a page of pictures and tables, report.html, at the end.")
    ] = False,
) -> None:
    """Run a chapter at every point of a grid, and write one table of all runs.

    Every point is checked before anything runs. A run that fails is a row of the table with its error. What is
    finished is kept whatever happens: the same command with --resume goes on. The exit code is 1 if any run failed.
    """
    from repro.book import claims, parameters
    from repro.book.files import shown
    from repro.book.layout import Book
    from repro.book.sweep import engine, forecast, grid, progress

    book, console = Book.find(), Console()
    chapter = book.chapter(chapter)
    declared, claims_file = parameters.declared(book.notebook(chapter)), book.claims_file(chapter)
    found = grid.points(
        declared,
        claims.load(claims_file).profiles,
        axes or [],
        zipped=zipped.split(",") if zipped else (),
        file=points,
        common={} if profile is None else {"profile": profile},
        where=claims_file.name,
    )
    if note := grid.repeated(found):
        print(f"note: {note}")
    at_once = workers or _cores()
    if dry_run:
        more = f", the first {_SHOWN} of them" if len(found) > _SHOWN else ""
        print(f"{chapter}: {len(found)} point{'s' * (len(found) != 1)}{more}")
        console.print(_table(found))
        print(forecast.expected(found, forecast.past_seconds(book, chapter), at_once))
        return
    with _executor(cluster, workers) as executor, progress.shown_on(console, chapter) as tell:
        result = engine.sweep(
            book,
            chapter,
            found,
            executor=executor,
            workers=getattr(executor, "workers", at_once),
            folder=output,
            resume=resume or retry_failed,
            retry_failed=retry_failed,
            timeout=timeout,
            memory_mb=memory,
            retries=retries,
            progress=tell,
            plan=_plan(book, chapter, axes or [], zipped, points, profile),
        )
    tally = result.tally
    print(
        f"{chapter}: {tally.total} runs ({tally.kept} from before), {tally.done} done, {tally.failed} failed, "
        f"{tally.lost} lost: {shown(result.table)}"
    )
    if report:
        from repro.book.sweep.report import make

        print(f"report: {shown(make(result.folder, book))}")
    if tally.failed or tally.lost:
        bad = tally.failed + tally.lost
        raise BookError(f"{bad} of {tally.total} runs did not end well; the table's column error says why")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _executor(cluster: str | None, workers: int | None) -> AbstractContextManager[Executor]:
    from repro.book.sweep import executors

    if cluster is None:
        return executors.local(workers or _cores())
    return executors.dask(cluster, workers)


def _table(points: Sequence[Point]) -> Table:
    """The first points, by the parameters that were asked for."""
    names = list(dict.fromkeys(name for point in points for name in point.values))
    table = Table("", *names)
    for number, point in enumerate(points[:_SHOWN], start=1):
        table.add_row(str(number), *(escape(str(point.resolved[name])) for name in names))
    return table


def _plan(
    book: Book, chapter: str, axes: Sequence[str], zipped: str, points: Path | None, profile: str | None
) -> dict[str, Any]:
    """What was asked for, and the commit that is checked out, for ``sweep.json``."""
    from repro.book.cache import commit_of, library_files
    from repro.book.notebooks import read_notebook

    path = book.notebook(chapter)
    return {
        "axes": list(axes),
        "zip": zipped,
        "file": points.name.encode(errors="replace").decode() if points else None,
        "profile": profile,
        **commit_of(book.root, [path, book.claims_file(chapter), *library_files(read_notebook(path))]),
    }
