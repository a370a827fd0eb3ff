"""The report of a sweep: what it reads from a table, what it draws, and that poor tables get one clear line."""

from __future__ import annotations

import itertools
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from repro.book.errors import BadInput
from repro.book.layout import Book
from repro.book.sweep import report, report_page, report_pictures, report_table, report_verdicts
from repro.book.sweep.report_scale import Colors, Scale, is_geometric
from repro.book.sweep.report_table import Sweep, read
from repro.book.verdicts import VERDICTS

mpl.use("agg")
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def _no_figure_left() -> Iterator[None]:
    yield
    plt.close("all")


def table(n_seeds: int = 4, rates: tuple[float, ...] = (1e-3, 1e-2, 1e-1)) -> pd.DataFrame:
    """A sweep over seed, data set and rate: accuracy follows the rate, noise only the seed, fixed nothing."""
    rng = np.random.default_rng(0)
    rows = []
    for seed, dataset, rate in itertools.product(range(n_seeds), ("digits", "mnist5k"), rates):
        accuracy = 0.9 + 0.1 * np.log10(rate) + 0.01 * rng.normal()
        rows.append(
            {"id": f"{len(rows):016x}", "profile": "smoke", "seed": seed, "dataset": dataset, "rate": rate}
            | {"n": 3, "status": "done", "error": None, "error_type": None, "attempts": 1}
            | {"seconds": 2.0 + seed, "peak_memory_mb": 100.0 + seed}
            | {"A1.verdict": "reproduced" if accuracy > 0.7 else "undecided", "A1.accuracy.mean": accuracy}
            | {"A1.accuracy.values": "[]", "A1.accuracy.verdict": "reproduced"}
            | {
                "B2.verdict": "not tested",
                "B2.fixed.mean": 1.5,
                "B2.loss.mean": rate**2 * np.exp(rng.normal()),
            }
        )
    return pd.DataFrame(rows)


def failed(frame: pd.DataFrame, rows: slice | list[int]) -> pd.DataFrame:
    frame = frame.copy()
    results = [name for name in frame.columns if "." in name]
    frame[results] = frame[results].astype(object)
    frame.loc[frame.index[rows], results] = None
    frame["error"] = frame["error"].astype(object)
    frame.loc[frame.index[rows], ["status", "error"]] = ["failed", "ValueError: <no> luck"]
    return frame


def sweep_of(folder: Path, frame: pd.DataFrame, **chosen: str) -> Sweep:
    frame.to_csv(folder / "table.csv", index=False)
    return read(folder / "table.csv", **chosen)


# --- scales ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.001, 0.01, 0.1], True),
        ([1, 2, 4, 8], True),
        ([1, 3, 10, 30, 100], True),
        ([1, 2, 3, 4], False),
        ([0.5, 0.9, 0.99], False),
        ([0, 1, 10, 100], False),
        ([-4, -2, -1], False),
        ([1, 100], False),
        ([5], False),
        ([], False),
    ],
)
def test_geometric_values_are_told_from_even_ones(values: list[float], expected: bool) -> None:
    assert is_geometric(values) is expected


@given(st.floats(1e-6, 1e6), st.floats(1.2, 50), st.integers(3, 12))
def test_every_geometric_row_is_geometric_and_no_even_row_is(start: float, step: float, n: int) -> None:
    assert is_geometric(start * step ** np.arange(n))
    assert not is_geometric(start + step * np.arange(n))


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=30), st.booleans())
def test_places_run_from_zero_to_one_in_the_order_of_the_values(numbers: list[float], wide: bool) -> None:
    column = pd.Series([*numbers, np.nan, np.inf])
    places = Scale.of(column, wide_is_log=wide).place(column)
    assert np.isnan(places[-2:]).all()
    distinct = len(set(numbers)) > 1
    assert places[:-2].min() == pytest.approx(0.0 if distinct else 0.5, abs=1e-12)
    assert places[:-2].max() == pytest.approx(1.0 if distinct else 0.5, abs=1e-12)
    order = np.argsort(numbers, kind="stable")
    assert (np.diff(places[:-2][order]) >= -1e-12).all()


def test_a_logarithmic_axis_places_decades_evenly() -> None:
    column = pd.Series([1e-3, 1e-1, 1e-2])
    scale = Scale.of(column)
    assert scale.kind == "log"
    assert scale.place(column) == pytest.approx([0.0, 1.0, 0.5])
    assert scale.ticks == [1e-3, 1e-2, 1e-1]


def test_words_and_truth_values_stand_at_even_distances() -> None:
    assert Scale.of(pd.Series(["b", "a", "b", "c"])).place(pd.Series(["a", "c"])) == pytest.approx(
        [0.5, 5 / 6]
    )
    assert Scale.of(pd.Series([True, False])).kind == "words"


def test_ticks_that_would_touch_are_left_to_the_ends() -> None:
    assert Scale.of(pd.Series([1.0, 50.0, 51.0, 100.0])).ticks == [1.0, 100.0]
    assert Scale.of(pd.Series(np.arange(40.0))).ticks == [0.0, 39.0]


# --- what is read from a table -------------------------------------------------------------------------------


def test_csv_and_parquet_tell_the_same(tmp_path: Path) -> None:
    frame = failed(table(), [3])
    sweep = sweep_of(tmp_path, frame)
    numbers = [name for name in frame.columns if name.endswith(".mean")]
    frame.astype(dict.fromkeys(numbers, float)).to_parquet(tmp_path / "table.parquet")
    other = read(tmp_path / "table.parquet")
    assert (sweep.axes, sweep.results, sweep.color) == (other.axes, other.results, other.color)
    assert sweep.axes == ("seed", "dataset", "rate")
    assert sweep.color == "dataset"  # the seed comes last
    assert sweep.claims == ["A1", "B2"]
    assert (len(sweep.done), len(sweep.ended_badly)) == (23, 1)


def test_results_are_chosen_by_their_spread(tmp_path: Path) -> None:
    frame = table()
    spread = {}
    for name in ("A1.accuracy.mean", "B2.loss.mean", "B2.fixed.mean"):
        spread[name] = stdev(frame[name]) / fmean(abs(value) for value in frame[name])
    expected = sorted((name for name in spread if spread[name] > 0), key=lambda name: -spread[name])
    assert list(sweep_of(tmp_path, frame).results) == expected == ["B2.loss.mean", "A1.accuracy.mean"]


def test_results_that_nothing_moves_are_not_chosen(tmp_path: Path) -> None:
    frame = table()
    frame[["A1.accuracy.mean", "B2.loss.mean"]] = 0.25
    assert sweep_of(tmp_path, frame).results == ()


def test_what_follows_from_the_profile_is_no_axis(tmp_path: Path) -> None:
    frame = table()
    frame["profile"] = np.where(frame["seed"] < 2, "smoke", "quick")
    frame["n"] = np.where(frame["seed"] < 2, 3, 10)
    assert sweep_of(tmp_path, frame).axes == ("profile", "seed", "dataset", "rate")
    frame.loc[0, "n"] = 4
    assert sweep_of(tmp_path, frame).axes == ("profile", "seed", "dataset", "rate", "n")


def test_words_that_look_missing_are_words(tmp_path: Path) -> None:
    frame = table()
    frame["dataset"] = np.array(["None", "NA", "nan", ""])[frame["seed"]]
    sweep = sweep_of(tmp_path, frame)
    assert sweep.values("dataset") == ["None", "NA", "nan", ""]
    assert report_pictures.parallel(sweep) is not None


def test_the_plan_beside_the_table_names_the_chapter(tmp_path: Path) -> None:
    assert sweep_of(tmp_path, table()).chapter is None
    (tmp_path / "sweep.json").write_text('{"chapter": "toy", "points": [1, 2, 3]}')
    sweep = read(tmp_path / "table.csv")
    assert (sweep.chapter, sweep.n_points) == ("toy", 3)
    (tmp_path / "sweep.json").write_text("{")
    assert read(tmp_path / "table.csv").chapter is None


@pytest.mark.parametrize(
    ("spoil", "chosen", "message"),
    [
        (lambda f: f.drop(columns="status"), {}, "no column 'status'"),
        (lambda f: f.head(0), {}, "holds no run"),
        (lambda f: f, {"color": "rat"}, "no parameter 'rat' to color by; did you mean 'rate'?"),
        (lambda f: f, {"columns": "A1.acuracy"}, "no result 'A1.acuracy'; did you mean 'A1.accuracy'?"),
        (lambda f: f.assign(**{"A1.accuracy.mean": "no"}), {"columns": "A1.accuracy"}, "measured in no run"),
    ],
)
def test_a_table_that_cannot_be_shown_is_one_clear_line(
    tmp_path: Path, spoil: Callable[[Any], Any], chosen: dict[str, str], message: str
) -> None:
    frame = spoil(table())
    with pytest.raises(BadInput, match=re.escape(message)) as caught:
        sweep_of(tmp_path, frame, **chosen)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("table.csv", b"", "not a readable table"),
        ("table.csv", b'a,b\n1,2\n"3', "not a readable table"),
        ("table.csv", b"\xff\xfe\x00", "not a readable table"),
        ("table.parquet", b"PAR1 no", "not a readable table"),
        ("table.xlsx", b"x", "ends in .csv or .parquet"),
        ("table.csv", None, "there is no table"),
    ],
)
def test_a_broken_file_is_one_clear_line(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput, match=message) as caught:
        read(tmp_path / name)
    assert "\n" not in str(caught.value)


# --- pictures --------------------------------------------------------------------------------------------------


def test_parallel_lines_are_the_runs(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, failed(table(), [0]), columns="A1.accuracy", color="rate")
    picture = report_pictures.parallel(sweep)
    assert picture is not None
    lines = [line for line in picture.figure.axes[0].lines if len(line.get_xdata()) == 4]
    assert len(lines) == len(sweep.done) == 23
    low, high = sweep.done["A1.accuracy.mean"].min(), sweep.done["A1.accuracy.mean"].max()
    for line, (_, run) in zip(lines, sweep.done.iterrows(), strict=True):
        expected = [
            run["seed"] / 3,
            {"digits": 0.25, "mnist5k": 0.75}[run["dataset"]],
            (np.log10(run["rate"]) + 3) / 2,
            (run["A1.accuracy.mean"] - low) / (high - low),
        ]
        assert line.get_ydata() == pytest.approx(expected)
    by_rate = {
        run["rate"]: line.get_color() for line, (_, run) in zip(lines, sweep.done.iterrows(), strict=True)
    }
    assert len({tuple(color) for color in by_rate.values()}) == 3
    assert "rate" in picture.caption
    assert "A1 accuracy is on average lowest at rate = 0.001" in picture.alt


def test_a_missing_result_is_a_gap_in_its_line(tmp_path: Path) -> None:
    frame = table()
    frame.loc[2, "A1.accuracy.mean"] = np.nan
    picture = report_pictures.parallel(sweep_of(tmp_path, frame, columns="A1.accuracy,B2.loss"))
    assert picture is not None
    lines = [line for line in picture.figure.axes[0].lines if len(line.get_xdata()) == 5]
    assert np.flatnonzero(np.isnan(lines[2].get_ydata())).tolist() == [3]
    assert sum(np.isnan(line.get_ydata()).sum() for line in lines) == 1


def test_facets_show_means_with_the_t_interval(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, table(), columns="A1.accuracy,B2.loss")
    picture = report_pictures.facets(sweep)
    assert picture is not None
    panels = np.array(picture.figure.axes).reshape(2, 3)
    for row, (name, transform, back) in enumerate(
        [("A1.accuracy.mean", np.asarray, np.asarray), ("B2.loss.mean", np.log, np.exp)]
    ):
        panel = panels[row, 2]
        assert panel.get_xscale() == "log"
        assert panel.get_yscale() == ("linear" if row == 0 else "log")
        assert len(panel.containers) == 3
        for bars, rate in zip(panel.containers, (1e-3, 1e-2, 1e-1), strict=True):
            values = transform(sweep.runs.loc[sweep.runs["rate"] == rate, name].to_numpy())
            center = float(bars.lines[0].get_ydata()[0])
            low, high = bars.lines[2][0].get_segments()[0][:, 1]
            expected = stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values))
            assert center == pytest.approx(float(back(values.mean())))
            assert (low, high) == pytest.approx(tuple(map(float, back(np.array(expected)))))


def test_two_runs_get_no_interval(tmp_path: Path) -> None:
    picture = report_pictures.facets(sweep_of(tmp_path, table(n_seeds=1, rates=(1e-3, 1e-2))))
    assert picture is not None
    assert all(not panel.containers for panel in picture.figure.axes)


def test_verdicts_are_counted_by_value(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, failed(table(), [0, 5]))
    for axis in sweep.axes:
        counts = report_verdicts.count_verdicts(sweep, axis)
        for value, (_, row) in zip(sweep.values(axis), counts.iterrows(), strict=True):
            for word in VERDICTS:
                slow = 0
                for _, run in sweep.runs.iterrows():
                    if run["status"] == "done" and run[axis] == value:
                        slow += (run["A1.verdict"] == word) + (run["B2.verdict"] == word)
                assert row[word] == slow
        assert counts.to_numpy().sum() == len(sweep.done) * len(sweep.claims)


def test_more_values_than_a_legend_holds_get_a_bar_and_a_rank_correlation(tmp_path: Path) -> None:
    frame = table()
    frame["rate"] = np.geomspace(1e-4, 1, len(frame))
    frame["A1.accuracy.mean"] = np.log(frame["rate"])
    sweep = sweep_of(tmp_path, frame, color="rate", columns="A1.accuracy")
    colors = Colors.of(sweep)
    assert colors.is_continuous
    assert colors.legend == {}
    picture = report_pictures.facets(sweep)
    assert picture is not None
    assert picture.figure.axes[-1].get_ylabel() == "rate"
    assert "rank correlation of A1 accuracy with rate is 1." in picture.alt
    bars = report_verdicts.verdicts(sweep)
    assert bars is not None
    assert "too many values: `rate`" in bars.caption


# --- poor tables -------------------------------------------------------------------------------------------------


def one_run() -> pd.DataFrame:
    return table().head(1)


def all_failed() -> pd.DataFrame:
    return failed(table(), slice(None))


def nothing_varies() -> pd.DataFrame:
    return pd.concat([table().head(1)] * 3).assign(id=["a", "b", "c"])


def shown(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> str:
    """All that the cells of the page display, as one text."""
    told: list[str] = []
    monkeypatch.setattr("IPython.display.display", lambda what: told.append(what.data))
    cells = ("swept", "errors", "parallel", "facets", "verdicts", "turned", "cost")
    for name in cells:
        getattr(report_page, name)(sweep)
    return "\n".join(told)


def test_a_full_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(sweep_of(tmp_path, failed(table(), [0, 5])), monkeypatch)
    assert "24 runs: 22 finished, 2 failed, 0 lost" in text
    assert "ValueError: &lt;no&gt; luck" in text
    assert "<td>geometric</td>" in text
    assert text.count("<img ") == 3
    assert len(re.findall(r'alt="[^"]{40,}"', text)) == 3
    assert "Claims whose verdict depends on the run" in text
    assert re.search(r"<code>seed</code> = 3</th><td>6</td><td>5</td><td>5</td><td>0.5</td>", text)


@pytest.mark.parametrize(
    ("make", "sentences", "n_pictures"),
    [
        (one_run, ["1 run: 1 finished", "nothing to compare", "parallel axes would show nothing"], 1),
        (all_failed, ["0 finished, 24 failed", "No run finished: there is nothing to draw."], 0),
        (nothing_varies, ["nothing to compare", "there is nothing to plot", "same verdict"], 1),
    ],
)
def test_a_poor_table_gets_clear_sentences(
    make: Callable[[], pd.DataFrame],
    sentences: list[str],
    n_pictures: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = shown(sweep_of(tmp_path, make()), monkeypatch)
    assert [sentence for sentence in sentences if sentence not in text] == []
    assert text.count("<img ") == n_pictures
    assert "What the runs took" in text


def test_points_without_a_run_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sweep.json").write_text(f'{{"chapter": "toy", "points": {list(range(30))}}}')
    assert "30 points; 6 of them have no run yet" in shown(sweep_of(tmp_path, table()), monkeypatch)


# --- the report of a folder --------------------------------------------------------------------------------------


@pytest.fixture
def book(tmp_path: Path) -> Book:
    """A book that has the real page and no chapter."""
    root = tmp_path / "book of pages"
    (root / "book").mkdir(parents=True)
    shutil.copy(ROOT / "book" / "sweep-report.ipynb", root / "book")
    (root / "_toc.yml").write_text(
        "format: jb-book\nroot: book/index\nchapters:\n- file: book/sweep-report\n"
    )
    return Book(root)


def test_a_report_is_a_notebook_and_one_file_that_needs_nothing_else(book: Book, tmp_path: Path) -> None:
    folder = tmp_path / "sweep {0}"
    folder.mkdir()
    failed(table(), [1]).to_csv(folder / "table.csv", index=False)
    (folder / "sweep.json").write_text(f'{{"chapter": "toy", "points": {list(range(24))}}}')
    page = report.make(folder, book, color="rate", columns="A1.accuracy")
    assert page == folder / "report.html"
    assert (folder / "report.ipynb").is_file()
    html = page.read_text(encoding="utf-8")
    assert "<title>Sweep of toy</title>" in html
    assert "<script" not in html
    assert set(re.findall(r'(?:src|href)="(?!#)([^,"]{0,30})', html)) == {"data:image/png;base64"}
    assert html.count("<img ") == len(re.findall(r'<img [^>]*alt="[^"]{40,}"', html)) == 3
    assert "colored by <code>rate</code>" in html
    assert "injected" not in html


def test_a_folder_without_a_sound_table_starts_no_kernel(
    book: Book, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report.page_runs, "run", lambda *_, **__: pytest.fail("a kernel was started"))
    with pytest.raises(BadInput, match=r"holds no table\.parquet"):
        report.make(tmp_path, book)
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    with pytest.raises(BadInput, match="not the table of a sweep"):
        report.make(tmp_path, book)
    assert not (tmp_path / "report.html").exists()


def test_the_committed_example_can_be_shown() -> None:
    example = ROOT / "book" / "results" / "sweeps" / "example.csv"
    sweep = report_table.read(example)
    assert sweep.chapter is not None
    assert sweep.axes
    assert sweep.results
    text = example.read_text(encoding="utf-8")
    assert "/tmp/" not in text
    assert "/home/" not in text
    assert "worker" not in text.splitlines()[0].split(",")  # the name of a machine


def test_results_are_chosen_by_what_the_color_moves_and_not_by_what_solvers_leave_of_zero() -> None:
    sweep = report_table.read(ROOT / "book" / "results" / "sweeps" / "example.csv")
    assert sweep.color == "n_epochs"
    assert "M12.pilot-l1.mean" in sweep.results
    assert not {"M6.lasso.mean", "M3.limit.mean"} & set(sweep.results)
