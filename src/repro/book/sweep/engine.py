"""The points of a sweep onto workers: as many at a time as there are, lost runs again, every end written down."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from typing import Any

import psutil

from repro.book.errors import BookError, DiskFull
from repro.book.files import shown
from repro.book.sweep.runs import Folder, Row, Task, execute

__all__ = ["ClusterGone", "SweepStopped", "Threads", "sweep"]

Ended = tuple[Row, bytes | None]


class SweepStopped(BookError):
    """A sweep was stopped with Ctrl-C, or by a request to end; what was finished is kept."""

    exit_code = 130


class ClusterGone(BookError):
    """The scheduler, or its last worker, is gone: what is not finished stays to be resumed."""


class Threads:
    """Threads of this process: enough, as each run is a process of its own that its thread only watches.

    A place of a sweep has ``workers``, how many runs it computes at a time; ``submit``, which gives a future; and
    ``explain``, the error of a future in one line. Both raise ``ClusterGone`` when no run has a chance any more. Left
    by an error or by Ctrl-C, it drops what waits and ends the notebooks at work.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="sweep")

    def submit(self, task: Task) -> Future[Ended]:
        return self._pool.submit(execute, task)

    def explain(self, error: Exception) -> str:
        return " ".join(f"{type(error).__name__}: {error}".split())

    def __enter__(self) -> Threads:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._pool.shutdown(wait=kind is None, cancel_futures=True)
        # a thread may be about to start its run, so look again until the last one is done
        last = threading.Thread(target=self._pool.shutdown)
        last.start()
        while last.is_alive():
            end_runs()
            last.join(0.1)


def end_runs() -> None:
    """End every notebook that this process is running, with whatever it has started."""
    for process in psutil.Process().children():
        with suppress(psutil.Error):
            if "repro.book.worker" in process.cmdline():
                process.suspend()  # or it might start its kernel while we look for it
                for one in [process, *process.children(recursive=True)]:
                    one.kill()


def sweep(
    folder: Folder,
    place: Any,
    limits: Mapping[str, float | None],
    *,
    retries: int = 2,
    retry_failed: bool = False,
    tell: Callable[[Counter[str]], Any] = lambda tally: None,
) -> Counter[str]:
    """Run every point of a folder that has no finished run, and write the table of all.

    Args:
        folder: open, with the points.
        place: where the runs take place; it is given no more of them than it can compute at a time.
        limits: what a run may take, ``timeout`` (seconds) and ``memory_mb``; None stands for the profile's budget.
        retries: how often a run that was lost, with its worker or its kernel, is tried again. A notebook that raises,
            or goes over its budget, is a row of the table and not tried again.
        retry_failed: run those again that failed before: their trouble lay outside, and is mended.
        tell: told how many runs are ``done``, ``failed`` and ``lost``, and how many of them were ``kept`` from before:
            once at the start and after each run.

    Returns:
        What ``tell`` was told last.

    Raises:
        DiskFull: there was no room to write; what was finished before is kept.
        SweepStopped: Ctrl-C.
        ClusterGone: there are no workers any more.
    """
    again = ("lost", "failed") if retry_failed else ("lost",)
    finished = {id_: row["status"] for id_, row in folder.rows().items() if row["status"] not in again}
    tally = Counter(finished.values()) + Counter(kept=len(finished))
    tell(tally)
    flying: dict[Future[Ended], tuple[str, int]] = {}

    def keep(future: Future[Ended], row: Row, notebook: bytes | None) -> None:
        folder.put(flying[future][0], row, notebook, attempts=flying[future][1])
        del flying[future]
        tally[row["status"]] += 1
        tell(tally)

    try:
        waiting = deque((id_, 1) for id_ in folder.points if id_ not in finished)
        while waiting or flying:
            while waiting and len(flying) < max(1, place.workers):
                id_, attempt = waiting.popleft()
                task = Task(folder.chapter, folder.points[id_], folder.files, limits)
                flying[place.submit(task)] = id_, attempt
            for future in wait(flying, return_when=FIRST_COMPLETED).done:
                row, notebook = _ended(future, place)
                id_, attempt = flying[future]
                if row["status"] == "lost" and attempt <= retries:
                    waiting.appendleft((id_, attempt + 1))
                    del flying[future]
                else:
                    keep(future, row, notebook)
    except (KeyboardInterrupt, BookError) as error:
        with suppress(DiskFull):  # it may be a worker's disk, and not this one
            for future in [future for future in flying if future.done() and not future.cancelled()]:
                if future.exception() is None and future.result()[0]["status"] != "lost":
                    keep(future, *future.result())
            folder.write_table()
        stop = SweepStopped if isinstance(error, KeyboardInterrupt) else type(error)
        kept = f"{len(folder.rows())} of {len(folder.points)} runs are in {shown(folder.path)}"
        how = "the same command with --resume goes on from there"
        raise stop(f"{str(error) or 'stopped'}; {kept}: {how}") from error
    folder.write_table()
    return tally


def _ended(future: Future[Ended], place: Any) -> Ended:
    """What a future holds; trouble of the place is a lost run. Raises ``DiskFull`` and ``ClusterGone``."""
    try:
        return future.result()
    except (DiskFull, ClusterGone):
        raise
    except Exception as error:
        row = {"status": "lost", "error": place.explain(error), "error_type": type(error).__name__}
        return row, None
