"""The folder of a sweep: what is in it is whole, what is stale or damaged is run again. No kernel starts here."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd
import pytest
import running_book
from hypothesis import given, settings
from hypothesis import strategies as st

from repro.book import claims, parameters
from repro.book.errors import BadInput, DiskFull, Locked
from repro.book.layout import Book
from repro.book.sweep import grid
from repro.book.sweep.grid import Point
from repro.book.sweep.store import Store, default_folder
from repro.book.sweep.tasks import Kit, Outcome

LEVELS = (0.1, 0.2, 0.9)


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Book:
    return running_book.make(tmp_path_factory.mktemp("stored"))


@pytest.fixture(scope="module")
def kit(book: Book) -> Kit:
    return Kit.of(book, "toy")


def points_of(book: Book, levels: tuple[float, ...] = LEVELS) -> list[Point]:
    profiles = claims.load(book.claims_file("toy")).profiles
    axis = f"level={','.join(map(str, levels))}"
    return grid.points(parameters.declared(book.notebook("toy")), profiles, [axis], where="toy.yml")


def outcome_of(point: Point, status: str = "done", **changed: Any) -> Outcome:
    level = float(point.resolved["level"])  # type: ignore[arg-type]
    measured = {"claim": "T1", "test": "low", "values": [level, level + 0.01, level + 0.02]}
    ledger = {"chapter": "toy", "profile": "quick", "measurements": [measured], "not_tested": {}}
    usual = {
        "notebook": f'{{"level": {level}}}'.encode(),
        "ledger": ledger if status == "done" else None,
        "provenance": {},
        "error": None if status == "done" else "ValueError: no, thank you",
        "error_type": None if status == "done" else "RunFailed",
        "seconds": 1.5,
        "peak_memory_mb": 80.0,
        "worker": "here:1",
    }
    return Outcome(id=point.id, status=status, **usual | changed)  # type: ignore[arg-type]


def kept(folder: Path, kit: Kit, points: list[Point]) -> dict[str, str]:
    with Store.open(folder, kit, points, resume=True) as store:
        return store.finished()


def fill(folder: Path, kit: Kit, points: list[Point], *statuses: str) -> pd.DataFrame:
    with Store.open(folder, kit, points, resume=True) as store:
        for point, status in zip(points, statuses, strict=False):
            assert store.put(outcome_of(point, status)) == status
        store.write_table()
        return store.table()


def test_one_row_a_run_with_parameters_values_and_verdicts(book: Book, kit: Kit, tmp_path: Path) -> None:
    points = points_of(book)
    table = fill(tmp_path, kit, points, "done", "failed", "done")
    assert list(table["id"]) == [point.id for point in points]
    assert list(table["level"]) == list(LEVELS)
    assert list(table["n"]) == [4, 4, 4]
    assert list(table["status"]) == ["done", "failed", "done"]
    values = [0.9, 0.91, 0.92]
    last = table.iloc[2]
    assert last["T1.low.mean"] == pytest.approx(fmean(values))
    assert json.loads(last["T1.low.values"]) == pytest.approx(values)
    measured = [{"claim": "T1", "test": "low", "values": values}]
    judged = claims.judge(claims.load(book.claims_file("toy")), measured, {}, "quick")["T1"]
    assert (last["T1.verdict"], last["T1.low.verdict"]) == (judged.verdict, judged.tests["low"].verdict)
    assert last["T1.verdict"] == "not reproduced"
    assert table["error"].iloc[1] == "ValueError: no, thank you"
    assert pd.isna(table["T1.verdict"].iloc[1])


def test_parquet_and_csv_hold_the_same_table(book: Book, kit: Kit, tmp_path: Path) -> None:
    table = fill(tmp_path, kit, points_of(book), "done", "failed", "lost")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "table.parquet"), table, check_dtype=False)
    typed = {name: table[name].dtype for name in ("id", "worker")}
    csv = pd.read_csv(tmp_path / "table.csv", dtype=typed)
    pd.testing.assert_frame_equal(csv, table, check_dtype=False)


def test_notebooks_lie_under_the_hash_of_their_content(book: Book, kit: Kit, tmp_path: Path) -> None:
    points = points_of(book)
    with Store.open(tmp_path, kit, points, resume=False) as store:
        for point in points:
            store.put(outcome_of(point, notebook=b"the same bytes"))
        names = set(store.table()["notebook"])
    assert len(names) == 1
    assert (tmp_path / names.pop()).read_bytes() == b"the same bytes"


@settings(max_examples=25)
@given(ended=st.lists(st.tuples(st.integers(0, 4), st.sampled_from(["done", "failed", "lost"])), max_size=10))
def test_a_run_is_one_row_however_often_it_is_put(
    book: Book, kit: Kit, tmp_path_factory: pytest.TempPathFactory, ended: list[tuple[int, str]]
) -> None:
    points = points_of(book, (0.0, 0.1, 0.2, 0.3, 0.4))
    folder = tmp_path_factory.mktemp("often")
    with Store.open(folder, kit, points, resume=False) as store:
        for index, status in ended:
            store.put(outcome_of(points[index], status))
        last = dict(ended)
        rows = [(points[i].id, last[i]) for i in sorted(last)]
        table = store.table()
        assert list(zip(table.get("id", []), table.get("status", []), strict=True)) == rows
        assert store.finished() == {point: status for point, status in rows if status != "lost"}


def test_a_damaged_run_is_set_aside_and_missing(book: Book, kit: Kit, tmp_path: Path) -> None:
    points = points_of(book)
    fill(tmp_path, kit, points, "done", "done", "done")
    edited, torn, bare = (tmp_path / "runs" / f"{point.id}.json" for point in points)
    edited.write_text(edited.read_text().replace('"seconds": 1.5', '"seconds": 0.1'))
    torn.write_text(torn.read_text()[:100])
    assert kept(tmp_path, kit, points) == {points[2].id: "done"}
    assert {path.name for path in (tmp_path / "damaged").iterdir()} == {edited.name, torn.name}
    bare.write_text("[]")
    assert kept(tmp_path, kit, points) == {}


@pytest.mark.parametrize("damage", ["changed", "gone"])
def test_a_run_whose_notebook_is_damaged_is_missing(
    book: Book, kit: Kit, tmp_path: Path, damage: str
) -> None:
    points = points_of(book)
    table = fill(tmp_path, kit, points, "done", "done", "done")
    notebook = tmp_path / table["notebook"][1]
    notebook.write_bytes(b"{}") if damage == "changed" else notebook.unlink()
    assert set(kept(tmp_path, kit, points)) == {points[0].id, points[2].id}
    fill(tmp_path, kit, points, "done", "done", "done")
    assert len(kept(tmp_path, kit, points)) == 3


@pytest.mark.parametrize("what", ["code", "claims", "library", "versions", "settings", "files"])
def test_a_run_made_with_something_else_is_stale(book: Book, kit: Kit, tmp_path: Path, what: str) -> None:
    points = points_of(book)
    fill(tmp_path, kit, points, "done", "done")
    other = Kit(kit.chapter, kit.files, kit.claims, kit.made_with | {what: "other"}, None, None)
    assert kept(tmp_path, other, points) == {}
    assert fill(tmp_path, other, points, "done")["id"].tolist() == [points[0].id]
    assert set(kept(tmp_path, kit, points)) == {points[1].id}


def test_everything_a_run_depends_on_is_in_the_kit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book = running_book.make(tmp_path)
    before = Kit.of(book, "toy").made_with
    assert before == Kit.of(book, "toy").made_with
    book.notebook("toy").write_text(book.notebook("toy").read_text().replace("working", "at work"))
    book.claims_file("toy").write_text(running_book.CLAIMS.replace("0.5", "0.4"))
    (tmp_path / "data").mkdir()
    (tmp_path / "data/mnist.npz").write_bytes(b"digits")
    monkeypatch.setenv("REPRO_DATA", str(tmp_path / "data"))
    after = Kit.of(book, "toy").made_with
    assert {name for name in before if before[name] != after[name]} == {"code", "claims", "files"}


def test_a_run_over_its_budget_is_tried_again_when_the_limits_change(
    book: Book, kit: Kit, tmp_path: Path
) -> None:
    points = points_of(book)
    with Store.open(tmp_path, kit, points, resume=False) as store:
        store.put(outcome_of(points[0], "failed", error_type="BudgetExceeded"))
        store.put(outcome_of(points[1], "failed"))
        store.put(outcome_of(points[2]))
        assert len(store.finished()) == 3
    longer = Kit.of(book, "toy", timeout=99)
    assert set(kept(tmp_path, longer, points)) == {points[1].id, points[2].id}
    budget = {name: given.model_copy(update={"seconds": 99.0}) for name, given in kit.claims.budget.items()}
    longer = replace(kit, claims=kit.claims.model_copy(update={"budget": budget}))
    assert set(kept(tmp_path, longer, points)) == {points[1].id, points[2].id}


def test_a_run_that_a_worker_refused_is_a_row_and_still_missing(book: Book, kit: Kit, tmp_path: Path) -> None:
    points = points_of(book)
    with Store.open(tmp_path, kit, points, resume=False) as store:
        store.put(outcome_of(points[0], "failed", error_type="Mismatch"))
        assert store.table()["status"].tolist() == ["failed"]
        assert store.finished() == {}


def test_finished_runs_are_not_touched_without_resume(book: Book, kit: Kit, tmp_path: Path) -> None:
    points = points_of(book)
    fill(tmp_path, kit, points, "done")
    with (
        pytest.raises(BadInput, match=r"1 finished run: go on with --resume, or give --output"),
        Store.open(tmp_path, kit, points, resume=False),
    ):
        pass
    more = points_of(book, (0.1, 0.7))
    assert fill(tmp_path, kit, more, "done", "failed")["status"].tolist() == ["done", "failed"]
    assert len(kept(tmp_path, kit, points)) == 1  # the same folder may hold a wider grid later on


def test_another_chapter_s_folder_is_refused(book: Book, kit: Kit, tmp_path: Path) -> None:
    points = points_of(book)
    fill(tmp_path, kit, points, "done")
    plan = tmp_path / "sweep.json"
    plan.write_text(plan.read_text().replace('"chapter": "toy"', '"chapter": "play"'))
    with (
        pytest.raises(BadInput, match="holds a sweep of play"),
        Store.open(tmp_path, kit, points, resume=True),
    ):
        pass


def test_a_parameter_called_like_a_column_is_refused(book: Book, kit: Kit, tmp_path: Path) -> None:
    points = [Point({}, "0123", {"profile": "quick", "seconds": 3})]
    with (
        pytest.raises(BadInput, match="column 'seconds'"),
        Store.open(tmp_path, kit, points, resume=False),
    ):
        pass


def test_one_sweep_a_folder_at_a_time(book: Book, kit: Kit, tmp_path: Path) -> None:
    points = points_of(book)
    with Store.open(tmp_path, kit, points, resume=True):
        with (
            pytest.raises(Locked, match="another sweep is at work") as caught,
            Store.open(tmp_path, kit, points, resume=True),
        ):
            pass
        assert caught.value.exit_code == 4
    assert kept(tmp_path, kit, points) == {}


def test_a_ledger_that_does_not_fit_the_claims_is_a_failed_row(book: Book, kit: Kit, tmp_path: Path) -> None:
    points = points_of(book)
    wrong = {"chapter": "toy", "profile": "quick", "not_tested": {}}
    measured = {"claim": "T9", "test": "low", "values": [1.0]}
    with Store.open(tmp_path, kit, points, resume=False) as store:
        status = store.put(outcome_of(points[0], ledger=wrong | {"measurements": [measured]}))
        assert status == "failed"
        assert "T9" in store.table()["error"][0]


def test_a_full_disk_leaves_nothing_half_written(
    book: Book, kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = points_of(book)
    fill(tmp_path, kit, points, "done")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with Store.open(tmp_path, kit, points, resume=True) as store:
        monkeypatch.setattr("repro.base.os.fsync", full)
        with pytest.raises(DiskFull):
            store.put(outcome_of(points[1]))
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_what_a_killed_sweep_left_half_written_goes(book: Book, kit: Kit, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    half = tmp_path / "runs/.0123.json.abc.part"
    half.write_text("{")
    assert kept(tmp_path, kit, points_of(book)) == {}
    assert not half.exists()


def test_the_usual_folder_depends_on_the_points_and_not_on_their_order(book: Book) -> None:
    points = points_of(book)
    folder = default_folder(book, "toy", points)
    assert folder.parent == book.root / "_build/sweeps"
    assert folder == default_folder(book, "toy", points[::-1])
    assert folder != default_folder(book, "toy", points[:2])
