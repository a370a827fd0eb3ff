"""One run as a value, with real kernels; and the folder of a sweep, where what is stale or damaged is run again."""

import json
import os
import pickle
import tempfile
from statistics import fmean

import pandas as pd
import pytest
import running_book

from repro.book._files import Locked
from repro.book.sweep import _runs
from repro.book.sweep._runs import Folder, Task


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    return running_book.make(tmp_path_factory.mktemp("travelling"))


# --- one run -------------------------------------------------------------------------------------------------------


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """Where tasks make their temporary folders: nothing may be left in it."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    return tmp_path / "scratch"


def task_of(book, folder, **values):
    with Folder.open(book, "toy", running_book.points(book), folder, resume=True) as opened:
        return Task("toy", values, opened.files, {})


def test_a_task_travels_without_a_path_of_this_machine(book, tmp_path):
    task = task_of(book, tmp_path, level=0.3)
    packed = pickle.dumps(task)
    assert str(book.root).encode() not in packed
    assert pickle.loads(packed) == task


def test_a_run_comes_back_as_a_row_and_bytes_and_its_folder_goes(book, tmp_path, scratch):
    row, notebook = _runs.execute(task_of(book, tmp_path, level=0.3, n=3))
    assert (row["status"], row["error"], row["T1.verdict"]) == ("done", None, "reproduced")
    values = [0.3, 0.301, 0.302]
    assert json.loads(row["T1.low.values"]) == pytest.approx(values)
    assert row["T1.low.mean"] == pytest.approx(fmean(values))
    assert row["seconds"] > 0
    assert row["peak_memory_mb"] > 10
    assert row["worker"].endswith(f":{os.getpid()}")
    assert json.loads(notebook)["metadata"]["repro"]["parameters"]["level"] == 0.3
    assert not list(scratch.iterdir())


# --- the folder ----------------------------------------------------------------------------------------------------

AXIS = "level=0.1,0.2,0.9"


def ended(status, level=0.1):
    """A row as a run makes it."""
    error = None if status == "done" else "ValueError: no, thank you"
    measured = {"T1.verdict": "reproduced", "T1.low.mean": level, "T1.low.values": f"[{level}]"}
    about = {"status": status, "error": error, "worker": "here:1"}
    return about | {"seconds": 1.5, "peak_memory_mb": 80.0} | (measured if status == "done" else {})


def fill(book, path, *statuses):
    with Folder.open(book, "toy", running_book.points(book, AXIS), path, resume=True) as folder:
        for id_, status in zip(folder.points, statuses, strict=False):
            folder.put(id_, ended(status), b"{}", attempts=1)
        folder.write_table()
    return pd.read_parquet(path / "table.parquet")


def levels_kept(book, path):
    return list(fill(book, path)["level"])


def test_one_row_a_run_in_both_files(book, tmp_path):
    table = fill(book, tmp_path, "done", "failed", "lost")
    assert list(table["id"]) == list(running_book.points(book, AXIS))
    assert list(table["level"]) == [0.1, 0.2, 0.9]
    assert list(table["status"]) == ["done", "failed", "lost"]
    assert pd.isna(table["T1.verdict"].iloc[1])
    assert all((tmp_path / name).is_file() for name in table["notebook"])
    csv = pd.read_csv(tmp_path / "table.csv", dtype={"id": object, "worker": object})
    pd.testing.assert_frame_equal(csv, table, check_dtype=False)
    plan = json.loads((tmp_path / "sweep.json").read_text())
    assert (plan["chapter"], len(plan["points"])) == ("toy", 3)


def test_a_change_of_anything_but_words_makes_runs_stale(tmp_path, monkeypatch):
    book = running_book.make(tmp_path / "book")
    notebook, claims_file = book.notebook("toy"), book.claims_file("toy")
    fill(book, tmp_path / "kept", "done", "done", "done")
    notebook.write_text(notebook.read_text().replace("# A toy chapter", "# Another title"))
    claims_file.write_text(claims_file.read_text().replace("below one half", "small"))
    assert len(levels_kept(book, tmp_path / "kept")) == 3
    (tmp_path / "data").mkdir()
    (tmp_path / "data/mnist.npz").write_bytes(b"digits")
    for change in (
        lambda: notebook.write_text(notebook.read_text().replace("working", "at work")),
        lambda: claims_file.write_text(claims_file.read_text().replace("0.5", "0.4")),
        lambda: monkeypatch.setenv("REPRO_DATA", str(tmp_path / "data")),
    ):
        change()
        assert levels_kept(book, tmp_path / "kept") == []
        fill(book, tmp_path / "kept", "done", "done", "done")


def test_a_damaged_run_counts_as_missing(book, tmp_path):
    table = fill(book, tmp_path, "done", "done", "done")
    path = tmp_path / "runs" / f"{table['id'][1]}.run"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    assert levels_kept(book, tmp_path) == [0.1, 0.9]
    pd.testing.assert_frame_equal(fill(book, tmp_path)[:1], table[:1])


def test_one_sweep_a_folder_at_a_time_and_half_a_file_goes(book, tmp_path):
    (tmp_path / "runs").mkdir()
    (half := tmp_path / "runs/.0123.run.abc.part").touch()
    with Folder.open(book, "toy", running_book.points(book), tmp_path):
        assert not half.exists()
        with pytest.raises(Locked, match="another sweep is at work"):
            Folder.open(book, "toy", running_book.points(book), tmp_path, resume=True).__enter__()
    assert levels_kept(book, tmp_path) == []
