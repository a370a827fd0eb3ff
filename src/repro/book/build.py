"""From sources to the rendered book: run, judge, compare, write the pages, render.

Everything is made beside what is there and takes its place at the end: a build that fails, or is stopped, leaves
the last good pages and results as they were.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import metadata
from pathlib import Path

import yaml

from repro.book import _pages, results, runner
from repro.book._environment import git, sealed, whole_library
from repro.book._files import (
    alone,
    check_writable,
    hash_of_files,
    sha256,
    shown,
    system_errors,
    write_atomically,
)
from repro.book._notebooks import read_notebook
from repro.book.errors import BookError, RunFailed
from repro.book.layout import Book
from repro.book.results import Results
from repro.book.runner import RunResult

_Say = Callable[[str], None]
_TOOLS = ("jupyter-book", "sphinx", "sphinx-book-theme", "myst-nb", "sphinx-exercise", "pydata-sphinx-theme")


class _Turned(BookError):
    """A run contradicts a committed answer."""

    exit_code = 3


def build(
    book: Book,
    *,
    profile: str = "quick",
    accept: bool = False,
    use_cache: bool = True,
    jobs: int = 2,
    say: _Say = print,
) -> Path:
    """Run all chapters and pages, judge the claims, and render the book; returns its first page.

    Args:
        book: the book.
        profile: size of every chapter's experiments.
        accept: take this build's results as the committed ones, whatever they were before.
        use_cache: take unchanged runs and unchanged pages from the last build.
        jobs: chapters that run at the same time, each on one thread.
        say: gets one line a step.

    Raises:
        BadInput: something in the sources is wrong; nothing has run.
        RunFailed: a chapter, a page or the rendering failed.
        BookError: another build of this book is at work, or the run contradicts a committed answer.
    """
    with alone(book.cache_dir / "build.lock", f"build of {shown(book.root)} is at work"):
        for chapter in book.chapters() if accept else ():
            check_writable(book.results_file(chapter, profile))
        runs = _run_all(book, profile, use_cache, jobs, say)
        found = {chapter: runs[chapter].results for chapter in book.chapters()}
        if accept:
            for result in found.values():
                results.write(book.results_file(result.chapter, profile), result)
            _pages.write_readme(book)
        else:
            _compare(book, found, say)
        made_of, page = _made_of(book, runs, profile), book.build_dir / "html" / "index.html"
        if use_cache and page.is_file() and _rendered(book)[1:] == [made_of]:
            say("pages: unchanged")
            return page
        return _render(book, _staged(book, runs, profile), made_of, use_cache, say)


def _run_all(book: Book, profile: str, use_cache: bool, jobs: int, say: _Say) -> dict[str, RunResult]:
    """Chapters, and then the other notebooks; all are tried even if one fails, and the first failure is raised."""
    runs: dict[str, RunResult] = {}
    failures: list[BookError] = []

    def run(name: str, **given: object) -> None:
        try:
            done = runs[name] = runner.run(book, name, given, use_cache=use_cache)
        except BookError as error:
            failures.append(error)
            say(f"{name}: failed")
            return
        ran = f"ran in {done.run['seconds']:.0f} s with {done.run['peak_memory_mb']} MB"
        say(f"{name}: {'unchanged, taken from the cache' if done.cached else ran}")

    chapters = book.chapters()
    say(f"running {len(chapters)} chapter{'s' * (len(chapters) > 1)}, profile {profile} ...")
    # those that took longest begin, so that no core waits for another at the end
    known = {c: result.run["seconds"] for (c, p), result in _pages.all_results(book).items() if p == profile}
    with ThreadPoolExecutor(max_workers=max(1, jobs)) as pool:
        order = sorted(chapters, key=lambda chapter: -known.get(chapter, 0))
        list(pool.map(partial(run, profile=profile), order))
    for page in book.pages():
        run(page)
    if failures:
        raise failures[0]
    return runs


def _compare(book: Book, found: Mapping[str, Results], say: _Say) -> None:
    """Tell which answers are others than before, and refuse a run that contradicts a committed answer."""
    against = []
    for (chapter, profile), committed in _pages.all_results(book).items():
        new = found[chapter]
        against += [f"{chapter} ({profile}) {told}" for told in committed.contradictions(new)]
        for claim, now in new.claims.items() if profile == new.profile else ():
            if (was := committed.claims.get(claim, now)).word != now.word:
                say(f"note: {chapter} ({profile}) {claim}: was {was.word}, is now {now.word}")
    if against:
        told = "if the new ones are right, repro build --accept takes them over"
        raise _Turned(f"this run contradicts committed answers: {' | '.join(against)}; {told}")


def _made_of(book: Book, runs: Mapping[str, RunResult], profile: str) -> str:
    """One hash of all that pages are made of: files of the book, runs, the library, its tools and what git tells."""
    files = [*(book.root / "book").rglob("*"), *map(book.root.joinpath, ("_config.yml", "_toc.yml"))]
    files += [run.notebook for run in runs.values()]
    commit = git(book.root, "rev-parse", "HEAD") or ""
    parts = hash_of_files(book.root, sorted(filter(Path.is_file, files))), commit, profile, whole_library()
    return sha256(*map(str.encode, (*parts, *_tools())))


def _tools() -> list[str]:
    return [f"{name} {metadata.version(name)}" for name in _TOOLS]


def _rendered(book: Book) -> list[str]:
    """What the pages that are there were made of: a hash of their frame, and ``_made_of``."""
    record = book.cache_dir / "rendered"
    return record.read_text().split() if record.is_file() else []


def _staged(book: Book, runs: Mapping[str, RunResult], profile: str) -> dict[str, bytes]:
    """The book with executed notebooks and generated pages, to be rendered without execution: files by their place."""
    config = yaml.safe_load((book.root / "_config.yml").read_text(encoding="utf-8")) or {}
    config["execute"] = {"execute_notebooks": "off"}  # they have run already
    staged = {"_config.yml": yaml.safe_dump(config, sort_keys=False, allow_unicode=True, encoding="utf-8")}
    staged["_toc.yml"] = (book.root / "_toc.yml").read_bytes()
    for path in (path for path in (book.root / "book").rglob("*") if path.is_file()):
        place = path.relative_to(book.root)
        if not {"results", "claims", ".ipynb_checkpoints"}.intersection(place.parts):
            staged[place.as_posix()] = path.read_bytes()
    for page in book.pages():
        staged[f"{page}.ipynb"] = runs[page].notebook.read_bytes()
    # what is committed, and for what is not this build's results; the status page tells of this build
    committed = _pages.all_results(book)
    fresh = {(name, profile): runs[name].results for name in book.chapters() if profile != "smoke"}
    never = {key: result for key, result in fresh.items() if not any(key[0] == name for name, _ in committed)}
    chapters = _pages.chapters(book, committed | never)
    for chapter in chapters:
        notebook = _pages.with_first_screen(chapter, read_notebook(runs[chapter.name].notebook), profile)
        staged[f"book/chapters/{chapter.name}.ipynb"] = json.dumps(notebook, indent=1).encode()
    index = staged["book/index.md"].decode()
    made = {"index": _pages.landing(index, chapters), "scoreboard": _pages.scoreboard(chapters)}
    made["status"] = _pages.status(book, committed | fresh, chapters)
    staged |= {f"book/{name}.md": text.encode() for name, text in made.items()}
    return dict(sorted(staged.items()))


def _put(stage: Path, staged: Mapping[str, bytes]) -> None:
    """Make a folder hold these files and no others; one that is right keeps its time, by which Sphinx knows it."""
    for path in (path for path in stage.rglob("*") if path.is_file()):
        if path.relative_to(stage).as_posix() not in staged:
            path.unlink()
    for name, content in staged.items():
        path = stage / name
        if not path.is_file() or path.read_bytes() != content:
            write_atomically(path, content)


def _render(book: Book, staged: Mapping[str, bytes], made_of: str, use_cache: bool, say: _Say) -> Path:
    """Render the staged files; the new pages replace the old ones only when there was no warning.

    As long as only the text of pages changes, Sphinx goes on from what it read the last time. Its folder counts
    only after a rendering without a warning: what it has read already it would not complain of again.
    """
    stage, html, output = (book.build_dir / name for name in ("stage", "html", "rendering"))
    record, last = book.cache_dir / "rendered", _rendered(book) if use_cache else []
    say("rendering the pages ...")
    with system_errors(output):
        record.unlink(missing_ok=True)
        _put(stage, staged)
        # all but the text of pages; those of the library are made from its docstrings
        files = [stage / name for name in staged if not name.endswith((".md", ".ipynb"))]
        frame = sha256(*map(str.encode, (hash_of_files(stage, files), whole_library(), *_tools())))
        # looking for garbage in the trees of all pages takes seconds, and the process ends soon anyway
        program = "import gc; gc.disable(); from jupyter_book.cli.main import main; main()"
        if last[:1] == [frame]:
            # the pages of source code are there already; to see whether they are of today, it imports everything
            skipped = "from sphinx.ext import viewcode; viewcode.collect_pages = lambda app: iter(())"
            program = f"{skipped}; {program}"
        else:
            shutil.rmtree(output, ignore_errors=True)
        output.mkdir(exist_ok=True)
    made = _made_pages(book, stage, output, program)
    with system_errors(html):
        new, old = book.build_dir / "html.new", book.build_dir / "html.old"
        for left in (new, old):
            shutil.rmtree(left, ignore_errors=True)
        shutil.copytree(made, new)
        if html.exists():
            os.replace(html, old)
        os.replace(new, html)
        shutil.rmtree(old, ignore_errors=True)
    write_atomically(record, f"{frame} {made_of}")
    return html / "index.html"


def _made_pages(book: Book, stage: Path, output: Path, program: str) -> Path:
    """The folder of pages that ``program``, jupyter-book, makes of the staging copy; raises for any warning."""
    flags = ["-n", "-W", "--keep-going", "-q", "--path-output", str(output)]
    done = subprocess.run(
        [sys.executable, "-P", "-c", program, "build", *flags, str(stage)],
        cwd=stage,
        capture_output=True,
        text=True,
        env=sealed(book, output) | {"NO_COLOR": "1"},
    )
    log, made = book.build_dir / "rendering.log", output / "_build" / "html"
    write_atomically(log, done.stdout + done.stderr)
    if done.returncode or not (made / "index.html").is_file():
        warnings = [line for line in done.stderr.splitlines() if "WARNING" in line or "ERROR" in line]
        first = re.sub(r"\x1b\[[\d;]*m", "", warnings[0]) if warnings else "see the log"
        first = first.replace(f"{stage}{os.sep}", "")
        told = f"({len(warnings)} warnings), first: {first}; log: {shown(log)}"
        raise RunFailed(f"the pages did not render {told}")
    return made
