"""The report of a sweep: what it reads from a table, what it draws, and that poor tables get one clear line."""

import itertools
import re
import shutil
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from repro.book import figures
from repro.book.errors import BadInput
from repro.book.layout import Book
from repro.book.sweep import report

mpl.use("agg")
ROOT = Path(__file__).resolve().parents[3]
EXAMPLE = ROOT / "book/results/sweeps/example.csv"


def table(n_seeds=4, rates=(1e-3, 1e-2, 1e-1)):
    """A sweep over seed, data set and rate: accuracy follows the rate, noise only the seed, fixed nothing."""
    rng = np.random.default_rng(0)
    rows = []
    for seed, rate, dataset in itertools.product(range(n_seeds), rates, ("digits", "mnist5k")):
        accuracy = 0.9 + 0.1 * np.log10(rate) + 0.01 * rng.normal()
        rows.append(
            {"id": f"{len(rows):016x}", "profile": "smoke", "seed": seed, "rate": rate, "dataset": dataset}
            | {"n": 3, "status": "done", "error": None, "seconds": 2.0 + seed, "peak_memory_mb": 100.0}
            | {"A1.verdict": "reproduced" if accuracy > 0.7 else "undecided", "A1.accuracy.mean": accuracy}
            | {"B2.verdict": "not tested", "B2.fixed.mean": 1.5}
            | {"B2.loss.mean": rate**2 * np.exp(rng.normal())}
        )
    return pd.DataFrame(rows)


def failed(frame, rows):
    rows = frame.index[rows]
    frame = frame.astype(dict.fromkeys(frame.filter(regex="verdict|error"), object))
    frame.loc[rows, [name for name in frame.columns if "." in name]] = None
    frame.loc[rows, ["status", "error"]] = ["failed", "ValueError: <no> luck"]
    return frame


def sweep_of(folder, frame):
    frame.to_csv(folder / "table.csv", index=False)
    return report.read(folder / "table.csv")


def axes(sweep):
    return {name: list(sweep[name].cat.categories) for name in sweep.select_dtypes("category")}


def test_csv_and_parquet_tell_the_same(tmp_path):
    frame = failed(table(), [3])
    sweep = sweep_of(tmp_path, frame)
    frame.to_parquet(tmp_path / "table.parquet")
    expected = {"seed": [0, 1, 2, 3], "rate": [0.001, 0.01, 0.1], "dataset": ["digits", "mnist5k"]}
    assert axes(sweep) == axes(report.read(tmp_path / "table.parquet")) == expected


def test_results_are_chosen_by_what_the_color_moves(tmp_path):
    """By its share of the variance; never those that nothing moves."""
    frame, found = table(), {}
    for name in ("A1.accuracy.mean", "B2.loss.mean"):
        means = [frame.loc[frame["rate"] == rate, name].mean() for rate in frame["rate"]]
        found[name] = np.var(means) / np.var(frame[name])
    assert report._drawn(sweep_of(tmp_path, frame)) == sorted(found, key=lambda name: -found[name])
    example = report._drawn(report.read(EXAMPLE))
    assert "M12.pilot-l1.mean" in example
    # what a solver leaves of a zero varies by its whole size
    assert not {"M6.lasso.mean", "M3.limit.mean"} & set(example)


def test_what_follows_from_the_profile_is_no_axis_and_words_that_look_missing_are_words(tmp_path):
    frame = table()
    frame["profile"] = np.where(frame["seed"] < 2, "smoke", "quick")
    frame["n"] = np.where(frame["seed"] < 2, 3, 10)
    frame["dataset"] = np.array(["None", "NA", "nan", ""])[frame["seed"]]
    found = axes(sweep_of(tmp_path, frame))
    assert list(found) == ["profile", "seed", "rate", "dataset"]
    assert found["dataset"] == ["None", "NA", "nan", ""]
    frame.loc[0, "n"] = 4
    assert "n" in axes(sweep_of(tmp_path, frame))


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"id,profile\n1,smoke\n", None])
def test_a_broken_file_is_one_clear_line(tmp_path, content):
    if content is not None:
        (tmp_path / "table.csv").write_bytes(content)
    told = r"^table.csv (cannot be read: .*|is missing: .*|is not the table of a sweep with runs)$"
    with pytest.raises(BadInput, match=told):
        report.read(tmp_path / "table.csv")


@pytest.fixture
def shown(monkeypatch):
    """All that the cells of the page display, as one text."""

    def of(sweep):
        told = []
        monkeypatch.setattr("IPython.display.display", lambda what: told.append(what.data))
        for name in ("swept", "errors", "facets", "turned", "cost"):
            getattr(report, name)(sweep)
        return "\n".join(told)

    return of


@pytest.mark.parametrize(
    ("frame", "sentences", "n_pictures"),
    [
        (
            failed(table(), [0, 5]),
            "22 finished, 2 failed, 0 lost|: &lt;no&gt; luck|depends on the run|What the runs took",
            1,
        ),
        (table().head(1), "Runs: 1, of them 1 finished|nothing to compare|nothing to plot", 0),
        (failed(table(), slice(None)), "0 finished, 24 failed|nothing to plot", 0),
        (pd.concat([table().head(1)] * 3), "nothing to compare|nothing to plot|same verdict", 0),
    ],
)
def test_a_page_shows_what_there_is_and_says_what_there_is_not(tmp_path, shown, frame, sentences, n_pictures):
    text = shown(sweep_of(tmp_path, frame))
    assert [sentence for sentence in sentences.split("|") if sentence not in text] == []
    assert text.count("<img ") == len(re.findall(r'alt="[^"]{40,}"', text)) == n_pictures


def test_facets_show_means_with_the_t_interval(tmp_path, monkeypatch):
    pictures = []
    monkeypatch.setattr(figures, "show", lambda figure, **texts: pictures.append((figure, texts["alt"])))
    report.facets(sweep_of(tmp_path, table()))
    ((figure, alt),) = pictures
    assert "A1.accuracy.mean is on average lowest at rate = 0.001" in alt
    panels = np.array(figure.axes).reshape(2, 3)
    forms = {"A1.accuracy.mean": (np.asarray, np.asarray), "B2.loss.mean": (np.log, np.exp)}
    for panel in panels[:, 1]:
        name = panels[list(panels[:, 1]).index(panel), 0].get_ylabel()
        into, back = forms[name]
        assert panel.get_yscale() == ("log" if into is np.log else "linear")
        assert sum(len(points.get_offsets()) for points in panel.collections) == 24
        means, *bars = [line for line in panel.lines if len(line.get_xdata())]
        for at, (rate, bar) in enumerate(zip((1e-3, 1e-2, 1e-1), bars, strict=True)):
            values = into(table().query(f"rate == {rate}")[name].to_numpy())
            expected = stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values))
            assert means.get_ydata()[at] == pytest.approx(float(back(values.mean())))
            assert sorted(bar.get_ydata()) == pytest.approx(tuple(map(float, back(np.array(expected)))))


def test_a_report_is_a_notebook_and_one_file_that_needs_nothing_else(tmp_path):
    """In a book that has the real page and no chapter."""
    root, folder = tmp_path / "book of pages", tmp_path / "sweep {0}"
    (root / "book").mkdir(parents=True)
    folder.mkdir()
    shutil.copy(ROOT / "book/sweep-report.ipynb", root / "book")
    contents = "format: jb-book\nroot: book/index\nchapters:\n- file: book/sweep-report\n"
    (root / "_toc.yml").write_text(contents)
    failed(table(), [1]).to_parquet(folder / "table.parquet")
    page = report.make(folder, Book(root))
    assert page == folder / "report.html"
    assert (folder / "sweep-report.ipynb").is_file()
    html = page.read_text(encoding="utf-8")
    assert "<script" not in html
    assert set(re.findall(r'(?:src|href)="(?!#)([^,"]{0,30})', html)) == {"data:image/svg+xml;base64"}
    assert html.count("<img ") == len(re.findall(r'<img [^>]*alt="[^"]{40,}"', html)) == 1
    assert "colored by <code>rate</code>" in html
    assert "injected" not in html


def test_the_committed_example_names_no_machine():
    text = EXAMPLE.read_text(encoding="utf-8")
    assert "/tmp/" not in text
    assert "/home/" not in text
    assert "worker" not in text.splitlines()[0].split(",")
