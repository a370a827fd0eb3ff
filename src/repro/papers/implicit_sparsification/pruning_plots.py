"""Pictures of trained and pruned networks. Each takes a table and returns a figure; no computing here."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from repro.papers._pictures import GREY, MARKERS, PALETTE, band, interval_bar, panels, where
from repro.papers.implicit_sparsification.methods import METHODS

__all__ = [
    "accuracy_by_cycle",
    "accuracy_by_strength",
    "error_by_sparsity",
    "flips_and_accuracy",
    "strength_by_epoch",
]

_SHOWN = ("x", "mw", "pilot", "pilot_algorithm", "l1_x", "l1_m", "spred", "str")
_LOOKS = {
    name: {"color": color, "marker": marker, "linestyle": line, "label": METHODS[name].label}
    for name, color, marker, line in zip(
        _SHOWN,
        ("0.1", *PALETTE[:7]),
        MARKERS + "p",
        ("-", "-", "-", "--", "-.", ":", "--", "-."),
        strict=True,
    )
}


def _look(name: str, position: int) -> dict[str, object]:
    """The look of a method, the same on all pictures; methods outside the main comparison count up."""
    if name in _LOOKS:
        return dict(_LOOKS[name])
    color = PALETTE[(position + 3) % len(PALETTE)]
    return {"color": color, "marker": MARKERS[position % len(MARKERS)], "linestyle": "-"} | {
        "label": METHODS[name].label
    }


def _density_axis(axis: Axes, sparsities: Sequence[float]) -> None:
    """A logarithmic axis of the share of weights left, labelled by the share removed."""
    ticks = [s for s in sparsities if s > 0]
    axis.set_xscale("log")
    axis.invert_xaxis()
    axis.set_xticks([1 - s for s in ticks], [f"{100 * s:.4g}" for s in ticks])
    axis.minorticks_off()


def error_by_sparsity(chosen: pd.DataFrame, groups: Sequence[tuple[str, Sequence[str]]]) -> Figure:
    """Test error against sparsity, means over seeds with 95 % intervals; a panel for each group of methods.

    The error stands on a logarithmic axis: good methods differ by a point and bad ones by fifty.

    Args:
        chosen: of ``one_shot.chosen_by_validation``.
        groups: titles and names of methods.
    """
    fig, axes = panels(len(groups), 4.1, 3.9, sharey=True)
    pruned = chosen[chosen["sparsity"] > 0].assign(percent=lambda t: 100 * (1 - t["test_accuracy"]))
    pruned["density"] = 1 - pruned["sparsity"]
    for axis, (title, names) in zip(axes, groups, strict=True):
        for position, name in enumerate(names):
            band(
                axis, where(pruned, method=name), "density", "percent", linewidth=1.4, **_look(name, position)
            )
        _density_axis(axis, sorted(pruned["sparsity"].unique()))
        axis.set(title=title, xlabel="weights removed (%)")
        axis.legend(fontsize=8, loc="upper left")
        axis.set_yscale("log")
        axis.set_yticks([3, 5, 10, 20, 40, 80], ["3", "5", "10", "20", "40", "80"])
        axis.yaxis.set_minor_locator(NullLocator())
    axes[0].set_ylabel("test error (%)")
    return fig


def accuracy_by_strength(frame: pd.DataFrame, sparsity: float, names: Sequence[str]) -> Figure:
    """Test accuracy at one sparsity against the strength of the penalty.

    Args:
        frame: of ``one_shot.pruned_accuracy``.
        sparsity: one of the table.
        names: of methods whose strengths are in one currency.
    """
    fig, axes = panels(1, 5.6, 3.6)
    rows = where(frame, sparsity=sparsity).assign(percent=lambda t: 100 * t["test_accuracy"])
    for position, name in enumerate(names):
        band(axes[0], where(rows, method=name), "strength", "percent", linewidth=1.4, **_look(name, position))
    strengths = sorted(where(rows, method=names[0])["strength"].unique())
    axes[0].set_xscale("log")
    axes[0].set_xticks(strengths, [f"{strength:g}" for strength in strengths])
    axes[0].minorticks_off()
    axes[0].set(
        xlabel="strength α (L1: λ = 2α)", ylabel=f"test accuracy at {100 * sparsity:.3g} % removed (%)"
    )
    axes[0].legend(fontsize=8)
    return fig


def flips_and_accuracy(table: pd.DataFrame, names: Sequence[str]) -> Figure:
    """Share of flipped signs, and accuracy, of the starts: means over seeds with 95 % intervals.

    Args:
        table: columns method, seed, flips (a share), accuracy (of pruned networks, per cent).
        names: of methods, from above.
    """
    fig, axes = panels(2, 4.0, 0.5 * len(names) + 1.4, sharey=True)
    for axis, (column, scale, label) in zip(
        axes,
        (("flips", 100, "largest weights with a flipped sign (%)"), ("accuracy", 1, "test accuracy (%)")),
        strict=True,
    ):
        for y, name in enumerate(names):
            values = scale * where(table, method=name)[column].to_numpy()
            interval_bar(axis, values, y, color=PALETTE[0])
        axis.set(xlabel=label)
        axis.grid(axis="x", color=GREY, alpha=0.3)
    axes[0].set(yticks=range(len(names)), yticklabels=[METHODS[name].label for name in names])
    axes[0].set_ylim(len(names) - 0.5, -0.5)
    return fig


def strength_by_epoch(courses: pd.DataFrame) -> Figure:
    """Strength, dose and L1 norm by epoch, one line a network; a color for each method.

    Args:
        courses: of ``Fit.course``, of one strength a method.
    """
    fig, axes = panels(3, 2.9, 3.2)
    for position, name in enumerate(courses["method"].unique()):
        look = _look(name, position)
        of_method = where(courses, method=name)
        for axis, column in zip(axes, ("alpha", "dose", "l1"), strict=True):
            for k, (_, course) in enumerate(of_method.groupby("seed")):
                label = METHODS[name].label if k == 0 else None
                axis.plot(
                    course["epoch"], course[column], color=look["color"], linestyle=look["linestyle"],
                    linewidth=1, alpha=0.7, label=label,
                )  # fmt: skip
    for axis, label in zip(axes, ("strength α", "dose A", "L1 norm of the weights"), strict=True):
        axis.set(xlabel="epoch", ylabel=label)
    axes[0].set_yscale("log")
    axes[2].set_yscale("log")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return fig


def accuracy_by_cycle(cycles: pd.DataFrame) -> Figure:
    """Test accuracy of iterative pruning against sparsity, a panel for each way to rewind.

    Args:
        cycles: of ``iterative.iterative_pruning``, one strength a method at each sparsity.
    """
    titles = {"rates": "rewound rates (LRR)", "weights": "rewound weights (WR)"}
    fig, axes = panels(2, 4.1, 3.9, sharey=True)
    rows = cycles[cycles["cycle"] > 0].assign(percent=lambda t: 100 * t["test_accuracy"])
    rows["density"] = 1 - rows["sparsity"].round(6)
    for axis, (rewind, title) in zip(axes, titles.items(), strict=True):
        of_rewind = where(rows, rewind=rewind)
        for position, name in enumerate(of_rewind["method"].unique()):
            band(
                axis,
                where(of_rewind, method=name),
                "density",
                "percent",
                linewidth=1.4,
                **_look(name, position),
            )
        _density_axis(axis, sorted(rows["sparsity"].round(6).unique())[::2])
        axis.set(title=title, xlabel="weights removed (%)")
        axis.legend(fontsize=8, loc="lower left")
    axes[0].set_ylabel("test accuracy (%)")
    return fig
