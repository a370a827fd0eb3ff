"""The report of a sweep: what its page shows cell by cell, from the table, and the page made for one folder.

A parameter that was swept is a column of ordered categories here, the only ones of the table: its values stand at even
distances, whether they are words, evenly spaced or powers of ten. Where there is nothing to show, a cell says so in
one sentence.
"""

from __future__ import annotations

from html import escape
from pathlib import Path

import numpy as np
import pandas as pd
import seaborn as sns

from repro.base import t_interval
from repro.book import figures, prose, runner
from repro.book._files import readable, shown, write_atomically
from repro.book._markup import number, rendered
from repro.book._notebooks import read_notebook
from repro.book.answers import WORDS
from repro.book.errors import BadInput
from repro.book.layout import Book

_FEW = 12  # up to so many values of a parameter are told one by one
_DRAWN = 4  # results
_FEWEST = 3  # the t interval of two values is twelve times as wide as their standard error
_NEEDED = {"id", "profile", "status", "error", "seconds", "peak_memory_mb"}


def read(table: str | Path) -> pd.DataFrame:
    """The table of a sweep, ``.csv`` or ``.parquet``, one row a run; parameters with several values are categories.

    ``table`` is its path, from the working directory or from the book's folder. Raises ``BadInput``: no such file, not
    the table of a sweep, no run in it.
    """
    path = Path(table) if Path(table).is_file() else Book.find().root / table
    with readable(path, "the table of a sweep"):
        if path.suffix == ".parquet":
            runs = pd.read_parquet(path)
        else:  # "None" and "NA" are words that a parameter may well take; only an empty field is missing
            runs = pd.read_csv(path, keep_default_na=False, na_values=[""])
    if runs.empty or not set(runs) >= _NEEDED:
        raise BadInput(f"{path.name} is not the table of a sweep with runs")
    for name in runs.loc[:, "id":"status"].columns[1:-1]:
        # what only follows the profile is no axis
        groups = runs[name] if name == "profile" else runs.groupby("profile")[name]
        if np.max(groups.nunique(dropna=False)) > 1:
            numeric = pd.api.types.is_numeric_dtype(runs[name])
            column = runs[name] if numeric else runs[name].fillna("")
            values = column.drop_duplicates().sort_values() if numeric else column.drop_duplicates()
            runs[name] = pd.Categorical(column, values, ordered=True)
    return runs


def _axes(runs: pd.DataFrame) -> list[str]:
    return list(map(str, runs.select_dtypes("category")))


def _done(runs: pd.DataFrame) -> pd.DataFrame:
    return runs[runs["status"] == "done"]


def _color(runs: pd.DataFrame) -> str:
    """The parameter that gives a run its color; one by seed would tell runs apart that differ by chance alone."""
    return next(iter([*(axis for axis in _axes(runs) if axis != "seed"), *_axes(runs), "profile"]))


def _drawn(runs: pd.DataFrame) -> list[str]:
    r"""The results that the color moves most: largest share of variance between its values, $\eta^2$.

    Not those that vary most: what a solver leaves of a zero varies by its whole size. Where the color has one run a
    value everything lies between values, and $s/\overline{|x|}$ decides.
    """
    means = runs.filter(regex=r"\.mean$").select_dtypes("number")
    means = means.loc[:, means.nunique() > 1]
    between = means.groupby(runs[_color(runs)], observed=True).transform("mean").var() / means.var()
    ranks = pd.DataFrame({"between": between.round(9), "spread": means.std() / means.abs().mean()})
    return list(ranks.sort_values(["between", "spread"], ascending=False, kind="stable").index[:_DRAWN])


# --- tables of the page ---------------------------------------------------------------------------------------------


def _show(caption: str, frame: pd.DataFrame) -> None:
    from IPython.display import HTML, display

    cells = frame.map(lambda value: value if isinstance(value, str) else number(value))
    rows = [[escape(str(cell)) for cell in row] for row in cells.itertuples(name=None)]
    head = map(escape, (str(frame.index.name or ""), *map(str, frame.columns)))
    told = {"label": caption, "caption": escape(caption)}
    display(HTML(rendered("table.html", head=head, rows=rows, **told)))


def swept(runs: pd.DataFrame) -> None:
    """How many runs there are and how they ended, and a table of the parameters that take several values."""
    ends = {word: int((runs["status"] == word).sum()) for word in ("done", "failed", "lost")}
    prose.say("Runs: {n}, of them {done} finished, {failed} failed, {lost} lost.", n=len(runs), **ends)
    if not _axes(runs):
        prose.say("No parameter takes more than one value: there is nothing to compare.")
        return
    values = {axis: list(map(str, runs[axis].cat.categories)) for axis in _axes(runs)}
    listed = {axis: ", ".join(v if len(v) <= _FEW else [*v[:2], "…", v[-1]]) for axis, v in values.items()}
    counts = {axis: str(len(v)) for axis, v in values.items()}
    _show("What was swept", pd.DataFrame({"Values": listed, "How many": counts}))


def errors(runs: pd.DataFrame) -> None:
    """The runs that did not finish, by their error, and the first point of each."""
    bad = runs[runs["status"] != "done"].fillna({"error": "no reason given"})
    if bad.empty:
        prose.say("Every run finished.")
        return
    groups = bad.groupby(["error", "status"], sort=False)
    first = groups[_axes(runs)].first().assign(runs=groups.size()).reset_index(level="status")
    _show("Runs that did not finish, and the first of each kind", first.astype(str))


def turned(runs: pd.DataFrame) -> None:
    """The claims whose verdict is not the same in all finished runs, with how often each was given."""
    found = _done(runs).filter(regex=r"^[^.]+\.verdict$").melt(var_name="claim", value_name="verdict")
    counts = pd.crosstab(found["claim"].str.removesuffix(".verdict"), found["verdict"])
    counts = counts[[word for word in WORDS if word in counts]]
    differ = counts[(counts > 0).sum(axis=1) > 1]
    if not differ.empty:
        _show("Claims whose verdict depends on the run, and in how many runs each was given", differ)
    elif not found.empty:
        prose.say("Every claim got the same verdict in all finished runs.")


def cost(runs: pd.DataFrame) -> None:
    """Seconds and memory, in megabytes of a million bytes, over all runs: mean, spread and quartiles."""
    columns = {"seconds": "seconds", "peak_memory_mb": "peak memory, MB"}
    _show("What the runs took", runs[list(columns)].rename(columns=columns).describe())


# --- pictures of the page -------------------------------------------------------------------------------------------


def facets(runs: pd.DataFrame) -> None:
    """Each result against each parameter: runs as points, and over all runs with a value their mean and its interval.

    A result that is positive and spans two decades has a logarithmic axis; mean and interval are then those of the
    logarithms.
    """
    done, axes, results, color = _done(runs), _axes(runs), _drawn(runs), _color(runs)
    if done.empty or not axes or not results:
        prose.say("No run finished, no parameter was swept, or no result varies: there is nothing to plot.")
        return
    shades = done[color].nunique()
    palette = sns.color_palette("viridis" if shades > len(figures.PALETTE) else figures.PALETTE, shades)
    grid = sns.PairGrid(done, x_vars=axes, y_vars=results, hue=color, palette=palette, height=2.6, aspect=1.3)
    for row, result in enumerate(results):
        if 0 < done[result].min() < done[result].max() / 100:
            grid.axes[row, 0].set_yscale("log")
    grid.map(sns.stripplot, jitter=False, alpha=0.6)
    mean = {"color": "#222222", "marker": "D", "markersize": 5, "linestyle": "none"}
    grid.map(sns.pointplot, hue=None, **mean, errorbar=_interval, err_kws={"linewidth": 1.5})
    if 1 < shades <= _FEW:
        grid.add_legend(title=color)
    for axis, ax in zip(axes, grid.axes[-1], strict=True):
        n = len(runs[axis].cat.categories)
        if n > _FEW:
            ax.set_xticks([0, n - 1])
    caption = (
        f"Each point is a run, {len(done)} finished, colored by `{color}`; diamonds are means over the runs with "
        "that value, whatever their other parameters, bars the 95 % t interval where there are at least three (of the "
        "logarithms, where the axis of a result is logarithmic)."
    )
    means = done.groupby(color, observed=True)[results].mean()
    trends = " ".join(
        f"{name} is on average lowest at {color} = {mean.idxmin()} ({number(mean.min())}), highest at "
        f"{mean.idxmax()} ({number(mean.max())})."
        for name, mean in means.items()
    )
    alt = f"Plots of {', '.join(results)}, each against {', '.join(axes)}. {trends}"
    figures.show(grid.figure, caption=caption, alt=alt, source=facets)


def _interval(values: pd.Series) -> tuple[float, float]:
    if len(values) < _FEWEST:
        return np.nan, np.nan
    found = t_interval(values)
    return found.low, found.high


# --- the page of one folder -----------------------------------------------------------------------------------------


def make(folder: Path, book: Book) -> Path:
    """Write ``sweep-report.ipynb`` and ``report.html`` into a sweep's folder; returns the path of the second.

    The HTML file needs nothing else: nbconvert's pages would ask the network for their scripts. Raises ``RunFailed``
    when the page failed, as it does without a table; the attempt is kept in the folder.
    """
    given = {"table": str((folder / "table.parquet").resolve())}
    run = runner.run(book, "book/sweep-report", given, output=folder, use_cache=False)
    cells = read_notebook(run.notebook)["cells"]
    plain = [cell for cell in cells if "remove-cell" not in cell["metadata"].get("tags", [])]
    page = rendered("sweep-report.html", folder=shown(folder), cells=plain)
    write_atomically(folder / "report.html", page)
    return folder / "report.html"
