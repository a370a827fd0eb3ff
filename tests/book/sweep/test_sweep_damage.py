"""Sweeps on a full disk, over damaged files, of notebooks that misbehave, in a folder that is taken."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import faults_book
import pandas as pd
import pytest
from faults_book import Swept, ended, seed_of, wait_for

from repro.book import runner

# --- a full disk: a file system of 1 MB in memory -----------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    try_as = [] if os.geteuid() == 0 else ["sudo", "-n"]
    mount = [*try_as, "mount", "-t", "tmpfs", "-o", f"size=1m,uid={os.geteuid()}", "tmpfs", str(place)]
    try:
        subprocess.run(mount, check=True, capture_output=True, timeout=200)
    except (OSError, subprocess.SubprocessError):
        pytest.skip("this machine lets us mount no file system")
    try:
        yield place
    finally:
        subprocess.run([*try_as, "umount", "--lazy", str(place)], check=True, timeout=200)


def fill(disk: Path, leave: int) -> Path:
    """Take all of a disk but some bytes."""
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    (ballast := disk / "ballast").write_bytes(bytes(free - leave))
    return ballast


@pytest.mark.parametrize("where", ["sweep", "work"])
def test_a_full_disk_stops_a_sweep_that_can_go_on(tmp_path: Path, small_disk: Path, where: str) -> None:
    """Full is, once a run or two are kept, the disk that the sweep is kept on, or that of temporary files."""
    n_points = 4
    arguments = ("-p", f"seed=0..{n_points - 1}", "--workers", "1")
    if where == "sweep":
        swept = Swept(tmp_path, *arguments, folder=small_disk / "sweep")
        ballast = fill(small_disk, leave=48_000)
        code, said = swept.run()
    else:
        swept = Swept(tmp_path, *arguments, TMPDIR=str(small_disk))
        process = swept.start()
        wait_for(lambda: swept.kept())
        ballast = fill(small_disk, leave=4096)
        code, said = ended(process)
    (line,) = [line for line in said.splitlines() if "full" in line]
    kept, begun = swept.kept(), swept.marked("begun")
    assert code == 1
    assert "Traceback" not in said
    assert f"{len(kept)} of {n_points} runs are in" in line
    assert line.endswith("the same command with --resume goes on from there")
    assert 0 < len(kept) < n_points
    ballast.unlink()
    code, said = swept.run("--resume")
    assert code == 0, said
    assert f"({len(kept)} from before)" in said
    assert swept.table().status.tolist() == ["done"] * n_points
    for name, content in kept.items():
        assert swept.kept()[name] == content
        assert swept.marked("begun")[seed_of(content)] == begun[seed_of(content)] == 1
    assert not list(swept.folder.rglob("*.part"))


# --- damaged files ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished_once(tmp_path_factory: pytest.TempPathFactory) -> Swept:
    swept = Swept(tmp_path_factory.mktemp("finished"), "-p", "seed=0,1,2", "--workers", "2")
    code, said = swept.run()
    assert code == 0, said
    return swept


@pytest.fixture
def finished(finished_once: Swept, monkeypatch: pytest.MonkeyPatch) -> Swept:
    monkeypatch.setenv(faults_book.MARKS, str(finished_once.marks))
    return finished_once


def first_run(folder: Path) -> Path:
    """The file of the run with seed 0."""
    return next(path for path in (folder / "runs").iterdir() if seed_of(path.read_bytes()) == 0)


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def forged(path: Path) -> None:
    """Still JSON, and of the right form, but another number."""
    content = json.loads(path.read_text())
    content["run"]["claims"]["T1.low.mean"] = 0.4
    path.write_text(json.dumps(content))


def random_bytes(path: Path) -> None:
    path.write_bytes(bytes(range(256)))


@pytest.mark.parametrize("damage", [flipped, truncated, emptied, forged, random_bytes])
def test_a_damaged_run_is_set_aside_and_run_again(
    finished: Swept, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    _goes_on(finished, tmp_path, lambda folder: damage(first_run(folder)), again=[0])


def test_a_damaged_or_missing_notebook_is_run_again(finished: Swept, tmp_path: Path) -> None:
    def damage(folder: Path) -> None:
        notebooks = [json.loads(path.read_text())["run"] for path in (folder / "runs").iterdir()]
        of = {run["values"]["seed"]: folder / run["notebook"] for run in notebooks}
        flipped(of[0])
        of[2].unlink()

    _goes_on(finished, tmp_path, damage, again=[0, 2])


@pytest.mark.parametrize("damage", [flipped, truncated, emptied, random_bytes, Path.unlink])
@pytest.mark.parametrize("name", ["table.parquet", "table.csv", "sweep.json"])
def test_a_damaged_table_or_plan_is_written_again(
    finished: Swept, tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    _goes_on(finished, tmp_path, lambda folder: damage(folder / name), again=[])


def _goes_on(finished: Swept, tmp_path: Path, damage: Callable[[Path], None], again: list[int]) -> None:
    """Damage a copy of the finished sweep, resume it, and look at what was run."""
    folder = shutil.copytree(finished.folder, tmp_path / "sweep")
    before, begun = finished.table(), finished.marked("begun")
    damage(folder)
    result = finished.here(folder)
    assert finished.marked("begun") - begun == Counter(again)
    assert (result.tally.kept, result.tally.done) == (3 - len(again), 3)
    table = pd.read_parquet(result.table)
    assert pd.read_csv(folder / "table.csv").id.tolist() == table.id.tolist() == before.id.tolist()
    assert table["T1.low.mean"].tolist() == before["T1.low.mean"].tolist()
    same = ~table.seed.isin(again)
    pd.testing.assert_frame_equal(table[same], before[same])
    assert len(list((folder / "damaged").glob("*"))) == len(again)
    assert json.loads((folder / "sweep.json").read_text())["chapter"] == "toy"
    assert finished.here(folder).tally.kept == 3


def test_a_corrupted_cache_entry_is_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book, marks = faults_book.make(tmp_path / "book"), tmp_path / "marks"
    monkeypatch.setenv(faults_book.MARKS, str(marks))
    good = runner.run(book, "toy")
    assert runner.run(book, "toy").cached
    (entry,) = (book.cache_dir / "cache").iterdir()
    for number, damage in enumerate((flipped, truncated), start=2):
        damage(entry)
        again = runner.run(book, "toy")
        assert not again.cached
        assert again.ledger == good.ledger
        assert marks.read_text().count("begun") == number
        assert runner.run(book, "toy").cached


# --- notebooks that misbehave, and a folder that is taken -----------------------------------------------------------


def test_notebooks_that_misbehave_are_rows_and_the_others_finish(
    tmp_path: Path, finished_once: Swept
) -> None:
    modes = ("sleep", "endless", "eat", "flood", "raise", "exit", "kill", "fine")
    # seconds enough for those that do end, on this machine: twice what a sweep of three took
    enough = max(12, round(2 * finished_once.seconds))
    limits = ("--timeout", str(enough), "--memory", "400", "--retries", "1")
    swept = Swept(tmp_path, "-p", f"mode={','.join(modes)}", "--workers", "3", *limits)
    code, said = swept.run()
    assert code == 1
    assert "8 runs (0 from before), 2 done, 5 failed, 1 lost" in said
    assert said.splitlines()[-1].endswith("6 of 8 runs did not end well; the table's column error says why")
    assert "Traceback" not in said
    table = swept.table().set_index("mode")
    assert table.index.tolist() == list(modes)
    assert table.status.to_dict() == dict.fromkeys(modes, "failed") | {
        "flood": "done",
        "fine": "done",
        "kill": "lost",
    }
    assert table.error["sleep"].startswith(f"took more than the {enough} seconds of its budget")
    assert table.error["eat"].startswith("took ")
    assert "MB of memory, more than the 400 MB of its budget" in table.error["eat"]
    assert table.error["raise"] == "ValueError: the flux capacitor is empty (at 'Experiments')"
    assert table.error["exit"].startswith("stopped without an error before cell")
    assert table.error["kill"].startswith("the kernel died (killed by signal SIGKILL)")
    assert table.error_type.dropna().to_dict() == {
        **dict.fromkeys(("sleep", "endless", "eat"), "BudgetExceeded"),
        **dict.fromkeys(("raise", "exit"), "RunFailed"),
        "kill": "RunLost",
    }
    assert table.attempts.to_dict() == dict.fromkeys(modes, 1) | {"kill": 2}
    # what a flood leaves on the disk is small, and says that it was cut
    flood, endless = ((swept.folder / table.notebook[mode]).read_bytes() for mode in ("flood", "endless"))
    assert 900_000 < len(flood) < 1_500_000
    assert b"[cut: this cell's text went over 1 MB" in flood
    assert len(endless) < 1_500_000
    assert swept.marked("begun").total() == 9
    # only what was lost is run again: the others would end as they did
    code, said = swept.run("--resume")
    assert "8 runs (7 from before), 2 done, 5 failed, 1 lost" in said
    assert swept.marked("begun").total() == 11


def test_a_second_sweep_of_the_same_folder_is_refused(tmp_path: Path) -> None:
    swept = Swept(tmp_path, "-p", "mode=fine,sleep", "--workers", "1", "--timeout", "500")
    first = swept.start()
    wait_for(lambda: swept.marked("begun").total() == 2 and swept.kept())
    kept = swept.kept()
    for more in ([], ["--resume"]):
        code, said = swept.run(*more)
        assert (code, first.poll()) == (4, None)
        assert "another sweep is at work in" in said
        assert said.splitlines()[-1].endswith("wait for it, or stop it first")
    first.terminate()
    code, said = ended(first)
    assert code == 130
    assert said.splitlines()[-1].endswith("the same command with --resume goes on from there")
    assert swept.kept() == kept
    assert swept.table()["mode"].tolist() == ["fine"]
    assert swept.marked("begun").total() == 2
    # the folder is free now, and holds what it held
    code, said = swept.run()
    assert code == 2
    assert "holds 1 finished run: go on with --resume, or give --output another folder" in said
