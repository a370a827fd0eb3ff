"""A Dask cluster as an executor, and the check that its workers have what this machine has.

What Dask reports in words of its own is told in two: ``WorkerLost`` (that run is worth another try) and
``ClusterGone`` (no run is, until there is a cluster again).
"""

from __future__ import annotations

import signal
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from contextlib import suppress
from functools import partial
from importlib import metadata
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import psutil

import repro
from repro.book.cache import versions
from repro.book.errors import BookError
from repro.book.files import sha256

__all__ = ["ClusterExecutor", "ClusterGone", "WorkerLost", "end_runs", "refuse_other_versions", "set_faults"]

T = TypeVar("T")
_ABANDON = 15.0
"""Seconds that the workers get to end what is abandoned."""


class WorkerLost(BrokenExecutor):
    """The process that computed this died, or was taken away; the same task may well succeed elsewhere."""


class ClusterGone(BookError):
    """The scheduler, or its last worker, is gone: what is not finished stays to be resumed."""


class ClusterExecutor(Executor):
    """Tasks onto a Dask client; futures raise ``WorkerLost`` and ``ClusterGone`` in place of Dask's own errors.

    A task that only waited on a worker when that died is sent again without a word: it has not been tried.
    Not to be confused with ``client.get_executor()``, whose futures do not say whether the scheduler is still there.
    """

    def __init__(self, client: Any, address: str) -> None:
        self._client = client
        self._address = address
        self._name = f"sweep-{uuid.uuid4().hex[:8]}"
        self._number = count()
        self._tasks: dict[Future[Any], Any] = {}
        self._begun: set[str] = set()
        self.gone: ClusterGone | None = None
        client.subscribe_topic(self._name, lambda event: self._begun.add(event[1]))

    @property
    def workers(self) -> int:
        """How many tasks the cluster can compute at a time, now."""
        return sum(self._client.nthreads().values())

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """One task, sent to the cluster; raises ``ClusterGone`` when there is none any more."""
        if self.gone is not None:
            raise self.gone
        own: Future[T] = Future()
        self._send(own, partial(fn, *args, **kwargs))
        own.add_done_callback(self._forget)
        return own

    def abandon(self) -> None:
        """Cancel what waits, and end the notebooks that the workers are running for this executor."""
        self.shutdown(cancel_futures=True)
        deadline = time.monotonic() + _ABANDON
        with suppress(Exception):
            while self.gone is None and time.monotonic() < deadline:
                if not any(self._client.run(_end_runs_of, self._name).values()):
                    break
                time.sleep(0.2)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Wait for the futures, or cancel them; the cluster itself stays as it is."""
        for own in list(self._tasks):
            if cancel_futures:
                own.cancel()
            elif wait:
                with suppress(BaseException):
                    own.exception()

    def _send(self, own: Future[Any], work: Callable[[], Any]) -> None:
        key = f"{self._name}-{next(self._number)}"
        self._tasks[own] = task = self._client.submit(_announced, self._name, key, work, pure=False, key=key)
        task.add_done_callback(partial(self._settle, own, work))

    def _forget(self, own: Future[Any]) -> None:
        task = self._tasks.pop(own, None)
        if task is not None and own.cancelled():
            task.cancel()

    def _settle(self, own: Future[Any], work: Callable[[], Any], task: Any) -> None:
        result, problem = None, None
        try:
            result = task.result()
        except BaseException as error:
            problem = self._in_two_words(error)
        if isinstance(problem, WorkerLost) and task.key not in self._begun and not own.cancelled():
            self._send(own, work)
        elif not own.set_running_or_notify_cancel():
            return
        elif problem is not None:
            own.set_exception(problem)
        else:
            own.set_result(result)

    def _in_two_words(self, error: BaseException) -> BaseException:
        kind = type(error).__name__
        if kind == "KilledWorker":
            return WorkerLost(f"the worker {error.last_worker.address} died")  # type: ignore[attr-defined]
        if kind == "NoWorkerError":
            self.gone = ClusterGone(f"the cluster at {self._address} has had no worker for a while")
            return self.gone
        if self._client.status != "running":
            self.gone = ClusterGone(f"the scheduler at {self._address} is gone")
            return self.gone
        if isinstance(error, CancelledError):
            return WorkerLost(f"the cluster dropped the task: {error}".splitlines()[0])
        return error


# --- what is done on the other side ------------------------------------------------------------------------------


def _announced(topic: str, key: str, work: Callable[[], T]) -> T:
    """Say that the work has begun, and do it."""
    from distributed import get_worker

    get_worker().log_event(topic, key)
    return work()


def dask_setup(worker: Any) -> None:
    """Called by a worker that was started with this module as its preload: Ctrl-C is the client's alone to hear."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def set_faults(settings: Mapping[str, Any], dask_scheduler: Any = None) -> dict[str, Any]:
    """Set attributes of the scheduler; returns what they were."""
    before = {name: getattr(dask_scheduler, name) for name in settings}
    for name, value in settings.items():
        setattr(dask_scheduler, name, value)
    return before


def end_runs() -> None:
    """End every notebook that this process is running, with whatever it has started."""
    for process in psutil.Process().children():
        with suppress(psutil.Error):
            if "repro.book.worker" in process.cmdline():
                for one in [process, *process.children(recursive=True)]:
                    one.kill()


def _end_runs_of(name: str, dask_worker: Any = None) -> bool:
    """End this worker's notebooks if it is at work for the executor of that name; returns whether it was."""
    state = dask_worker.state
    at_work = any(str(task.key).startswith(name) for task in [*state.executing, *state.ready])
    if at_work:
        end_runs()
    return at_work


def _what_is_here() -> dict[str, str]:
    """Versions of all that a result or its journey depends on, and one hash of this library's modules."""
    root = Path(repro.__file__).parent
    content: list[bytes] = []
    for path in sorted(root.rglob("*.py")):
        content += [path.relative_to(root).as_posix().encode(), path.read_bytes()]
    return {
        **versions(),
        "distributed": metadata.version("distributed"),
        "the library repro": sha256(*content)[:12],
    }


def refuse_other_versions(client: Any) -> None:
    """Raise ``BookError`` when a worker has another Python, library, or version of a package that matters."""
    here = _what_is_here()
    for worker, there in sorted(client.run(_what_is_here, on_error="return").items()):
        if isinstance(there, BaseException):
            said = " ".join(str(there).split()) or type(there).__name__
            raise BookError(f"worker {worker} cannot load the library repro as it is here ({said})")
        for name in sorted(here.keys() | there.keys()):
            if here.get(name) != there.get(name):
                raise BookError(
                    f"worker {worker} has {name} {there.get(name, '(none)')}, "
                    f"this machine has {name} {here.get(name, '(none)')}: a sweep needs the same on both"
                )
