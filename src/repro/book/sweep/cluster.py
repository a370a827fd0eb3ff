"""A Dask cluster as an executor, and the check that its workers have what this machine has.

What Dask reports in words of its own is told in two: ``WorkerLost`` (that run is worth another try) and
``ClusterGone`` (no run is, until there is a cluster again).
"""

from __future__ import annotations

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
from repro.book.errors import BookError
from repro.book.files import sha256
from repro.book.fingerprint import versions

__all__ = ["ClusterExecutor", "ClusterGone", "WorkerLost", "end_runs", "refuse_other_versions", "set_faults"]

T = TypeVar("T")
_RUN = "repro.book.worker"


class WorkerLost(BrokenExecutor):
    """The process that computed this died, or was taken away; the same task may well succeed elsewhere."""


class ClusterGone(BookError):
    """The scheduler, or its last worker, is gone: what is not finished stays to be resumed."""


class ClusterExecutor(Executor):
    """Tasks onto a Dask client; futures raise ``WorkerLost`` and ``ClusterGone`` in place of Dask's own errors.

    Not to be confused with ``client.get_executor()``, whose futures do not say whether the scheduler is still there.
    """

    def __init__(self, client: Any, address: str) -> None:
        self._client = client
        self._address = address
        self._name = f"sweep-{uuid.uuid4().hex[:8]}"
        self._number = count()
        self._tasks: dict[Future[Any], Any] = {}
        self.gone: ClusterGone | None = None

    @property
    def workers(self) -> int:
        """How many tasks the cluster can compute at a time, now."""
        return sum(self._client.nthreads().values())

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """One task, sent to the cluster; raises ``ClusterGone`` when there is none any more."""
        if self.gone is not None:
            raise self.gone
        own: Future[T] = Future()
        task = self._client.submit(fn, *args, pure=False, key=f"{self._name}-{next(self._number)}", **kwargs)
        self._tasks[own] = task
        own.add_done_callback(self._forget)
        task.add_done_callback(partial(self._settle, own))
        return own

    def abandon(self) -> None:
        """Cancel what waits, and end the notebooks that the workers are running for this executor."""
        self.shutdown(cancel_futures=True)
        if self.gone is None:
            with suppress(Exception):
                self._client.run(_end_runs_of, self._name)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Wait for the futures, or cancel them; the cluster itself stays as it is."""
        for own in list(self._tasks):
            if cancel_futures:
                own.cancel()
            elif wait:
                with suppress(BaseException):
                    own.exception()

    def _forget(self, own: Future[Any]) -> None:
        task = self._tasks.pop(own, None)
        if task is not None and own.cancelled():
            task.cancel()

    def _settle(self, own: Future[Any], task: Any) -> None:
        if not own.set_running_or_notify_cancel():
            return
        try:
            result = task.result()
        except BaseException as error:
            own.set_exception(self._in_two_words(error))
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
            if _RUN in process.cmdline():
                for one in [*process.children(recursive=True), process]:
                    one.kill()


def _end_runs_of(name: str, dask_worker: Any = None) -> None:
    """End this worker's notebooks if it is at work for the executor of that name."""
    if any(str(task.key).startswith(name) for task in dask_worker.state.executing):
        end_runs()


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
            said = f"{type(there).__name__}: {there}".splitlines()[0]
            raise BookError(f"worker {worker} cannot load the library repro as it is here ({said})")
        for name in sorted(here.keys() | there.keys()):
            if here.get(name) != there.get(name):
                raise BookError(
                    f"worker {worker} has {name} {there.get(name, '(none)')}, "
                    f"this machine has {name} {here.get(name, '(none)')}: a sweep needs the same on both"
                )
