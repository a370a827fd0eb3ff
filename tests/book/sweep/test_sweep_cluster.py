"""A Dask cluster of real processes on loopback: it works, it is refused, its parts are killed."""

import os
import shutil
import signal
import subprocess
import sys
import urllib.request
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
from repro.book.errors import BookError
from repro.book.sweep import _engine
from repro.book.sweep._engine import Cluster, ClusterGone, Threads
from repro.book.sweep._runs import Folder

SRC = Path(repro.__file__).parent


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    with loopback.cluster(tmp_path_factory.mktemp("cluster")) as found:
        yield found


def refusal(address, workers=None):
    with pytest.raises(BookError) as caught, Cluster(address, workers):
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
    line = refusal(address)
    assert line.startswith(f"no Dask scheduler at {address!r} (")
    assert line.endswith("give an address such as tcp://10.0.0.5:8786, or local")


@pytest.mark.parametrize("kind", ["library", "package", "none"])
def test_a_worker_with_other_versions_is_refused(two, tmp_path, kind):
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
        said = "cannot load the library repro as it is here ("
    other = two.worker(kind, first=[tmp_path])
    try:
        with distributed.Client(two.address, set_as_default=False) as client:
            client.wait_for_workers(3, timeout=PATIENCE)
            workers = client.scheduler_info()["workers"]
        (odd,) = (address for address, worker in workers.items() if worker["name"] == kind)
        line = refusal(two.address)
        assert said in line
        assert f"worker {odd} " in line
    finally:
        loopback.kill(other)


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
    assert tables["here"].worker.nunique() == 1
    assert tables["there"].worker.nunique() == 2
    assert all((tmp_path / "there" / name).is_file() for name in tables["there"].notebook)


def test_a_cluster_whose_last_worker_is_gone_is_gone(tmp_path, monkeypatch):
    monkeypatch.setattr(_engine, "_run", print)
    monkeypatch.setattr(_engine, "_PATIENCE", 1)
    with loopback.cluster(tmp_path, workers=1) as processes, Cluster(processes.address) as place:
        loopback.kill(processes.workers[0])
        loopback.wait_until(lambda: place.workers == 0, "no worker")
        with pytest.raises(ClusterGone, match="has had no worker for a while"):
            place.explain(place.submit("a task").exception(PATIENCE))


def test_ctrl_c_in_a_terminal_ends_a_sweep_on_a_local_dask_cluster(tmp_path):
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
    assert process.stderr is not None
    try:
        dashboard = process.stderr.readline()
        with urllib.request.urlopen(dashboard.split()[-1], timeout=PATIENCE) as page:
            assert page.status == 200
        below = []

        def two_kernels():
            below[:] = loopback.children_of(process.pid)
            return sum("ipykernel" in " ".join(loopback.command_of(child)) for child in below) >= 2

        loopback.wait_until(two_kernels, "two notebooks at work")
        os.killpg(process.pid, signal.SIGINT)  # a terminal tells the whole group
        _, line = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    assert process.returncode == 130
    assert line.startswith("repro: stopped; 0 of 4 runs are in ")
    assert line.count("\n") == 1
    assert psutil.wait_procs(below, timeout=PATIENCE)[1] == []
