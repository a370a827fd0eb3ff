"""Where the runs of a sweep are computed: threads that each watch a process on this machine, or a Dask cluster.

Both are a ``concurrent.futures.Executor`` inside a ``with`` block, so nothing else of a sweep knows which it is.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from repro.book.errors import BadInput, BookError
from repro.book.sweep.cluster import (
    ClusterExecutor,
    ClusterGone,
    WorkerLost,
    end_runs,
    refuse_other_versions,
    set_faults,
)

__all__ = ["ClusterExecutor", "ClusterGone", "WorkerLost", "dask", "is_cluster_gone", "local"]

_WAIT = 30.0
"""Seconds to wait for a scheduler, and for its first worker."""
_PATIENCE = 60.0
"""Seconds that a sweep goes on without any worker: time enough for one to be started in the place of another."""


def is_cluster_gone(error: BaseException) -> bool:
    """Whether an error of a future, or of ``submit``, says that the whole cluster is gone."""
    return isinstance(error, ClusterGone)


def _at_least_one(workers: int) -> int:
    if workers < 1:
        raise BadInput(f"a sweep needs at least 1 worker, got {workers}")
    return workers


@contextmanager
def local(workers: int) -> Iterator[Executor]:
    """Threads of this process: enough, as each run is a process of its own that its thread only watches.

    Left by an error or by Ctrl-C, what waits is dropped and the notebooks at work are ended.
    """
    pool = ThreadPoolExecutor(_at_least_one(workers), thread_name_prefix="sweep")
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        # a thread may be about to start its run, so look again until the last one is done
        last = threading.Thread(target=pool.shutdown)
        last.start()
        while last.is_alive():
            end_runs()
            last.join(0.1)
        raise
    pool.shutdown()


@contextmanager
def dask(
    address: str, workers: int | None = None, *, wait: float = _WAIT, patience: float = _PATIENCE
) -> Iterator[ClusterExecutor]:
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
    if workers is not None:
        _at_least_one(workers)
    for name in ("distributed", "distributed.client", "tornado.application"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what goes wrong is said in one line
    with ExitStack() as ends:
        if address == "local":
            cluster = distributed.LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",
                silence_logs=logging.CRITICAL,
                preload="repro.book.sweep.cluster",
            )
            client = _client(ends.enter_context(cluster), wait)
        else:
            _knock(address, wait)
            client = _client(address, wait)
        ends.callback(client.close, timeout=2)
        _wait_for_workers(client, workers or 1, wait)
        refuse_other_versions(client)
        print(f"The cluster's dashboard: {client.dashboard_link}", file=sys.stderr, flush=True)
        faults = {"allowed_failures": 0, "no_workers_timeout": patience}
        before = client.run_on_scheduler(set_faults, faults)
        executor = ClusterExecutor(client, address)
        try:
            yield executor
        except BaseException:
            executor.abandon()
            raise
        finally:
            if executor.gone is None:
                with suppress(Exception):
                    client.run_on_scheduler(set_faults, before)


def _knock(address: str, wait: float) -> None:
    """Raise ``BookError`` unless something answers; a client that fails to connect does not end quietly."""
    from distributed import Security
    from distributed.comm import connect

    async def knock() -> None:
        comm = await connect(address, timeout=wait, **Security().get_connection_args("client"))
        comm.abort()

    try:
        with ThreadPoolExecutor(1) as thread:  # a notebook has a loop of its own at work in this one
            thread.submit(asyncio.run, knock()).result()
    except (OSError, ValueError) as error:
        why = f"nothing answered for {wait:.0f} seconds" if isinstance(error, OSError) else error
        raise BookError(
            f"no Dask scheduler at {address!r} ({why}); give an address such as tcp://10.0.0.5:8786, or local"
        ) from None


def _client(where: Any, wait: float) -> Any:
    from distributed import Client

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of versions that differ: they are refused later
        return Client(where, timeout=wait, set_as_default=False)


def _wait_for_workers(client: Any, wanted: int, wait: float) -> None:
    try:
        client.wait_for_workers(wanted, timeout=wait)
    except TimeoutError:
        address = client.scheduler.address
        raise BookError(
            f"the scheduler at {address} has {len(client.nthreads())} of {wanted} workers after {wait:.0f} seconds; "
            f"start one with: dask worker {address} --nthreads 1"
        ) from None
