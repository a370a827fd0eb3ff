"""Sweeps whose parts are killed, whose disk is full, whose files are damaged, whose notebooks misbehave."""

from __future__ import annotations

import random
import time
from pathlib import Path

import faults_book
import loopback
import psutil
import pytest
from faults_book import Swept, ended, kill_9, seed_of, wait_for, workers_and_kernels

# --- kill -9, twenty times over: 5 kernels, 5 worker processes, 5 sweeps, 3 Dask workers, 2 schedulers --------------


def look_whole(swept: Swept, n_points: int) -> None:
    """Every point has one row, done, with its notebook; nothing is half there or twice there."""
    table = swept.table()
    assert sorted(table.seed) == list(range(n_points))
    assert table.id.is_unique
    assert set(table.status) == {"done"}
    assert set(table["T1.verdict"]) == {"reproduced"}
    assert all((swept.folder / name).is_file() for name in table.notebook)
    assert len(swept.kept()) == n_points
    assert not list(swept.folder.rglob("*.part")) + list(swept.folder.glob("damaged/*"))


@pytest.mark.parametrize("what", ["worker", "kernel"])
def test_killed_worker_processes_and_kernels(tmp_path: Path, what: str) -> None:
    rng, n_points, n_kills = random.Random(what), 6, 5
    swept = Swept(tmp_path, "-p", f"seed=0..{n_points - 1}", "--workers", "2", "--retries", str(n_kills))
    process = swept.start()

    def victims() -> list[psutil.Process]:
        return workers_and_kernels(process.pid)[what == "kernel"]

    killed: set[int] = set()
    while len(killed) < n_kills:
        wait_for(lambda: victims() and swept.marked("begun"))
        time.sleep(rng.uniform(0, 1.5))
        if alive := sorted({victim.pid for victim in victims()} - killed):
            killed.add(pid := rng.choice(alive))
            kill_9(pid)
    code, said = ended(process)
    assert code == 0, said
    look_whole(swept, n_points)
    table, begun, finished = swept.table(), swept.marked("begun"), swept.marked("ended")
    tried = dict(zip(table.seed, table.attempts, strict=True))
    # a kill costs one try of one run at most: one that hits a notebook already at its end costs none
    assert n_points + 1 < sum(tried.values()) <= n_points + n_kills
    for seed, attempts in tried.items():
        assert 1 <= begun[seed] <= attempts
        assert 1 <= finished[seed] <= begun[seed]


def test_a_killed_sweep_goes_on_where_it_was(tmp_path: Path) -> None:
    rng, n_points, n_kills = random.Random("sweep"), 8, 5
    swept = Swept(tmp_path, "-p", f"seed=0..{n_points - 1}", "--workers", "2")
    snapshots = []
    for round in range(n_kills):
        # killed soon after a run has begun, or soon after one was kept
        def counted(kept: bool = round % 2 > 0) -> int:
            return len(swept.kept()) if kept else swept.marked("begun").total()

        process, before = swept.start(*["--resume"][: round > 0]), counted()
        wait_for(lambda: counted() > before or process.poll() is not None)  # noqa: B023
        time.sleep(rng.uniform(0, 2.5))
        below = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.kill()
        process.communicate()
        wait_for(lambda: not any(map(psutil.Process.is_running, below)))  # noqa: B023
        snapshots.append((swept.kept(), swept.marked("begun")))
    code, said = swept.run("--resume")
    assert code == 0, said
    look_whole(swept, n_points)
    assert f"{n_points} runs ({len(snapshots[-1][0])} from before)" in said
    kept, begun = swept.kept(), swept.marked("begun")
    for then, begun_then in snapshots:
        for name, content in then.items():
            assert kept[name] == content  # not lost, not run again
            assert begun[seed_of(content)] == begun_then[seed_of(content)]
    # each kill can hit the runs at work, of which there are two
    assert n_points < begun.total() <= n_points + 2 * n_kills
    assert any(then for then, _ in snapshots)
    # the folders of kernels that were left alone; one is empty if the kill came before anyone was told to use it
    wait_for(lambda: not list((tmp_path / "tmp").glob("rp-*/*")))


def test_killed_dask_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng, n_points, n_kills = random.Random("dask"), 6, 3
    monkeypatch.setenv(faults_book.MARKS, str(tmp_path / "marks"))
    with loopback.cluster(tmp_path, workers=0) as cluster:
        workers = [cluster.worker(f"worker-{number}") for number in range(2)]
        arguments = ("-p", f"seed=0..{n_points - 1}", "--retries", str(n_kills), "--cluster", cluster.address)
        swept = Swept(tmp_path, *arguments)
        process = swept.start()
        for number in range(n_kills):
            wait_for(lambda: swept.marked("begun").total() > number)  # noqa: B023
            time.sleep(rng.uniform(0, 1.5))
            victim = workers.pop(rng.randrange(2))
            below = psutil.Process(victim.pid).children(recursive=True)
            loopback.kill(victim)
            workers.append(cluster.worker(f"instead-{number}"))
            wait_for(lambda: not any(map(psutil.Process.is_running, below)))  # noqa: B023
        code, said = ended(process)
        assert code == 0, said
    look_whole(swept, n_points)
    table, begun = swept.table(), swept.marked("begun")
    tried = dict(zip(table.seed, table.attempts, strict=True))
    # a dead worker takes the run at work with it, and the one that waited there
    assert n_points < sum(tried.values()) <= n_points + 2 * n_kills
    assert all(1 <= begun[seed] <= attempts for seed, attempts in tried.items())
    assert begun.total() <= n_points + n_kills


def test_killed_schedulers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng, n_points = random.Random("scheduler"), 6
    monkeypatch.setenv(faults_book.MARKS, str(tmp_path / "marks"))
    swept = Swept(tmp_path, "-p", f"seed=0..{n_points - 1}")
    snapshots = []
    for again in (False, True):
        (place := tmp_path / f"cluster-{again}").mkdir()
        with loopback.cluster(place) as cluster:
            before = len(swept.kept())
            process = swept.start("--cluster", cluster.address, *["--resume"][: int(again)])
            wait_for(lambda: len(swept.kept()) > before)  # noqa: B023
            time.sleep(rng.uniform(0, 1.5))
            loopback.kill(cluster.scheduler)
            code, said = ended(process)
        (line,) = [line for line in said.splitlines() if "gone" in line]
        assert code == 1
        assert f"the scheduler at {cluster.address} is gone; {len(swept.kept())} of {n_points} runs" in line
        assert line.endswith("the same command with --resume goes on from there")
        assert len(swept.table()) == len(swept.kept())
        snapshots.append((swept.kept(), swept.marked("begun")))
    code, said = swept.run("--resume", "--workers", "2")  # on this machine: the folder is the same
    assert code == 0, said
    look_whole(swept, n_points)
    kept, begun = swept.kept(), swept.marked("begun")
    for then, begun_then in snapshots:
        for name, content in then.items():
            assert kept[name] == content
            assert begun[seed_of(content)] == begun_then[seed_of(content)]
    assert begun.total() <= n_points + 2 * 2
    assert snapshots[-1][0]
