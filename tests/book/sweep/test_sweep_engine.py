"""Points onto an executor: what is tried again, what is not, what a stop leaves. Runs are stand-ins here."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import running_book
from rich.console import Console

from repro.book import claims, parameters
from repro.book.errors import BadInput, BookError, DiskFull, Locked
from repro.book.layout import Book
from repro.book.sweep import engine, grid, progress
from repro.book.sweep.engine import SweepResult, SweepStopped, Tally
from repro.book.sweep.executors import ClusterGone
from repro.book.sweep.grid import Point
from repro.book.sweep.store import Store
from repro.book.sweep.tasks import Kit, Outcome, Task


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Book:
    return running_book.make(tmp_path_factory.mktemp("swept"))


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as executor:
        yield executor


def points_of(book: Book, n: int) -> list[Point]:
    profiles = claims.load(book.claims_file("toy")).profiles
    axis = f"level=linspace(0, 1, {n})"
    return grid.points(parameters.declared(book.notebook("toy")), profiles, [axis], where="toy.yml")


class Script:
    """A stand-in for a run: each point has a list of ends, one a try; ``calls`` counts the tries."""

    def __init__(self, ends: dict[str, list[str | BaseException]] | None = None) -> None:
        self.ends = ends or {}
        self.calls: Counter[str] = Counter()
        self.lock = threading.Lock()

    def forget(self) -> None:
        """From now on all ends well, and the tries count from zero."""
        self.ends = {}
        self.calls.clear()

    def __call__(self, task: Task) -> Outcome:
        with self.lock:
            self.calls[task.id] += 1
            ends = self.ends.get(task.id, ["done"])
            end = ends[min(self.calls[task.id], len(ends)) - 1]
        if isinstance(end, BaseException):
            raise end
        error = None if end == "done" else f"it {end}"
        return Outcome(task.id, end, b"{}", None, {}, error, error, 1.0, 9.0, "here:1")  # type: ignore[arg-type]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    stand_in = Script()
    monkeypatch.setattr(engine, "execute", stand_in)
    return stand_in


def sweep(book: Book, points: list[Point], folder: Path, executor: Executor, **options: Any) -> SweepResult:
    return engine.sweep(book, "toy", points, executor=executor, workers=2, folder=folder, **options)


def rows(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder / "table.parquet")


def test_every_point_is_run_once_and_is_one_row(
    book: Book, tmp_path: Path, pool: Executor, script: Script
) -> None:
    points = points_of(book, 17)
    result = sweep(book, points, tmp_path, pool)
    assert result.tally == Tally(17, kept=0, done=17)
    assert list(rows(tmp_path)["id"]) == [point.id for point in points]
    assert script.calls == Counter({point.id: 1 for point in points})


def test_resume_runs_only_what_is_missing(book: Book, tmp_path: Path, pool: Executor, script: Script) -> None:
    points = points_of(book, 6)
    script.ends = {points[0].id: ["failed"], points[1].id: ["lost"]}
    assert sweep(book, points, tmp_path, pool).tally == Tally(6, done=4, failed=1, lost=1)
    script.forget()
    told: list[Tally] = []
    again = sweep(book, points, tmp_path, pool, resume=True, progress=told.append)
    assert script.calls == Counter({points[1].id: 1})
    assert again.tally == Tally(6, kept=5, done=5, failed=1)
    assert told == [Tally(6, kept=5, done=4, failed=1), again.tally]
    assert Counter(rows(tmp_path)["status"]) == {"done": 5, "failed": 1}
    with pytest.raises(BadInput, match="--resume"):
        sweep(book, points, tmp_path, pool)


def test_resume_after_a_change_of_words_runs_nothing(tmp_path: Path, pool: Executor, script: Script) -> None:
    book = running_book.make(tmp_path / "book")
    points, folder = points_of(book, 3), tmp_path / "sweep"
    sweep(book, points, folder, pool)
    before = rows(folder)
    script.forget()
    notebook, claims_file = book.notebook("toy"), book.claims_file("toy")
    notebook.write_text(notebook.read_text().replace("# A toy chapter", "# Another title"))
    claims_file.write_text(claims_file.read_text().replace("below one half", "small"))
    assert sweep(book, points, folder, pool, resume=True).tally == Tally(3, kept=3, done=3)
    assert not script.calls
    pd.testing.assert_frame_equal(rows(folder), before)
    notebook.write_text(notebook.read_text().replace("working", "at work"))
    sweep(book, points, folder, pool, resume=True)
    assert sum(script.calls.values()) == 3


def test_failed_runs_are_run_again_when_asked_and_stand_until_then(
    book: Book, tmp_path: Path, pool: Executor, script: Script
) -> None:
    points = points_of(book, 6)
    script.ends = {points[0].id: ["failed"], points[1].id: ["lost"], points[2].id: ["failed"]}
    sweep(book, points, tmp_path, pool)
    script.forget()
    script.ends = {points[2].id: ["failed"], points[0].id: [KeyboardInterrupt()]}
    with pytest.raises(SweepStopped):
        sweep(book, points, tmp_path, pool, resume=True, retry_failed=True)
    assert {points[0].id, points[2].id} <= set(rows(tmp_path)["id"][rows(tmp_path)["status"] == "failed"])
    script.forget()
    script.ends = {points[2].id: ["failed"]}
    again = sweep(book, points, tmp_path, pool, resume=True, retry_failed=True)
    assert set(script.calls) >= {points[0].id, points[2].id}
    assert set(script.calls) <= {point.id for point in points[:3]}
    assert (again.tally.done, again.tally.failed, again.tally.lost) == (5, 1, 0)
    assert list(rows(tmp_path)["id"]) == [point.id for point in points]


@pytest.mark.parametrize("seed", range(5))
def test_retries_agree_with_a_slow_loop(
    book: Book, tmp_path: Path, pool: Executor, script: Script, seed: int
) -> None:
    """Random ends for every try of every point, and an executor that breaks now and then."""
    generator = np.random.default_rng(seed)
    retries, points = int(generator.integers(0, 4)), points_of(book, 12)
    ends: dict[str, list[str | BaseException]] = {
        point.id: [str(end) for end in generator.choice(["done", "failed", "lost", "broken"], size=4)]
        for point in points
    }
    broken = BrokenExecutor("a worker went away")
    script.ends = {
        name: [broken if end == "broken" else end for end in tries] for name, tries in ends.items()
    }
    sweep(book, points, tmp_path, pool, retries=retries)
    for row in rows(tmp_path).itertuples():
        for attempt, end in enumerate(ends[row.id], start=1):
            if end in ("done", "failed") or attempt > retries:
                break
        assert row.status == {"broken": "lost"}.get(end, end)
        assert row.attempts == script.calls[row.id] == attempt
        assert (row.error_type == "BrokenExecutor") == (end == "broken")


class Patient(Executor):
    """Computes nothing before it is full: then it knows how many tasks wait in it at the same time."""

    def __init__(self, script: Callable[[Task], Outcome]) -> None:
        self.script = script
        self.waiting: list[tuple[Future[Outcome], Task]] = []
        self.most = 0
        self.lock = threading.Lock()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Outcome] = Future()
        with self.lock:
            self.waiting.append((future, args[0]))
            self.most = max(self.most, len(self.waiting))
        threading.Timer(0.01, self.compute_one).start()
        return future

    def compute_one(self) -> None:
        with self.lock:
            future, task = self.waiting.pop()
        future.set_result(self.script(task))


def test_at_most_two_tasks_a_worker_wait_in_the_executor(book: Book, tmp_path: Path) -> None:
    points = points_of(book, 40)
    executor = Patient(Script())
    sweep(book, points, tmp_path, executor)
    assert 1 < executor.most <= 4
    assert len(rows(tmp_path)) == 40


def test_a_cluster_that_is_gone_ends_the_sweep_resumably(
    book: Book, tmp_path: Path, pool: Executor, script: Script
) -> None:
    points = points_of(book, 8)
    script.ends = {points[5].id: [ClusterGone("the scheduler is gone")]}
    with pytest.raises(BookError, match=r"the scheduler is gone; \d of 8 runs .* --resume") as caught:
        sweep(book, points, tmp_path, pool)
    assert caught.value.exit_code == 1
    assert 0 < len(rows(tmp_path)) < 8
    finished = set(rows(tmp_path)["id"])
    script.forget()
    assert sweep(book, points, tmp_path, pool, resume=True).tally.done == 8
    assert script.calls == Counter({point.id: 1 for point in points if point.id not in finished})


def test_an_executor_that_takes_no_more_ends_the_sweep(book: Book, tmp_path: Path, script: Script) -> None:
    closed = ThreadPoolExecutor(1)
    closed.shutdown()
    with pytest.raises(BookError, match=r"no more runs can be started.*--resume"):
        sweep(book, points_of(book, 3), tmp_path, closed)


def test_a_full_disk_ends_the_sweep_and_what_was_written_stays(
    book: Book, tmp_path: Path, pool: Executor, script: Script
) -> None:
    points = points_of(book, 8)
    script.ends = {points[5].id: [DiskFull("the disk is full")]}
    with pytest.raises(DiskFull, match=r"the disk is full; \d of 8 runs .* --resume"):
        sweep(book, points, tmp_path, pool)
    script.forget()
    finished = len(list((tmp_path / "runs").glob("*.json")))
    assert sweep(book, points, tmp_path, pool, resume=True).tally == Tally(8, kept=finished, done=8)
    assert script.calls.total() == 8 - finished


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_sweep_with_its_table_written(
    book: Book, tmp_path: Path, pool: Executor, script: Script, signum: signal.Signals
) -> None:
    points, before = points_of(book, 9), signal.getsignal(signal.SIGTERM)

    def after_three(tally: Tally) -> None:
        if tally.done == 3:
            os.kill(os.getpid(), signum)
            time.sleep(0.1)  # the signal arrives here

    with pytest.raises(SweepStopped, match=r"stopped; \d of 9 runs are in .*--resume") as caught:
        sweep(book, points, tmp_path, pool, progress=after_three)
    assert caught.value.exit_code == 130
    assert signal.getsignal(signal.SIGTERM) == before
    assert 3 <= len(rows(tmp_path)) < 9
    kept = len(rows(tmp_path))
    script.forget()
    assert sweep(book, points, tmp_path, pool, resume=True).tally == Tally(9, kept=kept, done=9)
    assert script.calls.total() == 9 - kept


def test_a_second_sweep_in_the_folder_is_refused(
    book: Book, tmp_path: Path, pool: Executor, script: Script
) -> None:
    points = points_of(book, 2)
    with Store.open(tmp_path, Kit.of(book, "toy"), points, resume=True), pytest.raises(Locked):
        sweep(book, points, tmp_path, pool, resume=True)
    assert not script.calls


def test_progress_in_plain_lines_is_one_a_tenth(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.shown_on(Console(force_terminal=False), "toy") as tell:
        tally = Tally(300, kept=30, done=30)
        tell(tally)
        for index in range(270):
            tally = tally.plus("failed" if index % 27 == 0 else "done")
            tell(tally)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 10
    assert lines[0] == "toy: 30 of 300 runs; 30 done, 0 failed, 0 lost, 270 left"
    assert lines[-1] == "toy: 300 of 300 runs; 290 done, 10 failed, 0 lost, 0 left"
    assert all("to go" in line for line in lines[1:-1])


def test_progress_on_a_terminal_is_a_bar(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(force_terminal=True, width=120, legacy_windows=False)
    with progress.shown_on(console, "toy") as tell:
        tell(Tally(4, done=1, failed=1))
    shown = capsys.readouterr().out
    assert "1 done, 1 failed, 0 lost, 2 left" in shown
    assert "2/4" in shown


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.2, "0 s"), (59.4, "59 s"), (60, "1 min"), (200, "3 min 20 s"), (3600, "1 h"), (7500, "2 h 5 min")],
)
def test_spans_of_time(seconds: float, said: str) -> None:
    assert progress.duration(seconds) == said
