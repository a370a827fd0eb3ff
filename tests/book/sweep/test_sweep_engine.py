"""Points onto workers: what is tried again, what is not, what a stop leaves. Runs are stand-ins here."""

import time
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import running_book

from repro.book.errors import DiskFull
from repro.book.sweep import _engine
from repro.book.sweep._engine import ClusterGone, Threads
from repro.book.sweep._runs import Folder


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    return running_book.make(tmp_path_factory.mktemp("swept"))


class Script:
    """A stand-in for a run: each level has a list of ends, one a try; ``calls`` counts the tries."""

    def __init__(self):
        self.forget()

    def forget(self):
        """From now on all ends well, and the tries count from zero."""
        self.ends, self.calls = {}, Counter()

    def __call__(self, task):
        level = int(task.values["level"] * 100 + 0.5)  # which is at work once at a time
        self.calls[level] += 1
        ends = self.ends.get(level, ["done"])
        end = ends[min(self.calls[level], len(ends)) - 1]
        time.sleep(0.002)
        if isinstance(end, BaseException):
            raise end
        row = {"status": end, "error": None if end == "done" else f"it {end}"}
        return row | {"seconds": 1.0, "peak_memory_mb": 9.0, "worker": "here:1"}, b"{}"


@pytest.fixture
def script(monkeypatch):
    stand_in = Script()
    monkeypatch.setattr(_engine, "execute", stand_in)
    return stand_in


def sweep(book, n, path, *, resume=False, **options):
    """The points have the levels 0.00, 0.01, ..."""
    found = running_book.points(book, f"level={','.join(str(i / 100) for i in range(n))}")
    with Threads(2) as place, Folder.open(book, "toy", found, path, resume=resume) as folder:
        return _engine.sweep(folder, place, {}, **options)


def table(path):
    found = pd.read_parquet(path / "table.parquet")
    return found.assign(at=(found["level"] * 100).round().astype(int)).set_index("at")


def test_resume_runs_what_is_missing_or_lost_and_what_failed_when_asked(book, tmp_path, script):
    script.ends, told = {0: ["failed"], 1: ["lost"], 2: ["failed"]}, []
    tally = sweep(book, 6, tmp_path, tell=lambda tally: told.append(tally.total()))
    assert tally == Counter(done=3, failed=2, lost=1)
    assert sorted(set(told)) == list(range(7))
    assert list(table(tmp_path).index) == list(range(6))
    assert script.calls == Counter({0: 1, 1: 3, 2: 1, 3: 1, 4: 1, 5: 1})
    script.forget()
    assert sweep(book, 8, tmp_path, resume=True) == Counter(kept=5, done=6, failed=2)
    assert script.calls == Counter([1, 6, 7])
    script.forget()
    script.ends = {2: ["failed"]}
    assert sweep(book, 8, tmp_path, resume=True, retry_failed=True) == Counter(kept=6, done=7, failed=1)
    assert script.calls == Counter([0, 2])


@pytest.mark.parametrize("seed", range(2))
def test_retries_agree_with_a_slow_loop(book, tmp_path, script, seed):
    """Random ends for every try of every point, and workers that break now and then."""
    generator = np.random.default_rng(seed)
    retries = int(generator.integers(0, 4))
    kinds = ["done", "failed", "lost", "broken"]
    ends = {i: generator.choice(kinds, size=4).tolist() for i in range(12)}
    broken = RuntimeError("a worker went away")
    script.ends = {i: [broken if end == "broken" else end for end in tries] for i, tries in ends.items()}
    sweep(book, 12, tmp_path, retries=retries)
    for row in table(tmp_path).itertuples():
        for attempt, end in enumerate(ends[row.Index], start=1):
            if end in ("done", "failed") or attempt > retries:
                break
        assert row.status == {"broken": "lost"}.get(end, end)
        assert row.attempts == script.calls[row.Index] == attempt
        assert (row.error == f"RuntimeError: {broken}") == (end == "broken")


@pytest.mark.parametrize("error", [ClusterGone("the scheduler is gone"), DiskFull("the disk is full")])
def test_what_ends_a_sweep_leaves_it_resumable(book, tmp_path, script, error):
    script.ends = {5: [error]}
    told = rf"^{error}; \d of 8 runs are in .*--resume goes on from there$"
    with pytest.raises(type(error), match=told) as caught:
        sweep(book, 8, tmp_path)
    assert caught.value.exit_code == 1
    kept = set(table(tmp_path).index)
    assert 0 < len(kept) < 8
    script.forget()
    assert sweep(book, 8, tmp_path, resume=True) == Counter(kept=len(kept), done=8)
    assert script.calls == Counter(set(range(8)) - kept)
