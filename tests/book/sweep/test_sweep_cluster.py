"""A Dask cluster of real processes on loopback: it works, it is refused, its parts are killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future
from importlib import metadata
from pathlib import Path

import distributed
import loopback
import pandas as pd
import psutil
import pytest
import running_book
from loopback import PATIENCE

import repro
from repro.book import claims, parameters
from repro.book.errors import BookError
from repro.book.sweep import engine, executors, grid

SRC = Path(repro.__file__).parent


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[loopback.Loopback]:
    with loopback.cluster(tmp_path_factory.mktemp("cluster")) as found:
        yield found


def refusal(address: str, **options: float) -> str:
    with pytest.raises(BookError) as caught, executors.dask(address, **options):
        pass
    assert "\n" not in str(caught.value)
    return str(caught.value)


def faults(address: str) -> tuple[int, float | None]:
    with distributed.Client(address, set_as_default=False) as client:
        return client.run_on_scheduler(
            lambda dask_scheduler: (dask_scheduler.allowed_failures, dask_scheduler.no_workers_timeout)
        )


def test_both_workers_work_and_bytes_come_back(cluster: loopback.Loopback) -> None:
    before = faults(cluster.address)
    content = bytes(range(256)) * 4000
    with executors.dask(cluster.address, 2) as pool:
        assert pool.workers == 2
        assert faults(cluster.address) == (0, 60.0)
        pids = [pool.submit(loopback.pid_after, 0.2) for _ in range(8)]
        assert len({pid.result(PATIENCE) for pid in pids}) == 2
        assert pool.submit(loopback.turned, content).result(PATIENCE) == content[::-1]
        # the same task twice is two runs, not one remembered
        assert pool.submit(loopback.turned, content).result(PATIENCE) == content[::-1]
        with pytest.raises(ValueError, match="the flux capacitor is empty"):
            pool.submit(loopback.raises, "the flux capacitor is empty").result(PATIENCE)
        assert pool.gone is None
    assert faults(cluster.address) == before


def test_a_cancelled_task_does_not_run(cluster: loopback.Loopback) -> None:
    with executors.dask(cluster.address, 2) as pool:
        busy = [pool.submit(loopback.pid_after, 0.5) for _ in range(6)]
        last = busy.pop()
        assert last.cancel()
        with pytest.raises(CancelledError):
            last.result(1)
        assert len({one.result(PATIENCE) for one in busy}) == 2


def test_leaving_by_ctrl_c_ends_the_notebooks_on_the_workers(cluster: loopback.Loopback) -> None:
    with executors.dask(cluster.address, 2) as pool:
        pids = {one.result(PATIENCE) for one in [pool.submit(loopback.pid_after, 0.3) for _ in range(6)]}
    runs: list[Future[int]] = []

    def at_work() -> list[psutil.Process]:
        return [child for pid in pids for child in loopback.children_of(pid)]

    def interrupted() -> None:
        with executors.dask(cluster.address, 2) as pool:
            runs.extend(pool.submit(loopback.stand_in_run, 2 * PATIENCE) for _ in range(5))
            loopback.wait_until(lambda: len(at_work()) == 4, "two runs and their children")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert all(run.cancelled() for run in runs)
    loopback.wait_until(lambda: not at_work(), "an end of the runs")
    with executors.dask(cluster.address, 2) as pool:
        assert pool.submit(loopback.pid_after, 0).result(PATIENCE) in pids


@pytest.mark.parametrize("kind", ["library", "package", "none"])
def test_a_worker_with_other_versions_is_refused(
    cluster: loopback.Loopback, tmp_path: Path, kind: str
) -> None:
    if kind == "library":
        shutil.copytree(SRC, tmp_path / "repro", ignore=shutil.ignore_patterns("__pycache__"))
        (tmp_path / "repro/base.py").write_text((SRC / "base.py").read_text() + "\n# changed\n")
        said = "has the library repro "
    elif kind == "package":
        (tmp_path / "mlxtend-0.0.1.dist-info").mkdir()
        (tmp_path / "mlxtend-0.0.1.dist-info/METADATA").write_text("Name: mlxtend\nVersion: 0.0.1\n")
        said = f"has mlxtend 0.0.1, this machine has mlxtend {metadata.version('mlxtend')}"
    else:
        (tmp_path / "repro").mkdir()
        (tmp_path / "repro/__init__.py").touch()
        said = 'cannot load the library repro as it is here (ModuleNotFoundError("No module'
    other = cluster.worker(kind, first=[tmp_path])
    try:
        with distributed.Client(cluster.address, set_as_default=False) as client:
            client.wait_for_workers(3, timeout=PATIENCE)
            workers = client.scheduler_info()["workers"]
        (odd,) = (address for address, worker in workers.items() if worker["name"] == kind)
        line = refusal(cluster.address)
        assert said in line
        assert f"worker {odd} " in line
    finally:
        loopback.kill(other)


def test_a_sweep_gives_the_same_table_here_and_on_the_cluster(
    cluster: loopback.Loopback, tmp_path: Path
) -> None:
    book = running_book.make(tmp_path)
    profiles = claims.load(book.claims_file("toy")).profiles
    axes = ["level=0.1,0.7", "n=3,5", "mode=fine"]
    found = grid.points(parameters.declared(book.notebook("toy")), profiles, axes, where="toy.yml")
    found += grid.points(
        parameters.declared(book.notebook("toy")), profiles, ["mode=raise", "n=1,2"], where="toy.yml"
    )
    tables = {}
    for name, executor in (("here", executors.local(2)), ("there", executors.dask(cluster.address, 2))):
        with executor as pool:
            done = engine.sweep(book, "toy", found, executor=pool, workers=2, folder=tmp_path / name)
        assert (done.tally.done, done.tally.failed, done.tally.lost) == (4, 2, 0)
        tables[name] = pd.read_parquet(done.table)
    differ = ["attempts", "seconds", "peak_memory_mb", "worker", "finished", "notebook"]
    pd.testing.assert_frame_equal(*(table.drop(columns=differ) for table in tables.values()))
    assert list(tables["there"]["T1.verdict"][:4]) == ["reproduced"] * 2 + ["not reproduced"] * 2
    assert tables["here"].worker.nunique() == 1
    assert tables["there"].worker.nunique() == 2
    assert all((tmp_path / "there" / name).is_file() for name in tables["there"].notebook)


def test_ctrl_c_in_a_terminal_ends_a_sweep_on_a_local_dask_cluster(tmp_path: Path) -> None:
    book = running_book.make(tmp_path)
    command = ["sweep", "toy", "-p", "mode=sleep", "-p", "n=1..4", "--cluster", "local", "--workers", "2"]
    process = subprocess.Popen(
        [sys.executable, "-m", "repro.cli", *command],
        cwd=book.root,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        below: list[psutil.Process] = []

        def two_kernels() -> bool:
            below[:] = loopback.children_of(process.pid)
            return sum("ipykernel" in " ".join(loopback.command_of(child)) for child in below) >= 2

        loopback.wait_until(two_kernels, "two notebooks at work")
        os.killpg(process.pid, signal.SIGINT)  # a terminal tells the whole group
        _, said = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    assert process.returncode == 130
    dashboard, line = said.splitlines()
    assert "dashboard" in dashboard
    assert line.startswith("repro: stopped; 0 of 4 runs are in ")
    assert "--resume" in line
    assert psutil.wait_procs(below, timeout=PATIENCE)[1] == []


def test_fewer_workers_than_asked_for(cluster: loopback.Loopback) -> None:
    line = refusal(cluster.address, workers=5, wait=1)
    assert "2 of 5 workers after 1 seconds" in line
    assert f"dask worker {cluster.address} --nthreads 1" in line


def test_killed_workers_and_a_killed_scheduler(tmp_path: Path) -> None:
    with loopback.cluster(tmp_path, workers=0) as cluster:
        assert "0 of 1 workers after 1 seconds" in refusal(cluster.address, wait=1)
        processes = [cluster.worker(f"worker-{number}") for number in range(2)]
        with executors.dask(cluster.address, 2, wait=PATIENCE) as pool:
            marks = [tmp_path / f"mark-{number}" for number in range(5)]
            runs = [pool.submit(loopback.pid_after, 1.5, mark) for mark in marks]
            # each worker computes one, and has at least one more waiting
            loopback.wait_until(lambda: sum(mark.exists() for mark in marks) == 2, "two runs at work")
            loopback.kill(processes[0])
            errors = [run.exception(PATIENCE) for run in runs]
            lost = [error for error in errors if error is not None]
            assert [type(error) for error in lost] == [executors.WorkerLost]
            assert "died" in str(lost[0])
            assert not executors.is_cluster_gone(lost[0])
            finished = {run.result() for run, error in zip(runs, errors, strict=True) if error is None}
            assert finished == {processes[1].pid}

            # the scheduler: whatever is under way fails, and nothing more is taken
            waiting = [pool.submit(loopback.pid_after, 2 * PATIENCE, tmp_path / "mark") for _ in range(2)]
            loopback.wait_until((tmp_path / "mark").exists, "a run at work")
            loopback.kill(cluster.scheduler)
            gone = [run.exception(PATIENCE) for run in waiting]
            assert all(error is not None and executors.is_cluster_gone(error) for error in gone)
            assert str(gone[0]) == f"the scheduler at {cluster.address} is gone"
            with pytest.raises(executors.ClusterGone):
                pool.submit(loopback.pid_after, 0)


def test_a_cluster_whose_last_worker_is_gone_is_gone(tmp_path: Path) -> None:
    with loopback.cluster(tmp_path, workers=0) as cluster:
        worker = cluster.worker("only")
        with executors.dask(cluster.address, 1, wait=PATIENCE, patience=1) as pool:
            marks = [tmp_path / f"mark-{number}" for number in range(2)]
            runs = [pool.submit(loopback.pid_after, 2 * PATIENCE, mark) for mark in marks]
            loopback.wait_until(marks[0].exists, "the first run at work")
            loopback.kill(worker)
            first, second = (run.exception(PATIENCE) for run in runs)
            assert isinstance(first, executors.WorkerLost)
            assert isinstance(second, executors.ClusterGone)
            assert "no worker" in str(second)
