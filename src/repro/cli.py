"""``repro``: run chapters, once or over a grid, look at their parameters and claims, build and check the book."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from repro import __version__
from repro.book.errors import BadInput, BookError

if TYPE_CHECKING:
    from repro.book.layout import Book

__all__ = ["app", "main"]

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
_out = Console()
_COLOURS = {
    "reproduced": "green",
    "passed": "green",
    "partly": "yellow",
    "undecided": "blue",
    "open": "blue",
} | {
    "not reproduced": "red",
    "failed": "red",
}

_Profile = Annotated[
    str, typer.Option("--profile", help="smoke, quick, full or paper: the size of the experiments.")
]
_NoCache = Annotated[bool, typer.Option("--no-cache", help="Run even if nothing has changed.")]
_OtherProfile = Annotated[
    str | None, typer.Option("--profile", help="smoke, quick, full or paper; the same as -p profile=...")
]
_Timeout = Annotated[
    float | None, typer.Option("--timeout", min=1, help="Seconds a run, instead of the profile's budget.")
]


def _book() -> Book:
    from repro.book.layout import Book

    return Book.find()


def _check_profile(name: str) -> None:
    from repro.base import nearest
    from repro.book.layout import PROFILES

    if name not in PROFILES:
        raise BadInput(f"there is no profile {name!r}; {nearest(name, PROFILES)}")


def _version(show: bool) -> None:
    if show:
        print(f"repro {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
    traceback: Annotated[
        bool,
        typer.Option("--traceback", help="Show the whole traceback of an error.", envvar="REPRO_TRACEBACK"),
    ] = False,
) -> None:
    if traceback:
        os.environ["REPRO_TRACEBACK"] = "1"


@app.command(epilog=_EXIT_CODES)
def run(
    chapters: Annotated[
        list[str], typer.Argument(metavar="CHAPTER...", help="Names of chapters; see `params`.")
    ],
    parameter: Annotated[
        list[str] | None,
        typer.Option("-p", "--parameter", metavar="NAME=VALUE", help="A parameter; repeat for more."),
    ] = None,
    profile: _OtherProfile = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", help="Folder for the executed notebooks [default: _build/notebooks]."),
    ] = None,
    no_cache: _NoCache = False,
    timeout: _Timeout = None,
    accept: Annotated[
        bool, typer.Option("--accept", help="Write the verdicts to book/results (default sizes only).")
    ] = False,
) -> None:
    """Run chapters with your own parameters, and show their verdicts.

    Parameters are checked before anything runs. The executed notebook stays where the last line says.
    """
    from repro.book import pages, parameters, results, runner
    from repro.book.build import judge_run, try_accepting
    from repro.book.files import shown

    book = _book()
    plans = []
    for chapter in chapters:
        declared = parameters.declared(book.notebook(chapter))
        given = parameters.from_texts(declared, parameter or [])
        if profile is not None:
            if given.get("profile", profile) != profile:
                raise BadInput(f"--profile {profile} contradicts -p profile={given['profile']}")
            given |= parameters.validate(declared, {"profile": profile})
        if accept:
            try_accepting(book, chapter, str(given.get("profile", declared[0].default)))
        plans.append((book.chapter(chapter), given))
    for chapter, given in plans:
        with _bar(chapter) as update:
            options: dict[str, Any] = {"output": output, "use_cache": not no_cache, "timeout": timeout}
            options["progress"] = lambda begun, total: update(completed=begun, total=total)
            result = runner.run(book, chapter, given, **options)
        found = judge_run(book, result)
        if result.profile != "smoke":
            _out.print(_verdicts(book, chapter, result.profile, found))
        if accept:
            if own := sorted(set(given) - {"profile"}):
                _out.print(f"note: with {', '.join(own)} set by hand; the result's provenance says so")
            results.write(book.results_file(chapter, result.profile), found)
            pages.write_readme(book)
        cost = "from the cache" if result.cached else f"{result.run['seconds']:.0f} s"
        print(f"{chapter} ({result.profile}, {cost}): {shown(result.notebook)}")


@contextmanager
def _bar(name: str, total: int | None = None) -> Iterator[Callable[..., None]]:
    """A bar while a person is watching, silence otherwise; gives what moves it."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=_out, transient=True, disable=not _out.is_terminal) as bars:
        yield partial(bars.update, bars.add_task(name, total=total))


_AXIS = "An axis: a,b,c or 0..9 or 0..100..10 or linspace(0, 1, 5) or logspace(-4, -1, 4); axes are crossed."
_RETRY = "Like --resume, and run those again that failed: for trouble that is mended, such as missing data."
_SHOWN = 20  # points of a dry run


@app.command(epilog=_EXIT_CODES)
def sweep(
    chapter: Annotated[str, typer.Argument(help="Name of a chapter; see `params`.")],
    axes: Annotated[
        list[str] | None, typer.Option("-p", "--parameter", metavar="NAME=VALUES", help=_AXIS)
    ] = None,
    zipped: Annotated[
        str, typer.Option("--zip", metavar="NAME,NAME", help="Axes that advance together.")
    ] = "",
    points: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A CSV or YAML file of points, crossed with the axes."),
    ] = None,
    profile: _OtherProfile = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Runs at the same time [default: one a core].")
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="A Dask scheduler, or `local` to start one on this machine."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of the sweep [default: one in _build/sweeps]."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Run only what is missing, was lost, or is out of date.")
    ] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help=_RETRY)] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the points and the expected cost; run nothing.")
    ] = False,
    timeout: _Timeout = None,
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
    from repro.book.sweep import _engine, _runs, grid

    book = _book()
    chapter = book.chapter(chapter)
    notebook, claims_file = book.notebook(chapter), book.claims_file(chapter)
    axes = [*([] if profile is None else [f"profile={profile}"]), *(axes or [])]
    declared, profiles = parameters.declared(notebook), claims.load(claims_file).profiles
    together = zipped.split(",") if zipped else ()
    given = grid.points(declared, profiles, axes, zipped=together, file=points, where=claims_file.name)
    found = {grid.point_id(values): values for values in given}
    if extra := len(given) - len(found):
        print(f"note: {extra} of {len(given)} points repeat another and are run once")
    at_once = workers or (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    if dry_run:
        _show_points(book, chapter, found, at_once)
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a request to end counts as Ctrl-C
    asked = {"axes": axes, "zip": zipped, "file": points and points.name}
    asked |= commit_of(book.root, [notebook, claims_file])
    again = resume or retry_failed
    with (
        _runs.Folder.open(book, chapter, found, output, resume=again, asked=asked) as folder,
        _engine.cluster(cluster, workers) if cluster else _engine.Threads(at_once) as place,
        _told(chapter, len(found)) as tell,
    ):
        limits = {"timeout": timeout, "memory_mb": memory}
        tally = _engine.sweep(folder, place, limits, retries=retries, retry_failed=retry_failed, tell=tell)
    table = shown(folder.path / "table.parquet")
    print(f"{chapter}: {len(found)} runs ({tally['kept']} from before), {_state(tally)}: {table}")
    if report:
        from repro.book.sweep.report import make

        print(f"report: {shown(make(folder.path, book))}")
    if bad := tally["failed"] + tally["lost"]:
        raise BookError(f"{bad} of {len(found)} runs did not end well; the table's column error says why")


def _show_points(book: Book, chapter: str, points: Mapping[str, Any], workers: int) -> None:
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
        with suppress(OSError, ValueError, LookupError, TypeError, AttributeError):
            content = json.loads(path.read_text(encoding="utf-8"))
            return float(content.get("metadata", {}).get("repro", content)["run"]["seconds"])
    return None


@contextmanager
def _told(chapter: str, total: int) -> Iterator[Callable[[Counter[str]], None]]:
    """What a sweep tells its counts: a bar on a terminal, one plain line every tenth elsewhere."""

    def tell(tally: Counter[str]) -> None:
        ended = tally["done"] + tally["failed"] + tally["lost"]
        update(completed=ended, description=f"{chapter}: {_state(tally)}")
        if not _out.is_terminal and 10 * ended // total > 10 * (ended - 1) // total:
            print(f"{chapter}: {ended} of {total} runs; {_state(tally)}", flush=True)

    with _bar(chapter, total) as update:
        yield tell


def _state(tally: Counter[str]) -> str:
    return ", ".join(f"{tally[status]} {status}" for status in ("done", "failed", "lost"))


@app.command(epilog=_EXIT_CODES)
def params(
    chapter: Annotated[str, typer.Argument(help="Name of a chapter.")],
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for scripts.")] = False,
) -> None:
    """List a chapter's parameters: name, type, default, values by profile, help."""
    from repro.book import claims, parameters

    book = _book()
    declared = parameters.declared(book.notebook(chapter))
    profiles = claims.load(book.claims_file(chapter)).profiles
    if as_json:
        rows = [
            {"name": p.name, "type": p.type, "default": p.default, "accepted": p.allowed, "help": p.help}
            | {"profiles": {name: values.get(p.name) for name, values in profiles.items()}}
            for p in declared
        ]
        print(json.dumps(rows, indent=2))
        return
    table = Table(title=f"Parameters of {chapter}")
    for column in ("name", "type", "default", "accepted", *profiles, "help"):
        table.add_column(column)
    for p in declared:
        sizes = [str(values.get(p.name, "")) for values in profiles.values()]
        default = "by profile" if p.default is None else repr(p.default)
        table.add_row(p.name, p.type, default, p.allowed, *sizes, p.help)
    _out.print(table)


@app.command(name="claims", epilog=_EXIT_CODES)
def show_claims(
    chapter: Annotated[str | None, typer.Argument(help="Name of a chapter; all of them without.")] = None,
    profile: _Profile = "quick",
) -> None:
    """Show the committed verdicts."""
    from repro.book import results

    book = _book()
    _check_profile(profile)
    for name in [book.chapter(chapter)] if chapter else book.chapters():
        _out.print(_verdicts(book, name, profile, results.read(book.results_file(name, profile))))


@app.command(epilog=_EXIT_CODES)
def plan(chapter: Annotated[str, typer.Argument(help="Name of a chapter.")]) -> None:
    """Show how many seeds each deciding test needs, how many each profile has, and the minutes that this costs.

    Needs: so many seeds that an effect of the margin is told from none, and none from it, with a power of 90 %.
    """
    from repro.book import claims, planning, results

    book = _book()
    declared = claims.load(book.claims_file(chapter))
    print(planning.table(planning.plan(declared)))
    for profile, budget in list(declared.budget.items())[1:]:
        path = book.results_file(chapter, profile)
        took = f"{results.read(path).run['seconds'] / 60:.1f}" if path.is_file() else "not run yet"
        print(f"minutes of {profile}: {took}, of {budget.seconds / 60:.1f}")
    planning.check_seeds(declared)


def _verdicts(book: Book, chapter: str, profile: str, found: Any) -> Table:
    from repro.book import claims

    table = Table(title=f"{chapter}, profile {profile}")
    for column in ("claim", "statement", "answer", "because"):
        table.add_column(column)
    for claim in claims.load(book.claims_file(chapter)).claims:
        judged = found.claims.get(claim.id)
        word, why = (judged.word, judged.sentence) if judged else ("not tested", "no result yet")
        table.add_row(claim.id, claim.statement, f"[{_COLOURS.get(word, 'dim')}]{word}[/]", escape(why))
    return table


@app.command(epilog=_EXIT_CODES)
def build(
    profile: _Profile = "quick",
    accept: Annotated[
        bool, typer.Option("--accept", help="Take this build's verdicts as the committed ones.")
    ] = False,
    no_cache: _NoCache = False,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Chapters that run at the same time.")] = 2,
) -> None:
    """Run every chapter, judge the claims, and render the book into _build/html."""
    from repro.book.build import build as build_book
    from repro.book.files import shown

    _check_profile(profile)
    built = build_book(
        _book(),
        profile=profile,
        accept=accept,
        use_cache=not no_cache,
        jobs=jobs,
        say=lambda line: print(line, flush=True),
    )
    print(f"The book is ready: {shown(built.index)}")


@app.command(epilog=_EXIT_CODES)
def check(
    history: Annotated[
        bool,
        typer.Option("--history", help="Instead: prove that results came after their claims."),
    ] = False,
) -> None:
    """Check the sources: headings, parameters, numbers in the prose, claims, citations, alternative texts.

    With --history, git is asked for every committed result whether its claims were fixed before its run.
    """
    from repro.book import checks
    from repro.book.history import report

    if history:
        lines, failures = report(_book())
        print("\n".join(lines))
        if failures:
            raise BookError(f"{failures} reason{'s' * (failures > 1)} why committed results may not count")
        return
    problems = checks.run(_book())
    for problem in problems:
        print(problem)
    if problems:
        raise BookError(f"{len(problems)} problem{'s' * (len(problems) > 1)} found")
    print("the sources are in order")


def main() -> None:
    """Entry point: every expected error is one line on standard error and an exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a letter that a terminal lacks is no error
    said = ""
    code: str | int | None = 0
    try:
        app()
    except SystemExit as end:
        code = end.code
    except BookError as error:
        if os.environ.get("REPRO_TRACEBACK"):
            raise
        said, code = str(error), error.exit_code
    except KeyboardInterrupt:
        said = "stopped; finished chapters are in the cache, so the next call goes on from there"
        code = 130
    except OSError as error:
        if error.filename is not None:  # not the output's
            raise
        said, code = _unwritten(error), 1
    try:
        if sys.stdout is not None:
            sys.stdout.flush()  # into one file or pipe, the error comes last
    except OSError as error:
        if not said:
            said, code = _unwritten(error), 1
        # or the interpreter would try once more on its way out, and complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    with suppress(OSError):
        if said:
            print(f"repro: {' '.join(said.split())}", file=sys.stderr)
    sys.exit(code)


def _unwritten(error: OSError) -> str:
    """What to say of output that could not be written: nothing where the reader has just left, as ``head`` does."""
    return "" if isinstance(error, BrokenPipeError) else f"could not write the output: {error.strerror}"


if __name__ == "__main__":
    main()
