"""Runs forked from a warm process: the same results, nothing shared, and the same ends when something is killed."""

from __future__ import annotations

import json
from pathlib import Path

import faults_book
import nbformat
import psutil
import pytest
from faults_book import Swept, ended, kill_9, wait_for
from loopback import PATIENCE

from repro.book import runner, warm
from repro.book.errors import RunLost
from repro.book.layout import Book
from repro.book.sweep import executors

WORK = """import json, os, random, threading
import numpy as np, torch
import matplotlib.pyplot as plt
seen = {"left": hasattr(np, "left"), "variable": "LEFT" in os.environ, "tempo": plt.rcParams["lines.linewidth"]}
np.left = os.environ["LEFT"] = "here"
plt.rcParams["lines.linewidth"] = 9
seen["constants"] = [np.random.default_rng(seed).random(), hash("repro"), __name__]
seen["constants"] += [os.getcwd()[-8:], torch.get_num_threads(), sorted(k for k in os.environ if "PY" in k)]
seen["random"] = [torch.rand(1).item(), np.random.rand(), random.random(), os.getpid()]
np.random.seed(seed)
seen["seeded"] = np.random.rand()
print(json.dumps(seen))
plt.plot([1, 2])
plt.show()"""


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Book:
    return faults_book.make(tmp_path_factory.mktemp("warm") / "book", WORK, faults_book.WORK)


def seen(book: Book, seed: int) -> dict[str, object]:
    """What the notebook printed about its surroundings."""
    notebook = nbformat.read(runner.run(book, "toy", {"seed": seed}, use_cache=False).notebook, as_version=4)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    printed, picture = outputs  # and no warning
    assert picture.data["image/png"]
    found: dict[str, object] = json.loads(printed.text)
    return found


def forking() -> psutil.Process:
    """The process that the runs are forked from."""
    (process,) = [one for one in psutil.Process().children() if "repro.book.warm" in one.cmdline()]
    return process


@pytest.fixture(autouse=True)
def _marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(faults_book.MARKS, str(tmp_path / "marks"))


def test_a_forked_run_is_like_any_other_and_knows_nothing_of_those_before(book: Book) -> None:
    cold = seen(book, 3)
    with warm.parent():
        found = [seen(book, seed) for seed in (3, 3, 4)]
        assert forking().num_threads() == 1
        assert not forking().children()
    for one in found:
        assert (one["left"], one["variable"], one["tempo"]) == (False, False, cold["tempo"])
    assert found[0]["constants"] == found[1]["constants"] == cold["constants"]
    assert found[0]["seeded"] == found[1]["seeded"] == cold["seeded"] != found[2]["seeded"]
    drawn = [one["random"] for one in (cold, *found)]
    for column in zip(*drawn, strict=True):
        assert len(set(column)) == 4  # what nobody seeded differs, and so do the processes


@pytest.mark.parametrize("depth", ["worker", "kernel", "parent"])
def test_killed_parts(book: Book, tmp_path: Path, depth: str) -> None:
    given = {"seed": 1, "mode": "sleep"}
    with executors.local(1, warm=True) as pool:
        future = pool.submit(runner.run, book, "toy", given, use_cache=False)
        wait_for(lambda: (tmp_path / "marks").exists() or future.done())
        (worker,) = forking().children()
        (kernel,) = worker.children()
        kill_9({"worker": worker, "kernel": kernel, "parent": forking()}[depth].pid)
        if depth == "parent":  # this run goes on; the next ones start on their own
            assert worker.is_running()
            kill_9(worker.pid)
        with pytest.raises(RunLost):
            future.result(PATIENCE)
        wait_for(lambda: not worker.is_running() and not kernel.is_running())
        assert not runner.run(book, "toy", {"seed": 2}, use_cache=False).cached


def test_a_warm_sweep_with_ctrl_c(tmp_path: Path) -> None:
    swept = Swept(tmp_path, "-p", "mode=fine,raise,sleep", "--workers", "2", "--warm")
    process = swept.start()
    wait_for(lambda: swept.marked("begun").total() == 3 and len(swept.kept()) == 2)
    below = psutil.Process(process.pid).children(recursive=True)
    assert len(below) == 3  # the forking process, a worker, its kernel
    process.terminate()
    code, said = ended(process)
    assert code == 130
    assert "2 of 3 runs" in said
    wait_for(lambda: not any(map(psutil.Process.is_running, below)))
    table = swept.table().set_index("mode")
    assert table.status.to_dict() == {"fine": "done", "raise": "failed"}
    assert table.error["raise"] == "ValueError: the flux capacitor is empty (at 'Experiments')"


def test_warm_is_not_for_clusters(tmp_path: Path) -> None:
    code, said = Swept(tmp_path, "--warm", "--cluster", "local").run()
    assert code == 2
    assert "--warm is for runs on this machine" in said
