"""``repro``: run chapters, once or over a grid, look at their parameters and claims, build and check the book."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from joblib import cpu_count
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from repro import __version__
from repro.book import claims, parameters, results
from repro.book._environment import commit_of
from repro.book._files import check_writable, one_line, shown
from repro.book.answers import WORDS
from repro.book.errors import BookError, known
from repro.book.layout import PROFILES, Book

_EXIT_CODES = (
    "Exit codes: 0 all well; 1 a run, a check or the rendering failed, or the output could not be written; "
    "2 bad input; 3 a run contradicts a committed answer; 4 another build of this book, or sweep of this "
    "folder, is at work; 130 stopped with Ctrl-C."
)
app = typer.Typer(
    name="repro",
    help="Run, judge and render the book *What makes networks sparse? Four papers, rerun*.",
    epilog=_EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
_command = partial(app.command, epilog=_EXIT_CODES)
_out = Console()
_COLOURS = {"✓": "green", "✗": "red", "?": "blue", "◐": "yellow"}

_P = ("-p", "--parameter")
_SIZES = "smoke, quick, full or paper"
_GIVEN = "A parameter; repeat for more."
_AXIS = "An axis: a,b,c or 0..9 or 0..100..10 or linspace(0, 1, 5) or logspace(-4, -1, 4); axes are crossed."
_POINTS = "A CSV or YAML file of points, crossed with the axes."
_RETRY = "Like --resume, and run those again that failed: for trouble that is mended, such as missing data."
_Chapter = Annotated[str, typer.Argument(help="Name of a chapter.")]
_Profile = Annotated[str, typer.Option(help=f"{_SIZES}: the size of the experiments.")]
_OtherProfile = Annotated[str | None, typer.Option("--profile", help=f"{_SIZES}; the same as -p profile=...")]
_Accept = Annotated[bool, typer.Option("--accept", help="Write the verdicts to book/results.")]
_NoCache = Annotated[bool, typer.Option("--no-cache", help="Run even if nothing has changed.")]
_Timeout = Annotated[float | None, typer.Option(min=1, help="Seconds a run, instead of the budget.")]
_Memory = Annotated[float | None, typer.Option(min=1, help="Megabytes a run, instead of the budget.")]


def _with(profile: str | None, pairs: Iterable[str] | None) -> list[str]:
    """What was given by ``-p``, and the profile if it was given by an option of its own."""
    return [*([] if profile is None else [f"profile={profile}"]), *(pairs or [])]


def _version(show: bool) -> None:
    if show:
        print(f"repro {__version__}")
        raise typer.Exit


_Version = Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it.")]


@app.callback()
def _options(version: _Version = False) -> None:
    pass


def _print_table(title: str, head: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    table = Table(*head, title=title)
    for row in rows:
        table.add_row(*row)
    _out.print(table)


def _print_verdicts(book: Book, found: results.Results) -> None:
    rows = []
    for claim in claims.load(book.claims_file(found.chapter)).claims:
        judged = found.claims.get(claim.id)
        word, why = (judged.word, judged.sentence) if judged else ("not tested", "no result yet")
        colour = _COLOURS.get(WORDS[word], "dim")
        rows.append((claim.id, claim.statement, f"[{colour}]{word}[/]", escape(why)))
    title = f"{found.chapter}, profile {found.profile}"
    _print_table(title, ("claim", "statement", "answer", "because"), rows)


@contextmanager
def _bar(name: str, total: int | None = None) -> Iterator[Callable[..., None]]:
    """A bar while a person is watching, silence otherwise; gives what moves it."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=_out, transient=True, disable=not _out.is_terminal) as bars:
        yield partial(bars.update, bars.add_task(name, total=total))


@_command("run")
def _run(
    chapters: Annotated[list[str], typer.Argument(metavar="CHAPTER...", help="Names of chapters.")],
    parameter: Annotated[list[str] | None, typer.Option(*_P, metavar="NAME=VALUE", help=_GIVEN)] = None,
    profile: _OtherProfile = None,
    output: Annotated[Path | None, typer.Option(help="Folder of the notebooks [default: in _build].")] = None,
    no_cache: _NoCache = False,
    timeout: _Timeout = None,
    accept: _Accept = False,
) -> None:
    """Run chapters with your own parameters, and show their verdicts.

    Parameters are checked before anything runs. The executed notebook stays where the last line says.
    """
    from repro.book import _pages, runner

    book = Book.find()
    plans = []
    for chapter in map(book.chapter, chapters):
        given = parameters.from_texts(parameters.declared(book.notebook(chapter)), _with(profile, parameter))
        plans.append((chapter, given))
        if accept:
            check_writable(book.results_file(chapter, str(given.get("profile", "quick"))))
    for chapter, given in plans:
        with _bar(chapter) as update:
            options: dict[str, Any] = {"output": output, "use_cache": not no_cache, "timeout": timeout}
            options["progress"] = lambda begun, total: update(completed=begun, total=total)
            result = runner.run(book, chapter, given, **options)
        found = result.results
        if found.profile != "smoke":
            _print_verdicts(book, found)
        if accept:
            if own := sorted(set(given) - {"profile"}):
                _out.print(f"note: with {', '.join(own)} set by hand; the result's provenance says so")
            results.write(book.results_file(chapter, found.profile), found)
            _pages.write_readme(book)
        cost = "from the cache" if result.cached else f"{result.run['seconds']:.0f} s"
        print(f"{chapter} ({found.profile}, {cost}): {shown(result.notebook)}")


@_command("sweep")
def _sweep(
    chapter: _Chapter,
    axes: Annotated[list[str] | None, typer.Option(*_P, metavar="NAME=VALUES", help=_AXIS)] = None,
    zipped: Annotated[str, typer.Option("--zip", metavar="NAME,NAME", help="Axes to advance together.")] = "",
    points: Annotated[Path | None, typer.Option(metavar="FILE", help=_POINTS)] = None,
    profile: _OtherProfile = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Runs at a time [default: one a core].")] = None,
    cluster: Annotated[str | None, typer.Option(help="A Dask scheduler's address, or `local`.")] = None,
    output: Annotated[Path | None, typer.Option(help="Folder [default: one in _build/sweeps].")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Run what is missing or out of date.")] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help=_RETRY)] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show points and cost; run nothing.")] = False,
    timeout: _Timeout = None,
    memory: _Memory = None,
    retries: Annotated[int, typer.Option(min=0, help="How often a lost run is tried again.")] = 2,
    report: Annotated[bool, typer.Option("--report", help="Write a page of pictures, report.html.")] = False,
) -> None:
    """Run a chapter at every point of a grid, and write one table of all runs.

    Every point is checked before anything runs. A run that fails is a row of the table with its error. What is
    finished is kept whatever happens: the same command with --resume goes on. The exit code is 1 if any run failed.
    """
    from repro.book.sweep import _engine, _runs, grid

    book = Book.find()
    chapter = book.chapter(chapter)
    notebook, claims_file = book.notebook(chapter), book.claims_file(chapter)
    axes = _with(profile, axes)
    declared, profiles = parameters.declared(notebook), claims.load(claims_file).profiles
    together = zipped.split(",") if zipped else ()
    given = grid.points(declared, profiles, axes, zipped=together, file=points, where=claims_file.name)
    found = {grid.point_id(values): values for values in given}
    if extra := len(given) - len(found):
        print(f"note: {extra} of {len(given)} points repeat another and are run once")
    if dry_run:
        _show_points(book, chapter, found, workers or cpu_count())
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a request to end counts as Ctrl-C
    asked = {"axes": axes, "zip": zipped, "file": points and points.name}
    asked |= commit_of(book.root, [notebook, claims_file])
    again = resume or retry_failed
    with (
        _runs.Folder.open(book, chapter, found, output, resume=again, asked=asked) as folder,
        _engine.Cluster(cluster, workers) if cluster else _engine.Threads(workers or cpu_count()) as place,
        _bar(chapter, len(found)) as update,
    ):
        tell = partial(_tell, chapter, len(found), update)
        limits = {"timeout": timeout, "memory_mb": memory}
        tally = _engine.sweep(folder, place, limits, retries=retries, retry_failed=retry_failed, tell=tell)
    table = shown(folder.path / "table.parquet")
    print(f"{chapter}: {len(found)} runs ({tally['kept']} from before), {_state(tally)}: {table}")
    if report:
        from repro.book.sweep.report import make

        print(f"report: {shown(make(folder.path, book))}")
    if bad := tally["failed"] + tally["lost"]:
        raise BookError(f"{bad} of {len(found)} runs did not end well; the table's column error says why")


def _show_points(book: Book, chapter: str, points: Mapping[str, Any], workers: int, most: int = 20) -> None:
    """The first points, by the parameters that vary, and what all of them are likely to take."""
    import pandas as pd

    more = f", the first {most} of them" if len(points) > most else ""
    print(f"{chapter}: {len(points)} point{'s' * (len(points) != 1)}{more}")
    table = pd.DataFrame(points.values(), index=range(1, len(points) + 1))
    varied = [name for name in table if table[name].nunique() > 1]
    print(table[varied or list(table)].head(most).to_string())
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
        with suppress(OSError, ValueError, LookupError, TypeError, AttributeError):
            content = json.loads(path.read_text(encoding="utf-8"))
            return float(content.get("metadata", {}).get("repro", content)["run"]["seconds"])
    return None


def _tell(chapter: str, total: int, update: Callable[..., None], tally: Counter[str]) -> None:
    """Tell the counts of a sweep: a bar on a terminal, one plain line every tenth elsewhere."""
    ended = tally["done"] + tally["failed"] + tally["lost"]
    update(completed=ended, description=f"{chapter}: {_state(tally)}")
    if not _out.is_terminal and 10 * ended // total > 10 * (ended - 1) // total:
        print(f"{chapter}: {ended} of {total} runs; {_state(tally)}", flush=True)


def _state(tally: Counter[str]) -> str:
    return ", ".join(f"{tally[status]} {status}" for status in ("done", "failed", "lost"))


@_command("params")
def _params(chapter: _Chapter) -> None:
    """List a chapter's parameters: name, type, default, values by profile, help."""
    book = Book.find()
    declared = parameters.declared(book.notebook(chapter))
    profiles = claims.load(book.claims_file(chapter)).profiles
    rows = []
    for p in declared:
        default = "by profile" if p.default is None else repr(p.default)
        sizes = (str(values.get(p.name, "")) for values in profiles.values())
        rows.append((p.name, p.type, default, escape(p.allowed), *sizes, p.help))
    _print_table(f"Parameters of {chapter}", ("name", "type", "default", "accepted", *profiles, "help"), rows)


@_command("plan")
def _plan(chapter: _Chapter) -> None:
    """Show how many seeds each deciding test needs, how many each profile has, and the minutes that this costs.

    Needs: so many seeds that an effect of the margin is told from none, and none from it, with a power of 90 %.
    """
    from repro.book import planning

    book = Book.find()
    declared = claims.load(book.claims_file(chapter))
    print(planning.table(declared))
    for profile, budget in list(declared.budget.items())[1:]:
        path = book.results_file(chapter, profile)
        took = f"{results.read(path).run['seconds'] / 60:.1f}" if path.is_file() else "not run yet"
        print(f"minutes of {profile}: {took}, of {budget.seconds / 60:.1f}")
    planning.check_seeds(declared)


@_command("claims")
def _claims(
    chapter: Annotated[str | None, typer.Argument(help="Name of a chapter; all of them without.")] = None,
    profile: _Profile = "quick",
) -> None:
    """Show the committed verdicts."""
    book, profile = Book.find(), known("profile", profile, PROFILES)
    for name in [book.chapter(chapter)] if chapter else book.chapters():
        _print_verdicts(book, results.read(book.results_file(name, profile)))


@_command("cite")
def _cite(
    name: Annotated[str, typer.Argument(help="A chapter, a method such as pilot, or `book`.")] = "book",
) -> None:
    """Print the BibTeX of a chapter's paper, of a method, or of the book."""
    from repro.head_to_head import METHODS

    book = Book.find()
    keys = {"book": book.key}
    keys |= {label.lower(): method.source for label, method in METHODS.items() if method.source}
    for chapter in book.chapters():
        paper = claims.load(book.claims_file(chapter)).paper
        keys[chapter] = paper.key if paper else book.key
    print(book.references()[keys[known("method or chapter", name.lower(), keys)]])


@_command("new")
def _new(name: Annotated[str, typer.Argument(help="Small letters and hyphens, as my-paper.")]) -> None:
    """Begin a chapter: notebook, claims, package, tests, page of the library; all checks pass as they are.

    What it measures is there to be replaced. The page "Adding a paper" shows how, with a small example.
    """
    from repro.book.new import new

    for path in new(Book.find(), name):
        print(f"made {shown(path)}")
    print(f"next: repro run {name} --profile smoke")


@_command("build")
def _build(
    profile: _Profile = "quick",
    accept: _Accept = False,
    no_cache: _NoCache = False,
    jobs: Annotated[int, typer.Option(min=1, help="Chapters that run at the same time.")] = 2,
) -> None:
    """Run every chapter, judge the claims, and render the book into _build/html."""
    from repro.book.build import build

    say = partial(print, flush=True)
    options: dict[str, Any] = {"accept": accept, "use_cache": not no_cache, "jobs": jobs, "say": say}
    index = build(Book.find(), profile=known("profile", profile, PROFILES), **options)
    print(f"The book is ready: {shown(index)}")


@_command("check")
def _check(
    history: Annotated[bool, typer.Option("--history", help="Prove that results came after claims.")] = False,
) -> None:
    """Check the sources: headings, parameters, numbers in the prose, claims, citations, alternative texts.

    With --history, git is asked instead for every committed result whether its claims were fixed before its run.
    """
    from repro.book import checks
    from repro.book._history import report

    if history:
        lines, n = report(Book.find())
        found = f"{n} reason{'s' * (n > 1)} why committed results may not count"
    else:
        lines = checks.run(Book.find())
        n = len(lines)
        found = f"{n} problem{'s' * (n > 1)} found"
    print("\n".join(lines or ["the sources are in order"]))
    if n:
        raise BookError(found)


def main() -> None:
    """Entry point: every expected error is one line on standard error and an exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a letter that a terminal lacks is no error
    said, code = "", 0
    try:
        try:
            app()  # which always exits, after Ctrl-C too
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except SystemExit as end:
        code = end.code  # type: ignore[assignment]
    except BookError as error:
        said, code = str(error), error.exit_code
    except OSError as error:
        if error.filename is not None:  # not the output's
            raise
        if not isinstance(error, BrokenPipeError):  # whose reader has left, as `head` does
            said = f"could not write the output: {error.strerror}"
        code = 1
        # or the interpreter would try once more on its way out, and complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    with suppress(OSError):
        if said:
            print(f"repro: {one_line(said)}", file=sys.stderr)
    sys.exit(code)
