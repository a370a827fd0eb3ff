"""One run as a value: real kernels that end well, raise, are killed, flood their output."""

from __future__ import annotations

import errno
import json
import os
import pickle
import tempfile
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest
import running_book
from nbformat import NotebookNode

from repro.book import parameters, process, worker
from repro.book.errors import BadInput, DiskFull
from repro.book.layout import Book
from repro.book.sweep import grid
from repro.book.sweep.tasks import Kit, Outcome, Task, execute

FLOOD = """import os, sys
from IPython.display import HTML, display
for i in range(30):
    print("x" * 99_999)
for i in range(20):
    display(HTML("y" * 1_000_000))
for i in range(300):
    print(flush=True, file=sys.stderr)
"""


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Book:
    return running_book.make(tmp_path_factory.mktemp("travelling"))


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where tasks make their temporary folders: nothing may be left in it."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def task_of(book: Book, *axes: str, **limits: float) -> Task:
    declared = parameters.declared(book.notebook("toy"))
    profiles = {"smoke": {"n": 1}, "quick": {"n": 4}, "paper": {"n": 5}}
    (point,) = grid.points(declared, profiles, axes, where="toy.yml")
    return Kit.of(book, "toy", **limits).task(point)


def outputs_of(outcome: Outcome) -> list[NotebookNode]:
    assert outcome.notebook is not None
    cells = nbformat.reads(outcome.notebook.decode(), as_version=4).cells
    return [output for cell in cells for output in cell.get("outputs", [])]


def test_a_task_travels_without_a_path_of_this_machine(book: Book) -> None:
    task = task_of(book, "level=0.3")
    packed = pickle.dumps(task)
    assert str(book.root).encode() not in packed
    assert pickle.loads(packed) == task
    assert task.values == {"level": 0.3}
    assert {"_toc.yml", "book/chapters/toy.ipynb", "book/claims/toy.yml"} <= set(task.files)


def test_a_run_comes_back_as_bytes_and_its_folder_goes(book: Book, scratch: Path) -> None:
    outcome = execute(task_of(book, "level=0.3", "n=3"))
    assert (outcome.status, outcome.error, outcome.error_type) == ("done", None, None)
    assert outcome.ledger is not None
    assert outcome.ledger["measurements"] == [{"claim": "T1", "test": "low", "values": [0.3, 0.301, 0.302]}]
    assert outcome.provenance is not None
    assert outcome.provenance["parameters"] == {"profile": "quick", "n": 3, "level": 0.3, "mode": "fine"}
    assert outcome.seconds > 0
    assert outcome.peak_memory_mb > 10
    assert outcome.worker.endswith(f":{os.getpid()}")
    assert not list(scratch.iterdir())


def test_a_notebook_that_raises_is_failed_and_keeps_its_traceback(book: Book, scratch: Path) -> None:
    outcome = execute(task_of(book, "mode=raise"))
    assert (outcome.status, outcome.error_type, outcome.ledger) == ("failed", "RunFailed", None)
    assert outcome.error == "ValueError: the flux capacitor is empty (at 'Experiments')"
    assert any(output.output_type == "error" for output in outputs_of(outcome))
    assert not list(scratch.iterdir())


def test_a_killed_kernel_is_lost_and_not_failed(book: Book, scratch: Path) -> None:
    outcome = execute(task_of(book, "mode=kill"))
    assert (outcome.status, outcome.error_type) == ("lost", "RunLost")
    assert "SIGKILL" in str(outcome.error)
    assert not list(scratch.iterdir())


@pytest.mark.parametrize(
    ("mode", "limits", "said"),
    [("sleep", {"timeout": 1.5}, "seconds of its budget"), ("fine", {"memory_mb": 20.0}, "the 20 MB of its")],
)
def test_limits_given_replace_the_budget(book: Book, mode: str, limits: dict[str, float], said: str) -> None:
    outcome = execute(task_of(book, f"mode={mode}", **limits))
    assert (outcome.status, outcome.error_type) == ("failed", "BudgetExceeded")
    assert said in str(outcome.error)


def test_another_library_or_package_is_refused_in_one_line(
    book: Book, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process.subprocess, "Popen", lambda *_, **__: pytest.fail("a process was started"))
    task = task_of(book)
    numpy = task.versions["numpy"]
    other = execute(replace(task, versions=task.versions | {"numpy": "1.2.3"}))
    assert (other.status, other.error_type) == ("failed", "Mismatch")
    assert f"numpy {numpy} instead of 1.2.3" in str(other.error)
    missing = {name: version for name, version in task.versions.items() if name != "numpy"}
    assert f"numpy {numpy} instead of none" in str(execute(replace(task, versions=missing)).error)
    old = execute(replace(task, library="0" * 64))
    assert (old.status, old.error_type) == ("failed", "Mismatch")
    assert task.library[:12] in str(old.error)
    assert "0" * 12 in str(old.error)
    assert not list(scratch.iterdir())


def test_no_room_is_no_row_of_a_table(book: Book, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = task_of(book)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(DiskFull, match="the disk is full"):
        execute(task)
    assert not list(scratch.iterdir())


def test_a_folder_that_cannot_be_written_is_not_the_notebook_s_fault(
    book: Book, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    task = task_of(book)
    monkeypatch.setattr(Path, "write_bytes", refused)
    outcome = execute(task)
    assert (outcome.status, outcome.error_type) == ("lost", "BookError")
    assert "Permission denied" in str(outcome.error)


def test_a_broken_chapter_is_refused_before_it_is_packed(tmp_path: Path) -> None:
    broken = running_book.make(tmp_path)
    with pytest.raises(BadInput, match="did you mean 'toy'"):
        Kit.of(broken, "toi")
    broken.claims_file("toy").write_text(running_book.CLAIMS.replace("below", "beneath"))
    with pytest.raises(BadInput, match="beneath"):
        Kit.of(broken, "toy")


def test_a_flood_of_output_is_cut_and_the_run_goes_on(tmp_path: Path) -> None:
    book = running_book.make(tmp_path)
    notebook = json.loads(book.notebook("toy").read_text())
    notebook["cells"][2]["source"] = FLOOD
    book.notebook("toy").write_text(json.dumps(notebook))
    outcome = execute(task_of(book))
    assert outcome.status == "done", outcome.error
    assert outcome.ledger is not None
    outputs = outputs_of(outcome)
    printed = "".join(o.text for o in outputs if o.get("name") == "stdout")
    assert 900_000 < len(printed) <= worker.LIMITS["text"]
    assert set(printed) == {"x", "\n"}
    told = "".join(o.text for o in outputs if o.get("name") == "stderr")
    assert told.count("this cell's text went over 1 MB") == 1
    assert told.count("this cell's displays went over 16 MB") == 1
    displays = [o for o in outputs if o.output_type == "display_data" and "text/html" in o.data]
    assert len(displays) == 15  # of 1 MB each, and what an output costs besides: the 16th is over
    assert len(outcome.notebook or b"") < 18_000_000
