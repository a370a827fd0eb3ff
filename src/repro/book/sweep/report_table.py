"""The table of a sweep, read and understood: what was swept, what came out, and what is worth drawing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from repro.book.errors import BadInput, BookError, nearest
from repro.book.layout import Book

__all__ = ["FEW", "Sweep", "read"]

FEW = 12
"""Up to so many values of a parameter are taken one by one."""
_DRAWN = 4
_FIXED = ("id", "status", "error", "seconds", "peak_memory_mb")


@dataclass(frozen=True)
class Sweep:
    """A sweep as its table tells it.

    ``runs`` has one row a run; ``axes`` are the parameters that take several values, ``results`` the columns of
    results to draw, ``color`` the axis that gives a run its color (None when nothing was swept). ``chapter`` and
    ``n_points`` stand in the plan beside the table and are None without one.
    """

    runs: pd.DataFrame
    axes: tuple[str, ...]
    results: tuple[str, ...]
    color: str | None
    chapter: str | None = None
    n_points: int | None = None

    @cached_property
    def done(self) -> pd.DataFrame:
        """The runs that finished."""
        return self.runs[self.runs["status"] == "done"]

    @cached_property
    def ended_badly(self) -> pd.DataFrame:
        """The runs that failed or were lost."""
        return self.runs[self.runs["status"] != "done"]

    @property
    def claims(self) -> list[str]:
        """The claims that have a verdict, in the order of the table."""
        return [name.removesuffix(".verdict") for name in self.runs.columns if _is_verdict(name)]

    def values(self, axis: str) -> list[object]:
        """The different values of a parameter: numbers in rising order, words as they come."""
        found = list(self.runs[axis].drop_duplicates())
        return sorted(found) if is_numeric(self.runs[axis]) else found


def is_numeric(column: pd.Series) -> bool:
    """Whether a column holds numbers; truth values are words here."""
    return bool(pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column))


def _is_verdict(name: str) -> bool:
    """``CLAIM.verdict``, not the ``CLAIM.TEST.verdict`` of a single test."""
    return name.endswith(".verdict") and name.count(".") == 1


def read(table: str | Path, *, color: str = "", columns: str = "") -> Sweep:
    """The sweep whose table is this file, ``.csv`` or ``.parquet``.

    Args:
        table: its path, from the working directory or from the book's folder.
        color: the parameter that gives a run its color (default: the first swept one, seed last).
        columns: results to draw, ``CLAIM.TEST`` with commas between (default: the four that ``color`` moves most).

    Raises:
        BadInput: no such file, not the table of a sweep, no run in it, an unknown parameter or result.
    """
    path = _found(Path(table))
    runs = _frame(path)
    for name in _FIXED:
        if name not in runs.columns:
            raise BadInput(f"{path.name} is not the table of a sweep: it has no column {name!r}")
    if runs.empty:
        raise BadInput(f"{path.name} holds no run")
    names = list(runs.columns)
    parameters = names[names.index("id") + 1 : names.index("status")]
    # an empty field of a column of words is the empty word
    runs = runs.fillna({name: "" for name in parameters if not pd.api.types.is_numeric_dtype(runs[name])})
    if color and color not in parameters:
        raise BadInput(f"there is no parameter {color!r} to color by; {nearest(color, parameters)}")
    done = runs[runs["status"] == "done"]
    axes = _axes(runs, parameters)
    wanted = [name.strip() for name in columns.split(",") if name.strip()]
    chapter, n_points = _plan(path)
    # colors by seed would tell runs apart that differ by chance alone
    told_apart = color or [*(axis for axis in axes if axis != "seed"), *axes, None][0]
    results = [_result(runs, name) for name in wanted] or _most_moved(done, told_apart)
    return Sweep(runs, axes, tuple(results), told_apart, chapter, n_points)


def _found(table: Path) -> Path:
    if table.is_file():
        return table
    try:
        inside = Book.find().root / table
    except BookError:
        inside = table
    if not inside.is_file():
        raise BadInput(f"there is no table {str(table)!r}; a sweep writes table.csv and table.parquet")
    return inside


def _frame(path: Path) -> pd.DataFrame:
    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        if path.suffix == ".csv":
            # "None" and "NA" are words that a parameter may well take; only an empty field is missing
            return pd.read_csv(path, keep_default_na=False, na_values=[""])
    except Exception as error:  # whatever the two readers raise for bytes that are no table
        told = " ".join(str(error).split())
        raise BadInput(f"{path.name} is not a readable table: {told or type(error).__name__}") from None
    raise BadInput(f"the table of a sweep ends in .csv or .parquet, got {path.name!r}")


def _plan(path: Path) -> tuple[str | None, int | None]:
    """Chapter and number of points from the plan beside a table: ``sweep.json``, or the table's own name."""
    for name in (path.with_suffix(".json"), path.with_name("sweep.json")):
        try:
            plan = json.loads(name.read_text(encoding="utf-8"))
            return str(plan["chapter"]), len(plan["points"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None, None


def _axes(runs: pd.DataFrame, parameters: list[str]) -> tuple[str, ...]:
    """The parameters with several values, without those that only follow the profile."""
    varied = [name for name in parameters if runs[name].nunique(dropna=False) > 1]
    if "profile" in varied:
        profiles = runs.groupby("profile", sort=False)
        varied = [
            name for name in varied if name == "profile" or profiles[name].nunique(dropna=False).max() > 1
        ]
    return tuple(varied)


def _result(runs: pd.DataFrame, name: str) -> str:
    known = [column for column in runs.columns if column.endswith(".mean")]
    full = name if name in known else f"{name}.mean"
    if full not in known:
        raise BadInput(
            f"there is no result {name!r}; {nearest(name, [column.removesuffix('.mean') for column in known])}"
        )
    if not is_numeric(runs[full]):
        raise BadInput(f"the result {name!r} was measured in no run")
    return full


def _most_moved(done: pd.DataFrame, axis: str | None) -> list[str]:
    r"""The results that the axis moves most: largest share of variance between its values, $\eta^2$.

    Not those that vary most: what a solver leaves of a zero varies by its whole size. Where the axis has one run a
    value everything lies between values, and $s/\overline{|x|}$ decides.
    """
    ranks: dict[str, tuple[float, float]] = {}
    for name in done.columns:
        if not name.endswith(".mean") or not is_numeric(done[name]):
            continue
        values = done[name].astype(np.float64).replace([np.inf, -np.inf], np.nan).dropna()
        if len(values) > 1 and np.ptp(values) > 0:
            groups = values.groupby(done.loc[values.index, axis]) if axis else None
            between = groups.transform("mean").var(ddof=0) / values.var(ddof=0) if groups is not None else 0.0
            spread = values.std(ddof=1) / values.abs().mean()
            ranks[name] = (round(float(between), 9), float(spread))
    return sorted(ranks, key=lambda name: ranks[name], reverse=True)[:_DRAWN]
