"""``repro sweep`` as typed: real kernels, real signals, one clear line for what is wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd
import psutil
import pytest
import running_book
from loopback import PATIENCE, wait_until
from typer.testing import CliRunner

from repro.book import claims, parameters
from repro.book.errors import BookError
from repro.book.layout import Book
from repro.book.sweep import executors, forecast, grid, report
from repro.book.sweep.store import Store
from repro.book.sweep.tasks import Kit, Outcome
from repro.cli import app


@pytest.fixture
def book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Book:
    book = running_book.make(tmp_path)
    monkeypatch.chdir(book.root)
    monkeypatch.delenv("REPRO_BOOK", raising=False)
    return book


@pytest.fixture
def no_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executors, "local", lambda *_: pytest.fail("the runs were started"))


def typed(*arguments: str) -> str:
    """What the command prints; raises what it raises."""
    done = CliRunner().invoke(app, ["sweep", *arguments], catch_exceptions=False, standalone_mode=False)
    return done.output


def refusal(*arguments: str) -> BookError:
    with pytest.raises(BookError) as caught:
        typed(*arguments)
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["toi"], "did you mean 'toy'"),
        (["toy", "-p", "lvel=1"], "did you mean 'level'"),
        (["toy", "-p", "n=1..12"], r"\[1, 9\]"),
        (["toy", "-p", "level=0.1,high"], "high"),
        (["toy", "-p", "level=0.1,0.2", "-p", "n=1..3", "--zip", "level,n"], "level has 2, n has 3"),
        (["toy", "-p", "profile=quick", "--profile", "smoke"], "profile"),
        (["toy", "--profile", "huge"], "huge"),
        (["toy", "--points", "nowhere.csv"], "nowhere.csv"),
    ],
)
def test_bad_input_is_one_line_before_any_kernel(
    book: Book, no_kernel: None, arguments: list[str], said: str
) -> None:
    error = refusal(*arguments)
    assert error.exit_code == 2
    assert said.replace("\\", "") in str(error)
    assert not (book.build_dir / "sweeps").exists()


def test_a_dry_run_shows_the_points_and_runs_nothing(book: Book, no_kernel: None) -> None:
    shown = typed("toy", "-p", "n=1..9", "-p", "level=0.25,0.75,0.5", "--dry-run", "--workers", "2")
    assert "27 points, the first 20 of them" in shown
    assert [line.split()[1] for line in shown.splitlines() if "│" in line][:3] == ["1", "2", "3"]
    assert shown.count("0.75") == 7
    assert "unknown, as no past run of profile quick" in shown
    assert not book.build_dir.exists()


def test_the_expected_cost_is_the_median_of_past_runs(book: Book, no_kernel: None) -> None:
    """Closed form: 6 points at the median of 10, 20 and 90 seconds, on two workers."""
    kept = book.cache_dir / "cache/0123.run"
    kept.parent.mkdir(parents=True)
    about = {"chapter": "toy", "profile": "quick", "run": {"seconds": 10}}
    kept.write_text("\n" + json.dumps({"metadata": {"repro": about}}))
    kept.with_name("broken.run").write_text("{")
    book.results_file("toy", "quick").write_text('{"run": {"seconds": 90}}')
    declared = parameters.declared(book.notebook("toy"))
    profiles = claims.load(book.claims_file("toy")).profiles
    (point,) = grid.points(declared, profiles, [], where="toy.yml")
    folder = book.build_dir / "sweeps/one"
    with Store.open(folder, Kit.of(book, "toy"), [point], resume=False) as store:
        store.put(Outcome(point.id, "done", None, None, None, None, None, 20.0, 1.0, "here:1"))
    assert {p: sorted(s) for p, s in forecast.past_seconds(book, "toy").items()} == {"quick": [10, 20, 90]}
    shown = " ".join(typed("toy", "-p", "n=1..6", "--dry-run", "--workers", "2").split())
    assert "2 min of computing, 1 min with 2 workers, at 20.0 s a run (quick)" in shown


def start(book: Book, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "repro.cli", "sweep", "toy", *arguments],
        cwd=book.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        # a shell's background jobs ignore Ctrl-C, and their children with them
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def is_kernel(process: psutil.Process) -> bool:
    try:
        return "ipykernel" in " ".join(process.cmdline())
    except psutil.Error:
        return False


def stop(process: subprocess.Popen[str], folder: Path, n_runs: int, how: Callable[[], None]) -> str:
    """Wait for so many finished runs and for a kernel at work, then stop; returns what was said at the end."""
    family: list[psutil.Process] = []

    def at_work() -> bool:
        family[:] = psutil.Process(process.pid).children(recursive=True)
        n_ended = len(list((folder / "runs").glob("*.json")))
        return n_ended >= n_runs and any(is_kernel(process) for process in family)

    try:
        wait_until(at_work, "a kernel at work")
        how()
        _, said = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    _, alive = psutil.wait_procs(family, timeout=PATIENCE)
    assert not alive
    return said


def test_killed_stopped_and_resumed_no_run_is_lost_and_none_is_run_twice(book: Book) -> None:
    folder = book.root / "out"
    arguments = ("-p", "level=0.1,0.2,0.9", "-p", "n=2", "--workers", "1", "--output", "out")

    def runs() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (folder / "runs").glob("*.json")}

    killed = start(book, *arguments)
    stop(killed, folder, 1, killed.kill)
    first = runs()
    assert first

    stopped = start(book, *arguments, "--resume")
    said = stop(stopped, folder, len(first) + 1, lambda: os.killpg(stopped.pid, signal.SIGINT))
    assert stopped.returncode == 130, said
    assert said.count("\n") == 1
    assert "of 3 runs are in out: the same command with --resume goes on from there" in said
    second = runs()
    assert len(pd.read_parquet(folder / "table.parquet")) == len(second) > len(first)
    assert first.items() <= second.items()

    refused = refusal("toy", *arguments)
    assert refused.exit_code == 2
    assert "--resume" in str(refused)

    ended = start(book, *arguments, "--resume")
    shown, said = ended.communicate(timeout=PATIENCE)
    assert ended.returncode == 0, said
    assert f"3 runs ({len(second)} from before), 3 done, 0 failed, 0 lost: out/table.parquet" in shown
    assert second.items() <= runs().items()
    table = pd.read_csv(folder / "table.csv")
    assert table["level"].tolist() == [0.1, 0.2, 0.9]
    assert table["T1.low.mean"].tolist() == pytest.approx([0.1005, 0.2005, 0.9005])
    assert set(table["status"]) == {"done"}


def test_a_failed_run_is_a_row_and_exit_code_1_and_a_changed_notebook_is_run_again(
    book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("toy", "-p", "mode=fine,raise", "--profile", "smoke", "--workers", "2", "--output", "out")
    error = refusal(*arguments)
    assert error.exit_code == 1
    assert "1 of 2 runs did not end well" in str(error)
    table = pd.read_parquet("out/table.parquet")
    assert table["status"].tolist() == ["done", "failed"]
    assert "the flux capacitor is empty" in table["error"][1]
    assert table["T1.verdict"][0] == "not tested"  # the smoke profile judges nothing
    assert Path("out", table["notebook"][1]).is_file()

    assert refusal(*arguments, "--retry-failed").exit_code == 1
    later = pd.read_parquet("out/table.parquet")
    assert (later["finished"] == table["finished"]).tolist() == [True, False]

    notebook = book.notebook("toy")
    notebook.write_text(notebook.read_text().replace("raise ValueError", "_ = ValueError"))
    made: list[Path] = []
    monkeypatch.setattr(report, "make", lambda folder, _: made.append(folder) or folder / "report.html")
    shown = typed(*arguments, "--resume", "--report")
    assert made == [Path("out")]
    assert "report: out/report.html" in shown
    assert "2 runs (0 from before), 2 done" in shown
    again = pd.read_parquet("out/table.parquet")
    assert again["status"].tolist() == ["done", "done"]
    assert json.loads(Path("out/sweep.json").read_text())["axes"] == ["mode=fine,raise"]
