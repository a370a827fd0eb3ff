"""What the page of a sweep shows, cell by cell: what was swept, pictures, verdicts, cost.

Where there is nothing to show, each says so in one sentence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

import pandas as pd

from repro.book import figures, prose
from repro.book.markup import badge, inline_html, number
from repro.book.sweep import report_pictures as pictures
from repro.book.sweep import report_verdicts
from repro.book.sweep.report_scale import Scale, told
from repro.book.sweep.report_table import FEW, Sweep, read
from repro.book.verdicts import VERDICTS

__all__ = ["cost", "errors", "facets", "parallel", "read", "swept", "turned", "verdicts"]


def _show_table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Display a table; ``rows`` hold HTML, the first cell of each names the row."""
    from IPython.display import HTML, display

    titles = "".join(f'<th scope="col">{escape(title)}</th>' for title in head)
    body = "".join(
        f'<tr><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in rest)}</tr>'
        for first, *rest in rows
    )
    display(
        HTML(
            f'<div style="overflow-x:auto" role="region" aria-label="{escape(caption)}" tabindex="0">'
            f'<table class="dataframe"><caption>{escape(caption)}</caption>'
            f"<thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table></div>"
        )
    )


def swept(sweep: Sweep) -> None:
    """How many runs there are and how they ended, and a table of the parameters that take several values."""
    counts = sweep.runs["status"].value_counts()
    n_done, n_failed, n_lost = (int(counts.get(word, 0)) for word in ("done", "failed", "lost"))
    of = f" of the chapter `{sweep.chapter}`" if sweep.chapter else ""
    prose.say(
        "The table holds {n} {runs}" + of + ": {done} finished, {failed} failed, {lost} lost.",
        n=len(sweep.runs),
        runs="run" if len(sweep.runs) == 1 else "runs",
        done=n_done,
        failed=n_failed,
        lost=n_lost,
    )
    if sweep.n_points is not None and sweep.n_points > len(sweep.runs):
        prose.say(
            "The sweep has {n} points; {left} of them have no run yet.",
            n=sweep.n_points,
            left=sweep.n_points - len(sweep.runs),
        )
    if not sweep.axes:
        prose.say("No parameter takes more than one value: there is nothing to compare.")
        return
    rows = [[f"<code>{escape(axis)}</code>", *map(escape, _axis_told(sweep, axis))] for axis in sweep.axes]
    _show_table("What was swept", ("Parameter", "Values", "How many", "Spacing"), rows)


def _axis_told(sweep: Sweep, axis: str) -> tuple[str, str, str]:
    values = sweep.values(axis)
    listed = values if len(values) <= FEW else [values[0], values[1], "…", values[-1]]
    spacing = {"words": "–", "linear": "linear", "log": "geometric"}[Scale.of(sweep.runs[axis]).kind]
    return ", ".join(map(told, listed)), str(len(values)), spacing


def errors(sweep: Sweep) -> None:
    """The runs that did not finish, by their error."""
    bad = sweep.ended_badly
    if bad.empty:
        prose.say("Every run finished.")
        return
    rows = []
    for (status, error), runs in bad.fillna({"error": "no reason given"}).groupby(
        ["status", "error"], sort=False
    ):
        points = "; ".join(_point(sweep, run) for _, run in runs.head(3).iterrows())
        more = f" and {len(runs) - 3} more" * (len(runs) > 3)
        rows.append([escape(str(error)), escape(str(status)), str(len(runs)), escape(points + more)])
    _show_table("Runs that did not finish", ("Error", "Status", "Runs", "At"), rows)


def _point(sweep: Sweep, run: pd.Series) -> str:
    return ", ".join(f"{axis} = {told(run[axis])}" for axis in sweep.axes) or str(run["id"])


def _show(sweep: Sweep, draw: Callable[[Sweep], pictures.Picture | None], nothing: str) -> None:
    picture = draw(sweep)
    if picture is None:
        prose.say("No run finished: there is nothing to draw." if sweep.done.empty else nothing)
        return
    figures.show(picture.figure, caption=picture.caption, alt=picture.alt, source=draw)


def parallel(sweep: Sweep) -> None:
    """The parallel coordinates of all finished runs."""
    _show(
        sweep,
        pictures.parallel,
        "Fewer than two parameters and results vary: parallel axes would show nothing.",
    )


def facets(sweep: Sweep) -> None:
    """Each chosen result against each swept parameter."""
    _show(sweep, pictures.facets, "No parameter was swept, or no result varies: there is nothing to plot.")


def verdicts(sweep: Sweep) -> None:
    """How many claims got each verdict, by parameter."""
    _show(sweep, report_verdicts.verdicts, "The table holds no verdicts.")


def turned(sweep: Sweep) -> None:
    """The claims whose verdict is not the same in all finished runs, with how often each was given."""
    rows = []
    for claim in sweep.claims:
        counts = sweep.done[f"{claim}.verdict"].value_counts()
        if len(counts) > 1:
            given = [f"{badge(word)} {counts[word]}" for word in VERDICTS if word in counts]
            rows.append([escape(claim), "<br>".join(given)])
    if rows:
        _show_table("Claims whose verdict depends on the run", ("Claim", "Verdicts, in runs"), rows)
    elif sweep.claims and not sweep.done.empty:
        prose.say("Every claim got the same verdict in all finished runs.")


def cost(sweep: Sweep) -> None:
    """Seconds and memory: of all runs, and by the value of each parameter that takes few."""
    rows = [_cost_row("all runs", sweep.runs)]
    for axis in sweep.axes:
        values = sweep.values(axis)
        if len(values) <= FEW:
            rows += [
                _cost_row(f"`{axis}` = {told(value)}", sweep.runs[sweep.runs[axis] == value])
                for value in values
            ]
    head = ("Runs", "How many", "Seconds, mean", "Seconds, most", "Minutes, all", "Peak memory, MB")
    _show_table("What the runs took", head, rows)


def _cost_row(name: str, runs: pd.DataFrame) -> list[str]:
    seconds, memory = runs["seconds"].astype(float), runs["peak_memory_mb"].astype(float)
    numbers = (seconds.mean(), seconds.max(), seconds.sum() / 60)
    return [inline_html(name), str(len(runs)), *map(number, numbers), f"{memory.max():,.0f}"]
