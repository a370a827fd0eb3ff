"""One chapter, one process, one result.

A run starts a worker process, which starts a kernel over private sockets; this side watches time and memory, and
keeps the executed notebook only when everything went well. A failed run leaves its notebook, with the reason in the
cell that failed, beside the last good one and never in its place.
"""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

from repro.book import claims, executed, parameters
from repro.book.cache import Cache, key_parts, run_key
from repro.book.environment import sealed
from repro.book.errors import BookError, BudgetExceeded, DiskFull, RunFailed, RunLost
from repro.book.files import shown, write_atomically
from repro.book.fingerprint import library_files
from repro.book.kernel import private_folder
from repro.book.layout import Book
from repro.book.monitor import ProcessTree
from repro.book.notebooks import read_notebook, source_of
from repro.book.provenance import commit_of, machine

__all__ = ["Failure", "RunResult", "as_text", "execute", "keep_failed", "run"]

Progress = Callable[[int, int], None]
_TICK = 0.1
_GRACE = 60.0
"""Seconds for the worker and the kernel to start, on top of the budget."""


@dataclass(frozen=True)
class RunResult:
    """What a run left: where the executed notebook lies, what its ledger holds, where it comes from, what it cost."""

    chapter: str
    profile: str
    notebook: Path
    ledger: dict[str, Any] | None
    provenance: dict[str, Any]
    run: dict[str, Any]
    cached: bool


@dataclass(frozen=True)
class Failure:
    """Why a run ended early; ``index`` is the cell at work."""

    message: str
    index: int | None
    error: type[RunFailed] = RunFailed


def run(
    book: Book,
    chapter: str,
    given: Mapping[str, object] | None = None,
    *,
    output: Path | None = None,
    use_cache: bool = True,
    timeout: float | None = None,
    memory_mb: float | None = None,
    progress: Progress | None = None,
) -> RunResult:
    """Run a chapter, or take the run from the cache when nothing it depends on has changed.

    Args:
        book: the book.
        chapter: its name.
        given: parameters by name, ``profile`` among them; checked before a kernel starts.
        output: folder for the executed notebook, ``CHAPTER.PROFILE.ipynb`` (default: ``_build/notebooks``).
        use_cache: take a kept run if there is one; a finished run is kept in any case.
        timeout: seconds after which the run is stopped, instead of the profile's budget.
        memory_mb: megabytes of memory at which it is stopped, instead of the profile's budget.
        progress: called with the number of code cells begun and their total.

    Raises:
        BadInput: unknown chapter, parameter, value, or a broken file, before any work is done.
        BudgetExceeded: more seconds or memory than the profile allows.
        RunFailed: a cell raised, the kernel died, or the chapter showed no ledger of its own.
        RunLost: the kernel or its process was killed, or the kernel never started.
        DiskFull: there was no room to write.
    """
    chapter = book.chapter(chapter)
    path, claims_file = book.notebook(chapter), book.claims_file(chapter)
    chapter_claims = claims.load(claims_file)
    values = parameters.fill(
        parameters.declared(path), given or {}, chapter_claims.profiles, claims_file.name
    )
    profile = str(values["profile"])
    source = read_notebook(path)
    parts = key_parts(source, values, claims_file.read_bytes())
    key = run_key(parts)
    target = (output or book.build_dir / "notebooks") / f"{chapter}.{profile}.ipynb"
    cache = Cache(book.cache_dir / "cache")
    kept = cache.get(key) if use_cache else None
    if kept is not None:
        write_atomically(target, kept)
        return _result(json.loads(kept), chapter, profile, target, cached=True)

    budget = chapter_claims.budget[profile]  # type: ignore[index]
    notebook, cost, failure = execute(
        book, path, values, timeout or budget.seconds, memory_mb or budget.memory_mb, source, progress
    )
    executed.clean(notebook)
    ledger = None if failure else _own_ledger(notebook, chapter, profile)
    if isinstance(ledger, str):
        failure = Failure(ledger, None)
    sources = [source_of(cell) for cell in source["cells"] if cell.get("cell_type") == "code"]
    notebook["metadata"]["repro"] = {
        "chapter": chapter,
        "profile": profile,
        "parameters": values,
        "provenance": {
            **commit_of(book.root, [path, claims_file, *library_files(sources)]),
            **{name: parts[name] for name in ("library", "notebook", "parameters", "versions")},
            "data": executed.data_shown(notebook) | parts["files"],
        },
        "run": cost,
    }
    if failure is not None:
        keep_failed(chapter, notebook, failure, target.with_name(f"{chapter}.{profile}.failed.ipynb"))
    content = as_text(notebook).encode()
    write_atomically(target, content)
    cache.put(key, content)
    return _result(notebook, chapter, profile, target, cached=False)


def keep_failed(name: str, notebook: dict[str, Any], failure: Failure, wreck: Path) -> NoReturn:
    """Keep a notebook that failed at ``wreck``, with the reason in its cell, and raise the failure's error."""
    executed.mark_failure(notebook, failure.index, failure.message)
    write_atomically(wreck, as_text(notebook))
    raise failure.error(f"{name}: {failure.message}; see {shown(wreck)}", wreck)


def as_text(notebook: Mapping[str, Any]) -> str:
    """A notebook as its file holds it."""
    return json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def _result(notebook: dict[str, Any], chapter: str, profile: str, path: Path, cached: bool) -> RunResult:
    about = notebook["metadata"]["repro"]
    ledger = executed.ledger_shown(notebook)
    return RunResult(chapter, profile, path, ledger, about["provenance"], about["run"], cached)


def _own_ledger(notebook: Mapping[str, Any], chapter: str, profile: str) -> dict[str, Any] | str | None:
    """The ledger, or what is wrong: a cell that never ran, or a ledger of another chapter or profile."""
    if (index := executed.stopped_early(notebook)) is not None:
        where = executed.heading_of(notebook, index)
        return f"stopped without an error before cell {index + 1} ({where}): does a cell call exit()?"
    ledger = executed.ledger_shown(notebook)
    if ledger is not None and (ledger.get("chapter"), ledger.get("profile")) != (chapter, profile):
        return f"its ledger is that of {ledger.get('chapter')!r}, profile {ledger.get('profile')!r}"
    return ledger


def execute(
    book: Book,
    path: Path,
    values: Mapping[str, object],
    seconds: float,
    memory_mb: float,
    source: dict[str, Any],
    progress: Progress | None,
) -> tuple[dict[str, Any], dict[str, Any], Failure | None]:
    """Run a notebook in a process of its own: as far as it ran, what it cost, and why it failed, if it did.

    ``values`` are its parameters, checked; ``source`` is its content; ``seconds`` and ``memory_mb`` are its budget.
    """
    folder = private_folder()
    try:
        out = folder / "out.ipynb"
        request = {
            "source": str(path),
            "output": str(out),
            "folder": str(folder),
            "parameters": values,
            "cell_timeout": int(seconds + _GRACE),
        }
        started = datetime.now(UTC)
        begun = time.monotonic()
        with subprocess.Popen(
            [sys.executable, "-P", "-m", "repro.book.worker"],  # -P: no module of that name in the folder
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=path.parent,
            env=sealed(book, folder),
        ) as worker:
            tree = ProcessTree(worker.pid)
            try:
                failure = _watch(worker, tree, request, source, seconds, memory_mb, progress)
            finally:
                tree.kill()
        cost = {
            "seconds": round(time.monotonic() - begun, 1),
            "peak_memory_mb": round(tree.peak_mb),
            "started": started.isoformat(timespec="seconds"),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine(),
        }
        try:
            notebook = read_notebook(out)
        except (OSError, BookError):
            notebook = json.loads(json.dumps(source))
            failure = failure or Failure("the run left no notebook", None)
        return notebook, cost, failure
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _watch(
    worker: subprocess.Popen[str],
    tree: ProcessTree,
    request: Mapping[str, Any],
    source: Mapping[str, Any],
    seconds: float,
    memory_mb: float,
    progress: Progress | None,
) -> Failure | None:
    """Follow the worker's events until it is done, fails, or goes over its budget."""
    assert worker.stdin is not None
    assert worker.stdout is not None
    stdout = worker.stdout
    events: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        for line in stdout:
            events.put(line)
        events.put(None)

    threading.Thread(target=read, daemon=True).start()
    with suppress(BrokenPipeError):  # a worker that could not even start: its end is read below
        os.write(worker.stdin.fileno(), f"{json.dumps(request)}\n".encode())
    total = sum(cell.get("cell_type") == "code" for cell in source["cells"])
    index, n_begun, first_cell = None, 0, None
    launched = time.monotonic()
    while True:
        try:
            line = events.get(timeout=_TICK)
        except queue.Empty:
            line = ""
        if line is None:
            return Failure("the process that ran the notebook died", index, RunLost)
        if line:
            event = json.loads(line)
            if event["event"] == "done":
                return None
            if event["event"] == "failed":
                tree.sample()
                return _explained(event, index, source, seconds)
            index, n_begun = event["index"], n_begun + 1
            first_cell = first_cell or time.monotonic()
            if progress is not None:
                progress(min(n_begun, total), total)
        if tree.sample() > memory_mb:
            message = f"took {tree.peak_mb:.0f} MB of memory, more than the {memory_mb:.0f} MB of its budget"
            return Failure(message + _at(source, index), index, BudgetExceeded)
        spent = time.monotonic() - (first_cell or launched + _GRACE)
        if spent > seconds:
            message = f"took more than the {seconds:.0f} seconds of its budget"
            return Failure(message + _at(source, index), index, BudgetExceeded)


def _at(source: Mapping[str, Any], index: int | None) -> str:
    heading = "" if index is None else executed.heading_of(source, index)
    return f" (at {heading!r})" if heading else ""


def _explained(
    event: Mapping[str, Any], index: int | None, source: Mapping[str, Any], seconds: float
) -> Failure:
    """One clear line about how the worker says it failed."""
    where = _at(source, index)
    kind = event.get("kind")
    if kind == "cell":
        first = str(event["evalue"]).strip().splitlines()
        return Failure(f"{event['ename']}: {first[0] if first else ''}{where}", index)
    if kind == "dead":
        code = event.get("exit")
        how = (
            f"killed by signal {signal.Signals(-code).name}"
            if code is not None and code < 0
            else f"exit {code}"
        )
        killed = code in (-signal.SIGKILL, -signal.SIGTERM)
        return Failure(f"the kernel died ({how}){where}", index, RunLost if killed else RunFailed)
    if kind == "timeout":
        return Failure(
            f"took more than the {seconds:.0f} seconds of its budget{where}", index, BudgetExceeded
        )
    if kind == "system":
        if event.get("errno") in (28, 122):  # no space, no quota
            raise DiskFull(
                "the disk is full: the run could not be written; what was there before is unchanged"
            )
        return Failure(f"{os.strerror(event['errno'])}{where}", index)
    # Ctrl-C in a terminal reaches the worker too; what goes wrong before the first cell is not the notebook's fault
    outside = index is None or event.get("ename") == "KeyboardInterrupt"
    message = f"{event.get('ename')}: {event.get('evalue')}{where}"
    return Failure(message, index, RunLost if outside else RunFailed)
