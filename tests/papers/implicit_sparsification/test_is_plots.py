"""Pictures show what their tables hold."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from repro.papers._pictures import where
from repro.papers.implicit_sparsification import experiments, plots


@pytest.fixture(scope="module")
def grid() -> pd.DataFrame:
    return experiments.diagonal_grid(range(2), 100, [50, 100])


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    plt.close("all")


def test_errors_are_averaged_as_logarithms_and_rates_lie_beside_the_line_of_equality() -> None:
    errors = {"seed": [0, 0, 1, 1], "beta": 1.0, "dose": [0.0, 1.0] * 2, "error": [1, 0.01, 1, 0.0001]}
    (axis,) = plots.error_against_dose(pd.DataFrame(errors)).axes
    assert axis.lines[-1].get_ydata() == pytest.approx([1, 0.001])
    rates = {"decay": ["switched off", "slow"], "bound": [0.1, 0.01], "slope": [0.2, 0.005]}
    (axis,) = plots.late_rates(pd.DataFrame(rates)).axes
    np.testing.assert_array_equal(axis.lines[-1].get_xdata(), axis.lines[-1].get_ydata())
    assert [list(line.get_ydata()) for line in axis.lines[:2]] == [[0.2], [0.005]]


def test_amplitudes_at_which_a_seed_diverged_are_left_out(grid: pd.DataFrame) -> None:
    gone = (grid["amplitude"] == grid["amplitude"].max()) & (grid["seed"] == 1)
    figure = plots.distance_by_amplitude(grid.assign(diverged=gone), 100)
    lines = {line.get_label(): line for line in figure.axes[1].lines}
    amplitudes = sorted(where(grid, family="mask_l1", schedule="geometric")["amplitude"].unique())
    assert lines["∝ 0.95ᵏ"].get_xdata().tolist() == amplitudes[:-1]


def pruned(names: list[str]) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = [(n, s, a, p) for n in names for s in range(3) for a in (1e-3, 2e-3) for p in (0.0, 0.5, 0.9)]
    table = pd.DataFrame(rows, columns=["arm", "seed", "strength", "sparsity"])
    return table.assign(test_accuracy=rng.uniform(0.5, 1, len(rows)))


def test_accuracies_are_means_over_seeds_and_an_arm_has_one_look() -> None:
    names = ["x", "pilot", "powerprop"]
    table = pruned(names)
    errors = plots.error_by_sparsity(where(table, strength=1e-3), [("one", names), ("other", ["pilot"])])
    (strengths,) = plots.accuracy_by_strength(where(table, sparsity=0.9), 0.9).axes
    of_pilot = where(table, arm="pilot", strength=1e-3, sparsity=0.9)["test_accuracy"].mean()
    line = {line.get_label(): line for line in errors.axes[0].lines}["PILoT"]
    assert [label.get_text() for label in errors.axes[0].get_xticklabels()] == ["50", "90"]
    assert 100 * (1 - of_pilot) == pytest.approx(dict(zip(*line.get_data(), strict=True))[1 - 0.9])
    again = {line.get_label(): line for line in strengths.lines}
    assert again["PILoT"].get_ydata()[0] == pytest.approx(100 * of_pilot)
    assert again["PILoT"].get_color() == line.get_color() == errors.axes[1].lines[0].get_color()
