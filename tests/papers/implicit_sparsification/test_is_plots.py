"""Pictures show what their tables hold."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from repro.papers._pictures import where
from repro.papers.implicit_sparsification import plots


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    plt.close("all")


def test_errors_are_averaged_as_logarithms_and_rates_lie_beside_the_line_of_equality() -> None:
    errors = {"seed": [0, 0, 1, 1], "beta": 1.0, "dose": [0.0, 1.0] * 2, "error": [1, 0.01, 1, 0.0001]}
    (axis,) = plots.error_against_dose(pd.DataFrame(errors)).axes
    assert any(list(line.get_ydata()) == pytest.approx([1, 0.001]) for line in axis.lines)
    rates = {"decay": ["switched off", "slow"], "bound": [0.1, 0.01], "slope": [0.2, 0.005]}
    (axis,) = plots.late_rates(pd.DataFrame(rates)).axes
    np.testing.assert_array_equal(axis.lines[0].get_xdata(), axis.lines[0].get_ydata())
    np.testing.assert_array_equal(axis.collections[0].get_offsets(), [[0.1, 0.2], [0.01, 0.005]])


def test_amplitudes_at_which_a_seed_diverged_are_left_out_and_middles_are_medians() -> None:
    rows = [("weights", "constant", a, s, d) for a, own in ((1, [5, 1, 2]), (2, [3, 1, np.nan]))
            for s, d in enumerate(own)]  # fmt: skip
    table = pd.DataFrame(rows, columns=["family", "schedule", "amplitude", "seed", "distance"])
    (axis,) = plots.distances(table, "amplitude").axes
    assert [list(axis.lines[0].get_xdata()), list(axis.lines[0].get_ydata())] == [[1], [2]]


def test_test_errors_are_means_over_seeds_and_an_arm_has_one_look() -> None:
    names, rng = ["x", "pilot", "powerprop"], np.random.default_rng(0)
    rows = [(n, s, a, p) for n in names for s in range(3) for a in (1e-3, 2e-3) for p in (0.0, 0.5, 0.9)]
    table = pd.DataFrame(rows, columns=["arm", "seed", "strength", "sparsity"])
    table = table.assign(test_accuracy=rng.uniform(0.5, 1, len(rows)))
    one = where(table, strength=1e-3)
    errors = plots.errors_by_arm({"one": one, "other": where(one, arm="pilot")}, "sparsity")
    (strengths,) = plots.errors_by_arm({"": where(table, sparsity=0.9)}, "strength", level=0.9).axes
    error = 100 * (1 - where(one, arm="pilot", sparsity=0.9)["test_accuracy"].mean())
    line, again = (
        next(each for each in axis.lines if each.get_label() == "PILoT")
        for axis in (errors.axes[0], strengths)
    )
    assert dict(zip(*line.get_data(), strict=True))[1 - 0.9] == again.get_ydata()[0] == pytest.approx(error)
    assert again.get_color() == line.get_color() == errors.axes[1].lines[0].get_color()
    assert [label.get_text() for label in errors.axes[0].get_xticklabels()] == ["90", "50"]
