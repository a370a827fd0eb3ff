"""Chapters that run, fail, hang, are killed: real kernels, real processes, the real command line."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import filelock
import nbformat
import psutil
import pytest
import running_book

from repro.book import cache, results, runner
from repro.book.errors import BadInput, BudgetExceeded, DiskFull, ParameterError, RunFailed
from repro.book.layout import Book

GOOD = {"profile": "quick"}


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Book:
    return running_book.make(tmp_path_factory.mktemp("running"))


@pytest.fixture(scope="module")
def good(book: Book) -> runner.RunResult:
    """The last good run, which no failure may touch."""
    return runner.run(book, "toy", GOOD)


def repro(book: Book, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "repro.cli", *arguments],
        cwd=book.root,
        capture_output=True,
        text=True,
        timeout=120,
    )


def fails(book: Book, good: runner.RunResult, error: type[RunFailed], **given: object) -> str:
    """Run with these parameters; returns the one line, after checking what a failure must leave."""
    before = good.notebook.read_bytes()
    with pytest.raises(error) as caught:
        runner.run(book, "toy", GOOD | given)
    assert good.notebook.read_bytes() == before
    wreck = caught.value.notebook
    assert wreck is not None
    assert wreck.name == "toy.quick.failed.ipynb"
    outputs = [o for c in nbformat.read(wreck, as_version=4).cells for o in c.get("outputs", [])]
    assert any(o.output_type == "error" for o in outputs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_run_leaves_notebook_ledger_and_provenance(good: runner.RunResult) -> None:
    assert good.ledger is not None
    (measured,) = good.ledger["measurements"]
    assert (measured["claim"], len(measured["values"])) == ("T1", 4)
    assert good.provenance["parameters"] == {"profile": "quick", "n": 4, "level": 0.1, "mode": "fine"}
    assert good.run["peak_memory_mb"] > 10
    notebook = nbformat.read(good.notebook, as_version=4)
    injected = next(c for c in notebook.cells if "injected-parameters" in c.metadata.get("tags", []))
    assert "remove-cell" in injected.metadata["tags"]
    # what the chapter itself says stays; what the tools say goes
    errors = [o.text for c in notebook.cells for o in c.get("outputs", []) if o.get("name") == "stderr"]
    assert errors == ["working\n"]


def test_an_unchanged_run_comes_from_the_cache_and_a_changed_one_does_not(
    book: Book, good: runner.RunResult
) -> None:
    again = runner.run(book, "toy", GOOD)
    assert again.cached
    assert again.run == good.run
    assert not runner.run(book, "toy", GOOD | {"level": 0.2}).cached


def test_a_damaged_cache_entry_is_run_again(book: Book, good: runner.RunResult) -> None:
    for entry in (book.cache_dir / "cache").glob("*/notebook.ipynb"):
        entry.write_bytes(entry.read_bytes()[:-40])
    assert not runner.run(book, "toy", GOOD).cached
    assert runner.run(book, "toy", GOOD).cached


def test_a_cell_that_raises(book: Book, good: runner.RunResult) -> None:
    line = fails(book, good, RunFailed, mode="raise")
    assert "ValueError: the flux capacitor is empty" in line
    assert "'Experiments'" in line


def test_a_killed_kernel(book: Book, good: runner.RunResult) -> None:
    assert "kernel died (killed by signal SIGKILL)" in fails(book, good, RunFailed, mode="kill")


def test_a_cell_that_exits(book: Book, good: runner.RunResult) -> None:
    line = fails(book, good, RunFailed, mode="exit")
    assert "exit" in line or "died" in line


def test_more_memory_than_the_budget(book: Book, good: runner.RunResult) -> None:
    assert "600 MB of its budget" in fails(book, good, BudgetExceeded, mode="eat")


def test_more_seconds_than_the_limit(book: Book, good: runner.RunResult) -> None:
    with pytest.raises(BudgetExceeded, match="3 seconds of its budget"):
        runner.run(book, "toy", GOOD | {"mode": "sleep"}, timeout=3)
    assert not [p for p in psutil.Process().children(recursive=True) if p.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"lvel": 1}, "did you mean 'level'"),
        ({"n": 0}, r"\[1, 9\], got 0"),
        ({"n": "three"}, "'three'"),
        ({"n": 2.5}, r"2\.5"),
        ({"mode": "fin"}, "did you mean 'fine'"),
        ({"profile": "huge"}, "'huge'"),
    ],
)
def test_wrong_parameters_are_refused_before_a_kernel_starts(
    book: Book, monkeypatch: pytest.MonkeyPatch, given: dict, said: str
) -> None:
    monkeypatch.setattr(runner.subprocess, "Popen", lambda *_, **__: pytest.fail("a process was started"))
    with pytest.raises(ParameterError, match=said):
        runner.run(book, "toy", given)


def test_unknown_chapter_and_broken_claims(book: Book, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no chapter 'toi'; did you mean 'toy'"):
        runner.run(book, "toi")
    broken = running_book.make(tmp_path)
    broken.claims_file("toy").write_text(running_book.CLAIMS.replace("below", "beneath"))
    with pytest.raises(BadInput, match=r"toy\.yml.*T1.*beneath"):
        runner.run(broken, "toy")


def test_a_full_disk_loses_nothing(
    book: Book, good: runner.RunResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = good.notebook.read_bytes()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("repro.book.files.os.replace", full)
    with pytest.raises(DiskFull, match="the disk is full"):
        runner.run(book, "toy", GOOD | {"level": 0.3})
    assert good.notebook.read_bytes() == before
    assert not list(good.notebook.parent.glob(".*part"))


def test_a_key_covers_what_a_run_depends_on(book: Book) -> None:
    source = json.loads(book.notebook("toy").read_text())
    parts = cache.key_parts(source, {"n": 1}, b"claims")
    key = cache.run_key(parts)
    assert key == cache.run_key(cache.key_parts(source, {"n": 1}, b"claims"))
    changed = json.loads(json.dumps(source))
    changed["cells"][0]["source"] = "# Another title"
    others = [(changed, {"n": 1}, b"claims"), (source, {"n": 2}, b"claims"), (source, {"n": 1}, b"other")]
    assert key not in {cache.run_key(cache.key_parts(*other)) for other in others}
    assert key != cache.run_key(parts | {"library": "another"})


def test_the_command_line_says_one_line_and_an_exit_code(book: Book, good: runner.RunResult) -> None:
    for arguments, code, said in (
        (["run", "toi"], 2, "did you mean 'toy'"),
        (["run", "toy", "-p", "lvel=1"], 2, "did you mean 'level'"),
        (["run", "toy", "-p", "n"], 2, "name=value"),
        (["run", "toy", "-p", "mode=raise"], 1, "the flux capacitor is empty"),
        (["claims", "--profile", "paper"], 2, "no result toy.paper.json"),
    ):
        done = repro(book, *arguments)
        assert (done.returncode, done.stderr.count("\n")) == (code, 1), done.stderr
        assert done.stderr.startswith("repro: ")
        assert said in done.stderr
    done = repro(book, "run", "toy")
    assert done.returncode == 0
    assert "reproduced" in done.stdout
    assert done.stdout.rstrip().endswith("toy.quick.ipynb")


def test_output_that_nobody_takes_ends_without_a_traceback(book: Book) -> None:
    taken, given = os.pipe()
    os.close(taken)  # as in `repro params toy | true`
    for arguments in (["params", "toy"], ["--help"]):
        command = [sys.executable, "-m", "repro.cli", *arguments]
        with open("/dev/full", "w") as full:
            for output, said in (
                (full, "repro: could not write the output: No space left on device\n"),
                (given, ""),
            ):
                done = subprocess.run(
                    command, cwd=book.root, stdout=output, stderr=subprocess.PIPE, text=True
                )
                assert (done.returncode, done.stderr) == (1, said)
    os.close(given)


def test_no_command_leaves_a_file_open(
    book: Book, good: runner.RunResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    for arguments in (["run", "toy", "--no-cache"], ["sweep", "toy", "--dry-run"]):
        done = repro(book, *arguments)
        assert (done.returncode, done.stderr) == (0, "")


def test_help_needs_no_torch() -> None:
    code = "import sys; from repro.cli import app; sys.exit('torch' in sys.modules or 'papermill' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_ctrl_c_stops_the_kernel_and_keeps_the_last_good_run(book: Book, good: runner.RunResult) -> None:
    before = good.notebook.read_bytes()
    process = subprocess.Popen(
        [sys.executable, "-m", "repro.cli", "run", "toy", "-p", "mode=sleep"],
        cwd=book.root, stderr=subprocess.PIPE, text=True, start_new_session=True,
        # a shell's background jobs ignore Ctrl-C, and their children with them
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    family: list[psutil.Process] = []
    for _ in range(200):
        family = psutil.Process(process.pid).children(recursive=True)
        if any("ipykernel" in " ".join(child.cmdline()) for child in family if child.is_running()):
            break
        time.sleep(0.1)
    time.sleep(1.5)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive
    assert good.notebook.read_bytes() == before


def test_build_renders_judges_compares_and_locks(book: Book, good: runner.RunResult) -> None:
    first = repro(book, "build", "--accept")
    assert first.returncode == 0, first.stdout + first.stderr
    assert first.stdout.rstrip().endswith("_build/html/index.html")
    page = (book.build_dir / "html/book/chapters/toy.html").read_text()
    assert "verdict-reproduced" in page
    assert "repro run toy --profile quick" in (book.root / "README.md").read_text()
    second = repro(book, "build")
    assert "pages: unchanged" in second.stdout

    with filelock.FileLock(book.cache_dir / "build.lock"):
        locked = repro(book, "build")
    assert (locked.returncode, locked.stderr.count("\n")) == (4, 1)
    assert "another build" in locked.stderr

    # the chapter now measures something else: the committed verdict turns over, loudly, and the old pages stay
    notebook = book.notebook("toy")
    html = (book.build_dir / "html/book/chapters/toy.html").read_bytes()
    kept = results.read(book.results_file("toy", "quick"))
    notebook.write_text(notebook.read_text().replace("level: float = 0.1", "level: float = 0.9"))
    turned = repro(book, "build")
    assert turned.returncode == 3
    assert "T1: was reproduced, is now not reproduced" in turned.stderr
    assert "was 0.102" in turned.stderr
    assert "is now 0.901" in turned.stderr
    assert results.read(book.results_file("toy", "quick")) == kept
    assert (book.build_dir / "html/book/chapters/toy.html").read_bytes() == html

    # a page that does not render fails the build and leaves the last good pages
    notebook.write_text(notebook.read_text().replace("level: float = 0.9", "level: float = 0.1"))
    (book.root / "book/index.md").write_text("# Toy\n\n{ref}`nowhere`\n")
    broken = repro(book, "build")
    assert (broken.returncode, broken.stderr.count("\n")) == (1, 1)
    assert "did not render" in broken.stderr
    assert (book.build_dir / "html/book/chapters/toy.html").read_bytes() == html
