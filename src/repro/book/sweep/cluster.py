"""A Dask cluster as the place of a sweep, and the check that its workers have what this machine has."""

from __future__ import annotations

import logging
import signal
import socket
import sys
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import repro
from repro.book.cache import versions
from repro.book.errors import BookError
from repro.book.files import sha256
from repro.book.sweep.engine import ClusterGone, Ended, end_runs
from repro.book.sweep.runs import Task, execute

__all__ = ["Cluster", "cluster"]

_KNOCK = 30.0
"""Seconds to wait for something to answer at an address."""
_WAIT = 120.0
"""Seconds to wait for a scheduler, and for its workers, on a busy machine."""
_PATIENCE = 60.0
"""Seconds that a sweep goes on without any worker: time enough for one to be started in the place of another."""
_ABANDON = 30.0
"""Seconds that the workers get to end what is abandoned."""


class Cluster:
    """Tasks onto a Dask client."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._executor = client.get_executor(pure=False)  # the same task twice is two runs
        self._address = client.scheduler.address

    @property
    def workers(self) -> int:
        return sum(self._client.nthreads().values())

    def submit(self, task: Task) -> Future[Ended]:
        self._need_scheduler()
        return self._executor.submit(_run, _what_is_here(), task)

    def explain(self, error: Exception) -> str:
        if type(error).__name__ == "NoWorkerError":
            raise ClusterGone(f"the cluster at {self._address} has had no worker for a while")
        self._need_scheduler()
        if type(error).__name__ == "KilledWorker":
            return f"the worker {error.last_worker.address} died"  # type: ignore[attr-defined]
        return " ".join(str(error).split()) or "the run was lost with its worker"

    def abandon(self) -> None:
        """Cancel what waits, and end the notebooks that the workers are running."""
        deadline = time.monotonic() + _ABANDON
        with suppress(Exception):
            self._executor.shutdown(wait=False)
            while self._client.status == "running" and time.monotonic() < deadline:
                if not any(self._client.run(_end_runs).values()):
                    break
                time.sleep(0.2)

    def _need_scheduler(self) -> None:
        if self._client.status != "running":
            raise ClusterGone(f"the scheduler at {self._address} is gone")


@contextmanager
def cluster(
    address: str, workers: int | None = None, *, wait: float = _WAIT, patience: float = _PATIENCE
) -> Iterator[Cluster]:
    """The workers of a Dask scheduler, after a check that they have what this machine has.

    The scheduler is told not to repeat a task whose worker died, as the sweep counts its own retries; at the end of
    the block it is told what it was told before. Left by an error or by Ctrl-C, what waits is dropped and the
    notebooks at work are ended.

    Args:
        address: the scheduler's, such as ``tcp://10.0.0.5:8786``; or ``local``, which starts a scheduler and workers
            of one thread on this machine, that end with the block.
        workers: how many processes ``local`` starts (default: one a core); elsewhere, how many to wait for.
        wait: seconds to wait for the scheduler and the workers.
        patience: seconds to go on while there is no worker at all.

    Raises:
        BookError: ``distributed`` is missing, nothing answers, no worker is there, or a worker has another version
            of Python, of a package that matters, or of this library.
    """
    try:
        import distributed
    except ImportError:
        raise BookError("a cluster needs Dask: pip install 'repro[cluster]'") from None
    for name in ("distributed", "distributed.client", "tornado.application"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what goes wrong is said in one line
    with ExitStack() as ends:
        place: Any = address
        if address == "local":
            here = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0", "silence_logs": logging.CRITICAL}
            local = distributed.LocalCluster(workers, threads_per_worker=1, preload=__name__, **here)
            place = ends.enter_context(local)
        client = _client(place, wait)
        ends.callback(client.close, timeout=2)
        _refuse_unfit(client, workers or 1, wait)
        print(f"The cluster's dashboard: {client.dashboard_link}", file=sys.stderr, flush=True)
        before = client.run_on_scheduler(_set, {"allowed_failures": 0, "no_workers_timeout": patience})
        found = Cluster(client)
        try:
            yield found
        except BaseException:
            found.abandon()
            raise
        finally:
            if client.status == "running":
                client.run_on_scheduler(_set, before)


def _client(place: Any, wait: float) -> Any:
    from distributed import Client
    from distributed.comm import get_address_host_port

    try:
        if isinstance(place, str):  # a client that fails to connect does not end quietly
            socket.create_connection(get_address_host_port(place), timeout=min(wait, _KNOCK)).close()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of versions that differ: they are refused later
            return Client(place, timeout=wait, set_as_default=False)
    except (OSError, ValueError) as error:
        raise BookError(
            f"no Dask scheduler at {place!r} ({' '.join(str(error).split())}); "
            "give an address such as tcp://10.0.0.5:8786, or local"
        ) from None


def _refuse_unfit(client: Any, wanted: int, wait: float) -> None:
    """Raise ``BookError`` when there are too few workers, or one that has other versions than this machine."""
    address = client.scheduler.address
    try:
        client.wait_for_workers(wanted, timeout=wait)
    except TimeoutError:
        raise BookError(
            f"the scheduler at {address} has {len(client.nthreads())} of {wanted} workers after {wait:.0f} seconds; "
            f"start one with: dask worker {address} --nthreads 1"
        ) from None
    for worker, there in sorted(client.run(_what_is_here, on_error="return").items()):
        if problem := _difference(_what_is_here(), there):
            raise BookError(f"worker {worker} {problem}")


def _difference(here: dict[str, str], there: dict[str, str] | Exception) -> str | None:
    if isinstance(there, Exception):
        return f"cannot load the library repro as it is here ({' '.join(str(there).split())})"
    for name in sorted(here.keys() | there.keys()):
        mine, other = here.get(name, "(none)"), there.get(name, "(none)")
        if mine != other:
            return f"has {name} {other}, this machine has {name} {mine}: a sweep needs the same on both"
    return None


# --- what is done on the other side ------------------------------------------------------------------------------


def _run(expected: dict[str, str], task: Task) -> Ended:
    """A run, unless this worker, which may have joined later, has other versions than the client."""
    if problem := _difference(expected, _what_is_here()):
        raise BookError(f"the worker on {socket.gethostname()} {problem}")
    return execute(task)


def _what_is_here() -> dict[str, str]:
    """Versions of all that a result or its journey depends on, and one hash of this library's modules."""
    root = Path(repro.__file__).parent
    content: list[bytes] = []
    for path in sorted(root.rglob("*.py")):
        content += [path.relative_to(root).as_posix().encode(), path.read_bytes()]
    library = {"distributed": metadata.version("distributed"), "the library repro": sha256(*content)[:12]}
    return versions() | library


def _set(settings: dict[str, Any], dask_scheduler: Any = None) -> dict[str, Any]:
    """Set attributes of the scheduler; returns what they were."""
    before = {name: getattr(dask_scheduler, name) for name in settings}
    vars(dask_scheduler).update(settings)
    return before


def _end_runs(dask_worker: Any = None) -> bool:
    """End this worker's notebooks; returns whether it was at work."""
    end_runs()
    return bool(dask_worker.state.executing)


def dask_setup(worker: Any) -> None:
    """Called by a worker that was started with this module as its preload: Ctrl-C is the client's alone to hear."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
