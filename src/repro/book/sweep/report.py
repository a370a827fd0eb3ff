"""The report of a sweep: what its page shows cell by cell, from the table, and the page made for one folder.

A parameter that was swept is an ordered category here: its values stand at even distances, whether they are words,
evenly spaced or powers of ten. Where there is nothing to show, a cell says so in one sentence.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from markdown_it import MarkdownIt

from repro.base import nearest, t_interval
from repro.book import figures, prose, runner
from repro.book.answers import VERDICTS
from repro.book.errors import BadInput
from repro.book.files import shown, write_atomically
from repro.book.layout import Book
from repro.book.markup import number
from repro.book.notebooks import read_notebook, source_of

__all__ = ["cost", "errors", "facets", "make", "read", "swept", "turned", "verdicts"]

_FEW = 12  # up to so many values of a parameter are told one by one
_DRAWN = 4
_FEWEST = 3  # the t interval of two values is twelve times as wide as their standard error
_NEEDED = ("id", "profile", "status", "error", "seconds", "peak_memory_mb")
_COLORS = ("#0b6e4f", "#c98a1b", "#8a94a6", "#a8201a", "#d7dbe2")


@dataclass(frozen=True)
class Sweep:
    """A sweep as its table tells it.

    ``runs`` has one row a run, ``done`` those that finished. ``axes`` are the parameters that take several values, in
    ``runs`` as ordered categories; ``results`` are the columns of results to draw, ``color`` is the parameter that
    gives a run its color (None when nothing was swept).
    """

    runs: pd.DataFrame
    axes: list[str]
    results: list[str]
    color: str | None

    @property
    def done(self) -> pd.DataFrame:
        return self.runs[self.runs["status"] == "done"]

    def values(self, axis: str) -> list[str]:
        """The different values of a swept parameter: numbers in rising order, words as they come."""
        return list(self.runs[axis].cat.categories)

    @property
    def verdicts(self) -> pd.DataFrame:
        """A row a claim and finished run: ``claim``, ``verdict``, and the axes."""
        claims = [name for name in self.runs.columns if name.endswith(".verdict") and name.count(".") == 1]
        long = self.done.melt(self.axes, claims, "claim", "verdict")
        return long.assign(claim=long["claim"].str.removesuffix(".verdict"))

    def count_verdicts(self) -> pd.DataFrame:
        """How often each verdict was given: a row ``axis = value`` for each value of the axes that take few."""
        few = [axis for axis in self.axes if len(self.values(axis)) <= _FEW]
        found = self.verdicts.melt("verdict", few, "axis", "value").astype({"axis": str, "value": str})
        counts = pd.crosstab(found["axis"] + " = " + found["value"], found["verdict"])
        order = [f"{axis} = {value}" for axis in few for value in self.values(axis)]
        return counts.reindex(index=order, columns=VERDICTS, fill_value=0)


def read(table: str | Path, *, color: str = "", columns: str = "") -> Sweep:
    """The sweep whose table is this file, ``.csv`` or ``.parquet``.

    Args:
        table: its path, from the working directory or from the book's folder.
        color: the parameter that gives a run its color (default: the first swept one, seed last).
        columns: results to draw, ``CLAIM.TEST`` with commas between (default: the four that ``color`` moves most).

    Raises:
        BadInput: no such file, not the table of a sweep, no run in it, an unknown parameter or result.
    """
    path = Path(table) if Path(table).is_file() else Book.find().root / table
    try:
        if path.suffix == ".parquet":
            runs = pd.read_parquet(path)
        else:  # "None" and "NA" are words that a parameter may well take; only an empty field is missing
            runs = pd.read_csv(path, keep_default_na=False, na_values=[""])
    except Exception as error:  # whatever the two readers raise for bytes that are no table
        raise BadInput(f"{path.name} is not a readable table: {' '.join(str(error).split())}") from None
    if missing := [name for name in _NEEDED if name not in runs.columns]:
        raise BadInput(f"{path.name} is not the table of a sweep: it has no column {missing[0]!r}")
    if runs.empty:
        raise BadInput(f"{path.name} holds no run")
    parameters = list(runs.loc[:, "id":"status"].columns[1:-1])
    if color and color not in parameters:
        raise BadInput(f"there is no parameter {color!r} to color by; {nearest(color, parameters)}")
    axes = [name for name in parameters if runs[name].nunique(dropna=False) > 1]
    within = (
        runs.groupby("profile")[axes].nunique(dropna=False).max()
    )  # what only follows the profile is no axis
    axes = [name for name in axes if name == "profile" or within[name] > 1]
    runs = runs.assign(**{name: _as_category(runs[name]) for name in axes})
    # colors by seed would tell runs apart that differ by chance alone
    told_apart = color or next(iter([*(axis for axis in axes if axis != "seed"), *axes]), None)
    means = runs.filter(regex=r"\.mean$").select_dtypes("number")
    known = list(means.columns.str.removesuffix(".mean"))
    wanted = [name.strip() for name in columns.split(",") if name.strip()]
    for name in wanted:
        if name not in known:
            raise BadInput(f"no run has a result {name!r}; {nearest(name, known)}")
    chosen = [f"{name}.mean" for name in wanted] or _most_moved(means, runs[told_apart or "profile"])
    return Sweep(runs, axes, chosen, told_apart)


def _as_category(column: pd.Series) -> Any:
    numeric = pd.api.types.is_numeric_dtype(column)
    found = column if numeric else column.fillna("")  # an empty field of a column of words is the empty word
    values = found.drop_duplicates().sort_values() if numeric else found.drop_duplicates()
    return pd.Categorical(found.map(_told), [_told(value) for value in values], ordered=True)


def _told(value: object) -> str:
    return str(value).removesuffix(".0") if isinstance(value, float) else str(value)


def _most_moved(means: pd.DataFrame, axis: pd.Series) -> list[str]:
    r"""The results that the axis moves most: largest share of variance between its values, $\eta^2$.

    Not those that vary most: what a solver leaves of a zero varies by its whole size. Where the axis has one run a
    value everything lies between values, and $s/\overline{|x|}$ decides.
    """
    means = means.loc[:, means.nunique() > 1]
    between = means.groupby(axis, observed=True).transform("mean").var() / means.var()
    ranks = pd.DataFrame({"between": between.round(9), "spread": means.std() / means.abs().mean()})
    return list(ranks.sort_values(["between", "spread"], ascending=False, kind="stable").index[:_DRAWN])


# --- tables of the page ---------------------------------------------------------------------------------------------


def _show(caption: str, frame: pd.DataFrame) -> None:
    from IPython.display import HTML, display

    rows = frame.to_html(border=0, justify="left", float_format=number)
    rows = rows.replace("<thead>", f"<caption>{escape(caption)}</caption><thead>", 1)
    scrolls = f'style="overflow-x:auto" role="region" aria-label="{escape(caption)}" tabindex="0"'
    display(HTML(f"<div {scrolls}>{rows}</div>"))


def swept(sweep: Sweep) -> None:
    """How many runs there are and how they ended, and a table of the parameters that take several values."""
    ends = {word: int((sweep.runs["status"] == word).sum()) for word in ("done", "failed", "lost")}
    prose.say("Runs: {n}, of them {done} finished, {failed} failed, {lost} lost.", n=len(sweep.runs), **ends)
    if not sweep.axes:
        prose.say("No parameter takes more than one value: there is nothing to compare.")
        return
    values = {axis: sweep.values(axis) for axis in sweep.axes}
    listed = {axis: ", ".join(v if len(v) <= _FEW else [*v[:2], "…", v[-1]]) for axis, v in values.items()}
    counts = {axis: len(v) for axis, v in values.items()}
    _show("What was swept", pd.DataFrame({"Values": listed, "How many": counts}))


def errors(sweep: Sweep) -> None:
    """The runs that did not finish, by their error, and the first point of each."""
    bad = sweep.runs[sweep.runs["status"] != "done"].fillna({"error": "no reason given"})
    if bad.empty:
        prose.say("Every run finished.")
        return
    groups = bad.groupby(["error", "status"], sort=False)
    first = groups[sweep.axes].first().assign(runs=groups.size())
    _show("Runs that did not finish, and the first of each kind", first)


def turned(sweep: Sweep) -> None:
    """The claims whose verdict is not the same in all finished runs, with how often each was given."""
    found = sweep.verdicts
    counts = pd.crosstab(found["claim"], found["verdict"]).reindex(columns=VERDICTS, fill_value=0)
    differ = counts[(counts > 0).sum(axis=1) > 1]
    if not differ.empty:
        _show("Claims whose verdict depends on the run, and in how many runs each was given", differ)
    elif not found.empty:
        prose.say("Every claim got the same verdict in all finished runs.")


def cost(sweep: Sweep) -> None:
    """Seconds and memory, in megabytes of a million bytes, over all runs: mean, spread and quartiles."""
    columns = {"seconds": "seconds", "peak_memory_mb": "peak memory, MB"}
    _show("What the runs took", sweep.runs[list(columns)].rename(columns=columns).describe())


# --- pictures of the page -------------------------------------------------------------------------------------------


def facets(sweep: Sweep) -> None:
    """Each result against each parameter: runs as points, and over all runs with a value their mean and its interval.

    A result that is positive and spans two decades has a logarithmic axis; mean and interval are then those of the
    logarithms.
    """
    done, shape = sweep.done, (len(sweep.results), len(sweep.axes))
    if done.empty or 0 in shape:
        prose.say("No run finished, no parameter was swept, or no result varies: there is nothing to plot.")
        return
    size = (max(7.0, 2.9 * shape[1] + 0.8), 2.4 * shape[0] + 0.9)
    figure, panels = plt.subplots(
        *shape, figsize=size, sharex="col", sharey="row", squeeze=False, layout="constrained"
    )
    shades = done[sweep.color].nunique()
    palette = sns.color_palette("viridis" if shades > len(figures.PALETTE) else figures.PALETTE, shades)
    for (row, at), ax in np.ndenumerate(panels):
        axis, result = sweep.axes[at], sweep.results[row]
        if 0 < done[result].min() < done[result].max() / 100:
            ax.set_yscale("log")
        common = {"data": done, "x": axis, "y": result, "ax": ax}
        mean = {"color": "#222222", "marker": "D", "markersize": 5, "linestyle": "none"}
        legend = (row, at) == (0, shape[1] - 1) and 1 < shades <= _FEW  # one for all
        sns.stripplot(**common, hue=sweep.color, palette=palette, jitter=False, alpha=0.6, legend=legend)
        sns.pointplot(**common, **mean, errorbar=_interval, err_kws={"linewidth": 1.5})
        ax.set(ylabel=result.removesuffix(".mean"))
        ax.tick_params(labelsize=10)
        if len(sweep.values(axis)) > _FEW:
            ax.set_xticks([0, len(sweep.values(axis)) - 1])
        if legend:
            sns.move_legend(ax, "upper left", bbox_to_anchor=(1, 1), title=sweep.color, fontsize=10)
    caption = (
        f"Each point is a run, {len(done)} finished, colored by `{sweep.color}`; diamonds are means over the runs with "
        "that value, whatever their other parameters, bars the 95 % t interval where there are at least three (of the "
        "logarithms, where the axis of a result is logarithmic)."
    )
    alt = f"Plots of {', '.join(sweep.results)}, each against {', '.join(sweep.axes)}. {_trends(sweep)}"
    figures.show(figure, caption=caption, alt=alt, source=facets)


def _interval(values: pd.Series) -> tuple[float, float]:
    if len(values) < _FEWEST:
        return np.nan, np.nan
    found = t_interval(values)
    return found.low, found.high


def _trends(sweep: Sweep) -> str:
    """For each result, a sentence on where along the coloring parameter its mean is lowest and highest."""
    means = sweep.done.groupby(sweep.color, observed=True)[sweep.results].mean()
    return " ".join(
        f"{name} is on average lowest at {sweep.color} = {mean.idxmin()} ({number(mean.min())}), highest at "
        f"{mean.idxmax()} ({number(mean.max())})."
        for name, mean in means.items()
    )


def verdicts(sweep: Sweep) -> None:
    """How often each verdict was given, by the value of each parameter that takes few."""
    counts = sweep.count_verdicts()
    if not counts.to_numpy().any():
        prose.say("The table holds no verdicts of finished runs, or no parameter that takes few values.")
        return
    figure, ax = plt.subplots(figsize=(7.0, 0.36 * len(counts) + 1.2))
    counts.plot.barh(ax=ax, stacked=True, color=list(_COLORS), width=0.8)
    ax.set(xlabel="claims and runs", ylabel="")
    ax.invert_yaxis()
    ax.legend(ncols=3, loc="lower left", bbox_to_anchor=(0, 1), fontsize=10)
    rows = (
        f"{at}: {', '.join(f'{n} {word}' for word, n in row.items() if n)}" for at, row in counts.iterrows()
    )
    caption = f"Verdicts of all claims in {len(sweep.done)} finished runs."
    figures.show(figure, caption=caption, alt=f"Stacked bars. {'; '.join(rows)}.", source=verdicts)


# --- the page of one folder -----------------------------------------------------------------------------------------

_STYLE = """
:root { color-scheme: light dark; --line: #8888; }
body { max-width: 64rem; margin: 2rem auto; padding: 0 1rem; font: 1rem/1.6 system-ui, sans-serif; }
img { max-width: 100%; height: auto; }
figure { margin: 1.5rem 0; }
figcaption, caption { text-align: left; font-size: 0.9rem; }
caption { font-weight: 600; padding: 0.3rem 0; }
table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.3rem 0.7rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
pre { overflow-x: auto; }
.verdict { border: 1px solid var(--line); border-radius: 1em; padding: 0 0.5em; white-space: nowrap; }
"""


def make(folder: Path, book: Book) -> Path:
    """Write ``report.ipynb`` and ``report.html`` into a sweep's folder; returns the path of the second.

    The HTML file needs nothing else: nbconvert's pages would ask the network for their scripts. Raises ``RunFailed``
    when the page failed, as it does without a table; the attempt is kept in the folder.
    """
    given = {"table": str((folder / "table.parquet").resolve())}
    run = runner.run_page(book, "book/sweep-report", given, output=folder / "report.ipynb", use_cache=False)
    cells = [
        cell
        for cell in read_notebook(run.notebook)["cells"]
        if "remove-cell" not in cell.get("metadata", {}).get("tags", [])
    ]
    write_atomically(
        folder / "report.html",
        f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>Sweep in {escape(shown(folder))}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{_STYLE}</style>\n<main>\n{''.join(map(_plain, cells))}\n</main>\n</html>\n",
    )
    return folder / "report.html"


def _plain(cell: dict[str, Any]) -> str:
    """The words of a cell, or the richest of what each of its outputs offers; never its code."""
    markdown = MarkdownIt("commonmark").enable("table")
    if cell["cell_type"] == "markdown":
        return str(markdown.render(source_of(cell)))
    shown = ""
    for output in cell.get("outputs", []):
        data = output.get("data", {})
        if "text/html" in data:
            shown += "".join(data["text/html"])
        elif "text/markdown" in data:
            shown += markdown.render("".join(data["text/markdown"]))
        else:
            shown += f"<pre>{escape(''.join(output.get('text') or data.get('text/plain', '')))}</pre>"
    return shown
