"""Pictures show what their tables hold."""

from __future__ import annotations

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from repro.papers.implicit_sparsification.bias_experiments import potential_curves
from repro.papers.implicit_sparsification.theory_plots import (
    distances_over_time,
    error_against_dose,
    flow_paths,
    late_rates,
    potentials,
)

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


def _labels(fig):
    return [text.get_text() for legend in fig.legends for text in legend.get_texts()]


def test_potentials_have_a_curve_a_dose_and_two_to_compare_with():
    fig = potentials([potential_curves([0.0, 1.0]), potential_curves([0.0, 1.0], x0=0.5)])
    assert _labels(fig) == ["A = 0", "A = 1", "x²", "|x|"]
    assert [axis.get_title() for axis in fig.axes] == ["start at 0", "start at 0.5"]
    assert all(len(axis.lines) == 4 for axis in fig.axes)


def test_flow_paths_have_a_line_and_dots_a_coordinate():
    table = pd.DataFrame({"coordinate": [0, 0, 3, 3], "true": [1.0, 1.0, 0.0, 0.0], "time": [1.0, 2.0] * 2})
    table = table.assign(factors=[0.1, 0.2, 0.0, 0.1], mirror=[0.1, 0.2, 0.0, 0.1])
    (axis,) = flow_paths([("β = 1", table)]).axes
    drawn = [line for line in axis.lines if len(line.get_xdata())]
    assert len(drawn) == 4
    assert [line.get_marker() for line in drawn] == ["None", "o"] * 2
    assert drawn[0].get_color() != drawn[2].get_color()


def test_distances_show_both_curves_and_every_crossing():
    times = np.array([1.0, 4.0, 16.0])
    table = pd.concat(
        pd.DataFrame(
            {"seed": seed, "time": times, "dose": times / 20, "l2_distance": [0.1, 0.3, 0.7 + seed / 9]}
        )
        for seed in range(3)
    )
    table["l1_distance"] = 1 - table["l2_distance"]
    fig = distances_over_time(table, pd.DataFrame({"seed": [0, 1, 2], "time": [16.0, np.nan, 16.0]}))
    axis = fig.axes[0]
    upright = [line for line in axis.lines if list(line.get_xdata()) == [16.0, 16.0]]
    assert len(upright) == 2
    assert axis.lines[0].get_ydata() == pytest.approx(table.groupby("time")["l2_distance"].mean().to_numpy())
    above = fig.axes[1]
    assert above.get_xlim() == axis.get_xlim()
    assert [tick.get_text() for tick in above.get_xticklabels()] == ["0.05", "0.2", "0.8"]


def test_errors_are_averaged_as_logarithms():
    table = pd.DataFrame(
        {"seed": [0, 0, 1, 1], "beta": 1.0, "dose": [0.0, 1.0] * 2, "error": [1, 0.01, 1, 0.0001]}
    )
    (axis,) = error_against_dose(table).axes
    assert axis.lines[-1].get_ydata() == pytest.approx([1, 0.001])
    assert axis.texts[0].get_text() == "β = 1"
    assert axis.get_yscale() == "log"


def test_late_rates_lie_beside_the_line_of_equality():
    table = pd.DataFrame({"decay": ["switched off", "slow"], "bound": [0.1, 0.01], "slope": [0.2, 0.005]})
    (axis,) = late_rates(table).axes
    np.testing.assert_array_equal(axis.lines[-1].get_xdata(), axis.lines[-1].get_ydata())
    assert [list(line.get_ydata()) for line in axis.lines[:2]] == [[0.2], [0.005]]
