"""The points of a sweep onto an executor: a few at a time, lost runs again, every end written down."""

from __future__ import annotations

import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from repro.book.errors import BookError, DiskFull
from repro.book.files import shown
from repro.book.layout import Book
from repro.book.sweep.executors import is_cluster_gone
from repro.book.sweep.grid import Point
from repro.book.sweep.store import Store, default_folder
from repro.book.sweep.tasks import Kit, Outcome, execute

__all__ = ["SweepResult", "SweepStopped", "Tally", "sweep"]

_HOW_TO_RESUME = "the same command with --resume goes on from there"


class SweepStopped(BookError):
    """A sweep was stopped with Ctrl-C, or by a request to end; what was finished is kept."""

    exit_code = 130


@dataclass(frozen=True)
class Tally:
    """How a sweep stands, in points; ``kept`` were finished before it began and count under their status too."""

    total: int
    kept: int = 0
    done: int = 0
    failed: int = 0
    lost: int = 0

    @property
    def left(self) -> int:
        return self.total - self.done - self.failed - self.lost

    def plus(self, status: str) -> Tally:
        """One more with this status."""
        return replace(self, **{status: getattr(self, status) + 1})


@dataclass(frozen=True)
class SweepResult:
    """Where a sweep lies, where its table is, and how its points ended."""

    folder: Path
    table: Path
    tally: Tally


def sweep(
    book: Book,
    chapter: str,
    points: Sequence[Point],
    *,
    executor: Executor,
    workers: int,
    folder: Path | None = None,
    resume: bool = False,
    retry_failed: bool = False,
    timeout: float | None = None,
    memory_mb: float | None = None,
    retries: int = 2,
    progress: Callable[[Tally], None] | None = None,
    plan: dict[str, Any] | None = None,
) -> SweepResult:
    """Run a chapter at every point, and write one table of all runs.

    Args:
        book: the book.
        chapter: its name.
        points: what to run, from ``grid.points``.
        executor: where the runs take place; at most twice ``workers`` tasks wait in it.
        workers: how many runs it computes at a time.
        folder: where the sweep is kept (default: ``_build/sweeps/CHAPTER-HASH``).
        resume: go on in a folder that holds finished runs, and run only what is missing or stale.
        retry_failed: with ``resume``, run those again that failed: their trouble lay outside, and is mended.
        timeout: seconds a run may take, instead of the profile's budget.
        memory_mb: megabytes a run may take, instead of the profile's budget.
        retries: how often a run that was lost, with its worker or its kernel, is tried again. A notebook that
            raises, or goes over its budget, is a row of the table and not tried again.
        progress: told how the sweep stands, once at the start and after each run.
        plan: what else ``sweep.json`` is to say.

    Raises:
        BadInput: nothing has run: an unknown chapter, a folder that holds another sweep.
        Locked: another sweep is at work in the folder.
        DiskFull: there was no room to write; what was finished before is kept.
        SweepStopped: Ctrl-C, or a request to end the process.
        BookError: the cluster is gone.
    """
    kit = Kit.of(book, chapter, timeout=timeout, memory_mb=memory_mb)
    folder = folder or default_folder(book, kit.chapter, points)
    with Store.open(folder, kit, points, resume=resume, plan=plan) as store, _terminable():
        finished = store.finished()
        if retry_failed:
            finished = {name: status for name, status in finished.items() if status != "failed"}
        kept = Counter(finished.values())
        tally = Tally(len(points), sum(kept.values()), kept["done"], kept["failed"])
        work = _Work(store, executor, retries, tally, progress)
        work.tell()
        try:
            work.run([point for point in points if point.id not in finished], at_once=2 * workers)
            return SweepResult(folder, store.write_table(), work.tally)
        except KeyboardInterrupt:
            work.keep_what_ended()
            raise SweepStopped(work.stopped("stopped")) from None
        except DiskFull as error:
            with suppress(DiskFull):  # it may be a worker's disk, and not this one
                work.keep_what_ended()
            raise DiskFull(work.stopped(str(error))) from error
        except BookError as error:
            work.keep_what_ended()
            raise BookError(work.stopped(str(error))) from error


class _Work:
    """The runs under way, and what has become of the others."""

    def __init__(
        self,
        store: Store,
        executor: Executor,
        retries: int,
        tally: Tally,
        progress: Callable[[Tally], None] | None,
    ) -> None:
        self.store = store
        self.executor = executor
        self.retries = retries
        self.tally = tally
        self.progress = progress
        self.attempts: Counter[str] = Counter()
        self.flying: dict[Future[Outcome], Point] = {}

    def tell(self) -> None:
        if self.progress is not None:
            self.progress(self.tally)

    def run(self, points: Sequence[Point], at_once: int) -> None:
        """Until every point has ended; futures are taken as they come, the next points follow."""
        waiting = iter(points)
        while True:
            while len(self.flying) < at_once and (point := next(waiting, None)) is not None:
                self._submit(point)
            if not self.flying:
                return
            for future in wait(self.flying, return_when=FIRST_COMPLETED).done:
                self._take(future)

    def _submit(self, point: Point) -> None:
        self.attempts[point.id] += 1
        try:
            self.flying[self.executor.submit(execute, self.store.kit.task(point))] = point
        except RuntimeError as error:  # a pool that was shut down, or is broken
            raise BookError(f"no more runs can be started: {error}") from error

    def _take(self, future: Future[Outcome]) -> None:
        point = self.flying[future]
        outcome = _outcome(future, point)
        if outcome.status == "lost" and self.attempts[point.id] <= self.retries:
            del self.flying[future]
            self._submit(point)
            return
        status = self.store.put(outcome, attempts=self.attempts[point.id])
        del self.flying[future]
        self.tally = self.tally.plus(status)
        self.tell()

    def keep_what_ended(self) -> None:
        """Write down the runs that had ended by now, and the table; forget the runs under way."""
        for future in [future for future in self.flying if future.done() and not future.cancelled()]:
            if future.exception() is None and future.result().status != "lost":
                self._take(future)
        self.store.write_table()

    def stopped(self, why: str) -> str:
        """The line that says why a sweep ended early, and how to go on."""
        n_ended = self.tally.total - self.tally.left
        return (
            f"{why}; {n_ended} of {self.tally.total} runs are in {shown(self.store.folder)}: {_HOW_TO_RESUME}"
        )


def _outcome(future: Future[Outcome], point: Point) -> Outcome:
    """What a future holds; an executor's own trouble is a lost run.

    Raises ``DiskFull``, or what says that the whole cluster is gone: then no other run has a chance either.
    """
    try:
        return future.result()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        if isinstance(error, DiskFull) or is_cluster_gone(error):
            raise
        text = " ".join(str(error).split()) or "the run was lost with its worker"
        return Outcome(point.id, "lost", None, None, None, text, type(error).__name__, 0.0, 0.0, "")


@contextmanager
def _terminable() -> Iterator[None]:
    """A request to end the process (SIGTERM) counts as Ctrl-C, where signals can be caught: in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
