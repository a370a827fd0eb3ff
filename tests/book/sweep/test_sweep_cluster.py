"""A Dask cluster of real processes on loopback: it works, it is refused, its parts are killed."""

import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pandas as pd
import psutil
import pytest
import running_book
import swept

import repro
from repro.book.errors import BookError
from repro.book.sweep import _engine
from repro.book.sweep._engine import Cluster, ClusterGone, Threads
from repro.book.sweep._runs import Folder

SRC = Path(repro.__file__).parent


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    with swept.cluster(tmp_path_factory.mktemp("cluster")) as found:
        yield found


def refusal(address):
    with pytest.raises(BookError) as caught, Cluster(address):
        pass
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_dask_is_needed_only_for_a_cluster(monkeypatch):
    code = "import sys, repro.book.sweep._engine; sys.exit('distributed' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert "pip install 'repro[cluster]'" in refusal("local")


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "loacl"])
def test_an_address_without_a_scheduler(address, monkeypatch):
    monkeypatch.setattr(_engine, "_WAIT", 1)
    assert refusal(address).startswith(f"no Dask scheduler at {address!r} (")


def another_library(folder):
    shutil.copytree(SRC, folder / "repro", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "repro/base.py").write_text((SRC / "base.py").read_text() + "\n# changed\n")
    return "has the library repro "


def no_library(folder):
    (folder / "repro").mkdir()
    (folder / "repro/__init__.py").touch()
    return "cannot load the library repro as it is here ("


@pytest.mark.parametrize("kind", [another_library, no_library])
def test_a_worker_with_other_versions_is_refused(two, tmp_path, kind):
    said = kind(tmp_path)
    other = two.worker("odd", tmp_path)
    try:
        workers = swept.there(two, 3)
        (odd,) = (address for address, worker in workers.items() if worker["name"] == "odd")
        line = refusal(two.address)
        assert said in line
        assert f"worker {odd} " in line
    finally:
        swept.kill_9(other)


def test_a_worker_that_joins_later_with_other_versions_computes_nothing():
    here = _engine._what_is_here()
    with pytest.raises(BookError, match=rf"has numpy {here['numpy']}, this machine has numpy 1\.0"):
        _engine._run(here | {"numpy": "1.0"}, None)


def test_a_sweep_gives_the_same_table_here_and_on_the_cluster(two, tmp_path):
    book = running_book.make(tmp_path)
    points = running_book.points(book, "level=0.1,0.7", "n=3") | running_book.points(book, "mode=raise")
    tables = {}
    for name, entered in (("here", Threads(2)), ("there", Cluster(two.address, 2))):
        with entered as place, Folder.open(book, "toy", points, tmp_path / name) as folder:
            tally = _engine.sweep(folder, place, {})
        assert (tally["done"], tally["failed"], tally["lost"]) == (2, 1, 0)
        tables[name] = pd.read_parquet(tmp_path / name / "table.parquet")
    differ = ["attempts", "seconds", "peak_memory_mb", "worker", "finished", "notebook"]
    pd.testing.assert_frame_equal(*(table.drop(columns=differ) for table in tables.values()))
    assert list(tables["there"]["T1.verdict"][:2]) == ["reproduced", "not reproduced"]
    assert [table.worker.nunique() for table in tables.values()] == [1, 2]
    assert all((tmp_path / "there" / name).is_file() for name in tables["there"].notebook)


def test_a_cluster_whose_last_worker_is_gone_is_gone(tmp_path, monkeypatch):
    monkeypatch.setattr(_engine, "_run", print)
    monkeypatch.setattr(_engine, "_PATIENCE", 1)
    with swept.cluster(tmp_path, workers=1) as processes, Cluster(processes.address) as place:
        swept.kill_9(processes.processes[-1])
        swept.wait_until(lambda: place.workers == 0, "no worker")
        with pytest.raises(ClusterGone, match="has had no worker for a while"):
            place.explain(place.submit("a task").exception(swept.PATIENCE))


def test_ctrl_c_in_a_terminal_ends_a_sweep_on_a_local_dask_cluster(tmp_path):
    sweep = swept.Swept(tmp_path, "-p", "mode=sleep", "-p", "n=1..4", "--cluster", "local", "--workers", "2")
    process = sweep.start()
    try:
        with urllib.request.urlopen(process.stdout.readline().split()[-1], timeout=swept.PATIENCE) as page:
            assert page.status == 200  # the dashboard
        swept.wait_until(lambda: len(swept.kernels(process.pid)) == 2, "two notebooks at work")
        below = swept.below(process.pid)
        os.killpg(process.pid, signal.SIGINT)  # a terminal tells the whole group
    finally:
        code, said = swept.ended(process)
    assert code == 130
    assert said.splitlines()[-1].startswith("repro: stopped; 0 of 4 runs are in ")
    assert "Traceback" not in said
    assert psutil.wait_procs(below, timeout=swept.PATIENCE)[1] == []
