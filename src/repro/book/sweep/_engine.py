"""The points of a sweep onto workers: as many at a time as there are, lost runs again, every end written down.

A place of a sweep, threads of this process or a Dask cluster, has ``workers``, how many runs it computes at a time;
``submit``, which gives a future; and ``explain``, the error of a future in one line. Both raise ``ClusterGone`` when no
run has a chance any more. Left by an error or by Ctrl-C, a place drops what waits and ends the notebooks at work.
"""

from __future__ import annotations

import logging
import signal
import socket
import sys
import threading
import time
import warnings
from collections import Counter, deque
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, suppress
from importlib import metadata
from typing import Any

import psutil

from repro.book._environment import versions, whole_library
from repro.book._files import one_line, shown
from repro.book._process import KERNEL
from repro.book.errors import BookError, DiskFull
from repro.book.sweep._runs import Folder, Row, Task, execute

_Ended = tuple[Row, bytes | None]
_WAIT = 120.0
"""Seconds to wait for a scheduler, and for its workers, on a busy machine."""
_PATIENCE = 60.0
"""Seconds that a sweep goes on without any worker: time enough for one to be started in the place of another."""
_ABANDON = 30.0
"""Seconds that the workers get to end what is abandoned."""


class SweepStopped(BookError):
    """A sweep was stopped with Ctrl-C, or by a request to end; what was finished is kept."""

    exit_code = 130


class ClusterGone(BookError):
    """The scheduler, or its last worker, is gone: what is not finished stays to be resumed."""


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
    waiting = deque((id_, 1) for id_ in folder.points if id_ not in finished)
    flying: dict[Future[_Ended], tuple[str, int]] = {}
    try:
        while waiting or flying:
            while waiting and len(flying) < max(1, place.workers):
                id_, attempt = waiting.popleft()
                task = Task(folder.chapter, folder.points[id_], folder.files, limits)
                flying[place.submit(task)] = id_, attempt
            for future in wait(flying, return_when=FIRST_COMPLETED).done:
                (row, notebook), (id_, attempt) = _ended(future, place), flying[future]
                if row["status"] == "lost" and attempt <= retries:
                    waiting.appendleft((id_, attempt + 1))
                else:
                    folder.put(id_, row, notebook, attempt)
                    tally[row["status"]] += 1
                del flying[future]
                tell(tally)
    except (KeyboardInterrupt, BookError) as error:
        with suppress(DiskFull):  # it may be a worker's disk, and not this one
            for future, (id_, attempt) in flying.items():
                if future.done() and not future.cancelled() and future.exception() is None:
                    row, notebook = future.result()
                    if row["status"] != "lost":
                        folder.put(id_, row, notebook, attempt)
            folder.write_table()
        stop = SweepStopped if isinstance(error, KeyboardInterrupt) else type(error)
        kept = f"{len(folder.rows())} of {len(folder.points)} runs are in {shown(folder.path)}"
        how = "the same command with --resume goes on from there"
        raise stop(f"{str(error) or 'stopped'}; {kept}: {how}") from error
    folder.write_table()
    return tally


def _ended(future: Future[_Ended], place: Any) -> _Ended:
    """What a future holds; trouble of the place is a lost run. Raises ``DiskFull`` and ``ClusterGone``."""
    try:
        return future.result()
    except (DiskFull, ClusterGone):
        raise
    except Exception as error:
        return {"status": "lost", "error": place.explain(error)}, None


def _end_runs(dask_worker: Any = None) -> bool:
    """End every notebook that this process is running; returns whether it is, as a worker of a cluster, at work."""
    for process in psutil.Process().children():
        with suppress(psutil.Error):
            if KERNEL in process.cmdline():
                process.suspend()  # or it might start its kernel while we look for it
                for one in [process, *process.children(recursive=True)]:
                    one.kill()
    return dask_worker is not None and bool(dask_worker.state.executing)


class Threads:
    """Threads of this process: enough, as each run has a kernel of its own that its thread only watches."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="sweep")

    def submit(self, task: Task) -> Future[_Ended]:
        return self._pool.submit(execute, task)

    def explain(self, error: Exception) -> str:
        return one_line(f"{type(error).__name__}: {error}")

    def __enter__(self) -> Threads:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._pool.shutdown(wait=kind is None, cancel_futures=True)
        # a thread may be about to start its run, so look again until the last one is done
        last = threading.Thread(target=self._pool.shutdown)
        last.start()
        while last.is_alive():
            _end_runs()
            last.join(0.1)


# --- a Dask cluster, and the check that its workers have what this machine has ---------------------------------------


class Cluster:
    """The workers of a Dask scheduler, after a check that they have what this machine has.

    ``address`` is the scheduler's, such as ``tcp://10.0.0.5:8786``; or ``local``, which starts a scheduler and workers
    of one thread on this machine, that end with the block. ``workers`` is how many processes ``local`` starts (default:
    one a core); elsewhere, how many to wait for. The scheduler is told not to repeat a task whose worker died, as the
    sweep counts its own retries.

    Entering raises ``BookError`` when ``distributed`` is missing, nothing answers, no worker is there, or a worker has
    another version of Python, of a package that matters, or of this library.
    """

    def __init__(self, address: str, workers: int | None = None) -> None:
        self._address, self._wanted = address, workers

    def __enter__(self) -> Cluster:
        try:
            import distributed
        except ImportError:
            raise BookError("a cluster needs Dask: pip install 'repro[cluster]'") from None
        for name in ("distributed", "distributed.client", "tornado.application"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # what goes wrong is said in one line
        with ExitStack() as ends:
            place: Any = self._address
            if place == "local":
                here = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0", "preload": __name__}
                quiet = {"threads_per_worker": 1, "silence_logs": logging.CRITICAL}
                place = ends.enter_context(distributed.LocalCluster(self._wanted, **here, **quiet))
            self._client = _connected(place)
            ends.callback(self._client.close, timeout=2)
            self._address = self._client.scheduler.address
            _refuse_unfit(self._client, self._wanted or 1)
            print(f"The cluster's dashboard: {self._client.dashboard_link}", file=sys.stderr, flush=True)
            told = {"allowed_failures": 0, "no_workers_timeout": _PATIENCE}
            self._client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.__dict__.update(told))
            self._executor = self._client.get_executor(pure=False)  # the same task twice is two runs
            self._ends = ends.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._abandon()
        self._ends.close()

    @property
    def workers(self) -> int:
        try:
            return sum(self._client.nthreads().values())
        except OSError:  # of a scheduler that has just gone, which the client does not know yet
            raise self._gone() from None

    def submit(self, task: Task) -> Future[_Ended]:
        self._need_scheduler()
        return self._executor.submit(_run, _what_is_here(), task)

    def explain(self, error: Exception) -> str:
        if type(error).__name__ == "NoWorkerError":
            raise ClusterGone(f"the cluster at {self._address} has had no worker for a while")
        self._need_scheduler()
        if type(error).__name__ == "KilledWorker":
            return f"the worker {error.last_worker.address} died"  # type: ignore[attr-defined]
        return one_line(error) or "the run was lost with its worker"

    def _need_scheduler(self) -> None:
        if self._client.status != "running":
            raise self._gone()

    def _gone(self) -> ClusterGone:
        return ClusterGone(f"the scheduler at {self._address} is gone")

    def _abandon(self) -> None:
        """Cancel what waits, and end the notebooks that the workers are running."""
        deadline = time.monotonic() + _ABANDON
        with suppress(Exception):
            self._executor.shutdown(wait=False)
            while self._client.status == "running" and time.monotonic() < deadline:
                if not any(self._client.run(_end_runs).values()):
                    break
                time.sleep(0.2)


def _connected(place: Any) -> Any:
    from distributed import Client
    from distributed.comm import get_address_host_port

    try:
        if isinstance(place, str):  # a client that fails to connect does not end quietly
            socket.create_connection(get_address_host_port(place), timeout=min(_WAIT, 30)).close()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of versions that differ: they are refused later
            return Client(place, timeout=_WAIT, set_as_default=False)
    except (OSError, ValueError) as error:
        told = "give an address such as tcp://10.0.0.5:8786, or local"
        raise BookError(f"no Dask scheduler at {place!r} ({one_line(error)}); {told}") from None


def _refuse_unfit(client: Any, wanted: int) -> None:
    """Raise ``BookError`` when there are too few workers, or one that has other versions than this machine."""
    address = client.scheduler.address
    try:
        client.wait_for_workers(wanted, timeout=_WAIT)
    except TimeoutError:
        there = f"{len(client.nthreads())} of {wanted} workers after {_WAIT:.0f} seconds"
        how = f"start one with: dask worker {address} --nthreads 1"
        raise BookError(f"the scheduler at {address} has {there}; {how}") from None
    for worker, there in sorted(client.run(_what_is_here, on_error="return").items()):
        _compare(f"worker {worker}", _what_is_here(), there)


def _compare(worker: str, here: dict[str, str], there: dict[str, str] | Exception) -> None:
    """Raise ``BookError`` for a worker that does not have what is here."""
    if isinstance(there, Exception):
        raise BookError(f"{worker} cannot load the library repro as it is here ({one_line(there)})")
    for name in sorted(here.keys() | there.keys()):
        mine, other = here.get(name, "(none)"), there.get(name, "(none)")
        if mine != other:
            same = f"has {name} {other}, this machine has {name} {mine}: a sweep needs the same on both"
            raise BookError(f"{worker} {same}")


# what is done on the other side


def _run(expected: dict[str, str], task: Task) -> _Ended:
    """A run, unless this worker, which may have joined later, has other versions than the client."""
    _compare(f"the worker on {socket.gethostname()}", expected, _what_is_here())
    return execute(task)


def _what_is_here() -> dict[str, str]:
    """Versions of all that a result or its journey depends on, and one hash of this library's modules."""
    own = {"distributed": metadata.version("distributed"), "the library repro": whole_library()[:12]}
    return versions() | own


def dask_setup(worker: Any) -> None:
    """Called by a worker that was started with this module as its preload: Ctrl-C is the client's alone to hear."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
