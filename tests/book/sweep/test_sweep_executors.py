"""Executors on this machine, and what is refused before anything runs."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import urllib.request
from concurrent.futures import CancelledError, Future

import loopback
import psutil
import pytest
from loopback import PATIENCE

from repro.book.errors import BadInput, BookError
from repro.book.sweep import executors


def test_local_runs_as_many_at_a_time_as_there_are_workers() -> None:
    lock, three, now, most = threading.Lock(), threading.Barrier(3), 0, 0

    def work(_: int) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        three.wait(PATIENCE)
        time.sleep(0.02)  # a fourth would come in now
        with lock:
            now -= 1

    with executors.local(3) as pool:
        list(pool.map(work, range(12)))
    assert (most, now) == (3, 0)


@pytest.mark.parametrize("workers", [0, -2])
def test_fewer_than_one_worker_is_refused(workers: int) -> None:
    for executor in (executors.local(workers), executors.dask("local", workers)):
        with pytest.raises(BadInput, match=f"at least 1 worker, got {workers}"), executor:
            pass


def test_leaving_by_ctrl_c_ends_the_notebooks_at_work_and_drops_what_waits() -> None:
    runs: list[Future[int]] = []
    at_work: list[psutil.Process] = []

    def interrupted() -> None:
        with executors.local(2) as pool:
            runs.extend(pool.submit(loopback.stand_in_run, 2 * PATIENCE) for _ in range(5))
            loopback.wait_until(lambda: len(loopback.children_of(os.getpid())) >= 4, "two runs")
            at_work.extend(loopback.children_of(os.getpid()))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [run.result() for run in runs[:2]] == [-9, -9]
    for run in runs[2:]:
        with pytest.raises(CancelledError):
            run.result()
    assert psutil.wait_procs(at_work, timeout=PATIENCE)[1] == []


def test_other_children_of_this_process_are_left_alone() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        with pytest.raises(ZeroDivisionError), executors.local(1):
            raise ZeroDivisionError
        assert other.poll() is None
        other.kill()


def test_dask_is_needed_only_for_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import sys, repro.book.sweep.executors; sys.exit('distributed' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(BookError, match=r"pip install 'repro\[cluster\]'"), executors.dask("local", 1):
        pass


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("tcp://127.0.0.1:1", "nothing answered for 1 seconds"),
        ("127.0.0.1:1", "nothing answered"),
        ("carrier://pigeon", "unknown address scheme 'carrier'"),
        ("loacl", "'loacl'"),
    ],
)
def test_an_address_without_a_scheduler(address: str, said: str) -> None:
    pytest.importorskip("distributed")  # which takes a while the first time
    before = time.monotonic()
    with pytest.raises(BookError) as caught, executors.dask(address, wait=1):
        pass
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert time.monotonic() - before < 25  # Dask itself would try for 30


def test_a_local_dask_cluster_has_a_dashboard_and_ends_with_its_block(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with executors.dask("local", 2, wait=PATIENCE) as pool:
        assert pool.workers == 2
        pids = set(pool.map(loopback.pid_after, [0.2] * 8))
        said = capfd.readouterr().err
        assert said.startswith("The cluster's dashboard: http://127.0.0.1:")
        assert said.count("\n") == 1
        with urllib.request.urlopen(said.split()[-1], timeout=PATIENCE) as page:
            assert page.status == 200
    assert len(pids) == 2
    assert os.getpid() not in pids
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert capfd.readouterr().err == ""


def test_which_errors_say_that_the_cluster_is_gone() -> None:
    assert executors.is_cluster_gone(executors.ClusterGone("the scheduler is gone"))
    for error in (executors.WorkerLost("it died"), CancelledError(), BookError("something else")):
        assert not executors.is_cluster_gone(error)
