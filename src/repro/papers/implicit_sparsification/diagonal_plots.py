"""Pictures of diagonal linear networks. Each takes a table and returns a figure; no computing here."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from repro.papers._pictures import GREY, MARKERS, PALETTE, panels, where
from repro.papers.implicit_sparsification.diagonal_families import FAMILIES

__all__ = ["coordinates", "distance_by_amplitude", "distance_by_horizon", "distance_by_steps"]

_DISTANCE = "distance to the truth, ‖x − x*‖₂"
_LOOKS = {
    key: {"color": PALETTE[j], "marker": MARKERS[j], "linestyle": line}
    for j, (key, line) in enumerate(zip(FAMILIES, ("-", "--", "-.", ":", "-", "--"), strict=True))
}
_SCHEDULE_NAMES = {
    "constant": "constant",
    "harmonic": "∝ 1/k",
    "quadratic": "∝ 1/k²",
    "geometric": "∝ 0.95ᵏ",
}


def distance_by_steps(curves: pd.DataFrame) -> Figure:
    """Distance against steps, a curve a family: medians over seeds, in bands that hold all seeds.

    Args:
        curves: of ``chosen_curves``, or rows of ``grid`` with one setting a family.
    """
    fig, axes = panels(1, 6.6, 4.0)
    shown = _families(curves)
    for key in shown:
        _median_and_range(axes[0], where(curves, family=key), "step", label=FAMILIES[key].name, **_LOOKS[key])
    axes[0].set(xscale="log", yscale="log", xlabel="step", ylabel=_DISTANCE)
    axes[0].set_xlim(curves["step"].max() / 1000, curves["step"].max())
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return fig


def distance_by_horizon(tuned: pd.DataFrame) -> Figure:
    """Distance against the number of steps allowed, with schedule and amplitude tuned for each.

    Args:
        tuned: of ``families_at_horizons``.
    """
    fig, axes = panels(1, 6.6, 4.0)
    for key in _families(tuned):
        rows = where(tuned, family=key)
        _median_and_range(axes[0], rows, "horizon", label=FAMILIES[key].name, **_LOOKS[key])
    horizons = sorted(tuned["horizon"].unique())
    axes[0].set(xscale="log", yscale="log", xlabel="steps in all", ylabel=_DISTANCE)
    axes[0].set_xticks(horizons, [f"{horizon:,}" for horizon in horizons])
    axes[0].minorticks_off()
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return fig


def distance_by_amplitude(
    frame: pd.DataFrame, horizon: int, families: Sequence[str] = ("pilot", "mask_l1", "weights")
) -> Figure:
    """Distance at a step against the amplitude, a panel a family and a curve a schedule.

    Amplitudes at which a seed diverged are left out.

    Args:
        frame: of ``grid``.
        horizon: a recorded step.
        families: of the panels.
    """
    at = where(frame, step=horizon)
    fig, axes = panels(len(families), 3.1, 3.7, sharey=True)
    for axis, key in zip(axes, families, strict=True):
        for j, (schedule, name) in enumerate(_SCHEDULE_NAMES.items()):
            rows = where(at, family=key, schedule=schedule)
            complete = rows.groupby("amplitude")["diverged"].transform("any").eq(False)
            look = {"color": PALETTE[j], "marker": MARKERS[j], "label": name}
            if complete.any():
                _median_and_range(axis, rows[complete], "amplitude", **look)
        axis.set(xscale="log", yscale="log", title=FAMILIES[key].name, xlabel="amplitude α₀")
    axes[0].set_ylabel(_DISTANCE)
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return fig


def coordinates(paths: pd.DataFrame) -> Figure:
    """The weights at the places of the truth's non-zeros against steps, a panel a family; dotted: the truth.

    Args:
        paths: of ``trajectories``.
    """
    shown = _families(paths)
    fig, axes = panels(len(shown), 3.7, 3.4, sharey=True)
    colors = dict(zip(sorted(paths["coordinate"].unique()), cycle(PALETTE), strict=False))
    for axis, key in zip(axes, shown, strict=True):
        for value in sorted(paths["x_star"].unique()):
            axis.axhline(value, color=GREY, linestyle=":", linewidth=1.2)
        axis.axhline(0, color=GREY, linewidth=0.8)
        last = where(paths, family=key, step=paths["step"].max()).sort_values("x")
        for j, place in enumerate(last["coordinate"]):
            rows, color = where(paths, family=key, coordinate=place), colors[place]
            first, aim = rows["x"].iloc[0], rows["x_star"].iloc[0]
            axis.plot(rows["step"], rows["x"], color=color, linewidth=1.3)
            axis.plot(0, first, "^" if aim > 0 else "v", color=color, markersize=6, clip_on=False)
            height = (j + 0.5) / len(last)
            axis.text(
                1.02, height, f"x{place}", transform=axis.transAxes, color=color, fontsize=8, va="center"
            )
        axis.set(xscale="symlog", title=FAMILIES[key].name, xlabel="step")
        axis.set_xlim(0, paths["step"].max())
    axes[0].set_ylabel("weight (▲ ▼ at the start: sign of the truth)")
    return fig


def _families(table: pd.DataFrame) -> list[str]:
    present = set(table["family"])
    return [key for key in FAMILIES if key in present]


def _median_and_range(axis: Axes, rows: pd.DataFrame, x: str, **look: object) -> None:
    """The median distance over seeds at each x, with all seeds inside the band: they can differ by decades."""
    found = rows.dropna(subset="distance").groupby(x)["distance"].agg(["median", "min", "max"])
    (line,) = axis.plot(found.index, found["median"], markersize=4, linewidth=1.4, **look)  # type: ignore[arg-type]
    axis.fill_between(
        found.index, found["min"], found["max"], color=line.get_color(), alpha=0.15, linewidth=0
    )
