"""Pictures show what their tables hold."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from repro.papers._pictures import where
from repro.papers.implicit_sparsification import experiments, plots
from repro.papers.implicit_sparsification.diagonal import FAMILIES
from repro.papers.implicit_sparsification.measures import best_schedules, chosen_curves
from repro.papers.implicit_sparsification.method import METHODS


@pytest.fixture(scope="module")
def grid() -> pd.DataFrame:
    return experiments.diagonal_grid(range(3), 200, [50, 200])


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    plt.close("all")


def labels(fig: plt.Figure) -> list[str]:
    return [text.get_text() for legend in fig.legends for text in legend.get_texts()]


# ---- flows


def test_potentials_have_a_curve_a_dose_and_two_to_compare_with() -> None:
    fig = plots.potentials(experiments.potential_curves())
    assert labels(fig) == ["A = 0", "A = 0.25", "A = 0.5", "A = 1", "A = 4", "A = 32", "x²", "|x|"]
    assert [axis.get_title() for axis in fig.axes] == ["start at 0", "start at 0.5"]
    assert all(len(axis.lines) == 8 for axis in fig.axes)


def test_flow_paths_have_a_line_and_dots_a_coordinate() -> None:
    table = pd.DataFrame({"coordinate": [0, 0, 3, 3], "true": [1.0, 1.0, 0.0, 0.0], "time": [1.0, 2.0] * 2})
    table = table.assign(beta=1.0, factors=[0.1, 0.2, 0.0, 0.1], mirror=[0.1, 0.2, 0.0, 0.1])
    (axis,) = plots.flow_paths(table).axes
    drawn = [line for line in axis.lines if len(line.get_xdata())]
    assert [line.get_marker() for line in drawn] == ["None", "o"] * 2
    assert drawn[0].get_color() != drawn[2].get_color()
    assert axis.get_title() == "β = 1"


def test_distances_show_both_curves_every_crossing_and_the_dose() -> None:
    times = np.array([1.0, 4.0, 16.0])
    table = pd.concat(
        pd.DataFrame(
            {"seed": seed, "time": times, "dose": times / 20, "l2_distance": [0.1, 0.3, 0.7 + seed / 9]}
        )
        for seed in range(3)
    )
    table["l1_distance"] = 1 - table["l2_distance"]
    fig = plots.distances_over_time(table, pd.DataFrame({"seed": [0, 1, 2], "time": [16.0, np.nan, 16.0]}))
    axis, above = fig.axes
    assert [list(line.get_xdata()) for line in axis.lines].count([16.0, 16.0]) == 2
    assert axis.lines[0].get_ydata() == pytest.approx(table.groupby("time")["l2_distance"].mean().to_numpy())
    assert above.get_xlim() == axis.get_xlim()
    assert [tick.get_text() for tick in above.get_xticklabels()] == ["0.05", "0.2", "0.8"]


def test_errors_are_averaged_as_logarithms_and_rates_lie_beside_the_line_of_equality() -> None:
    errors = {"seed": [0, 0, 1, 1], "beta": 1.0, "dose": [0.0, 1.0] * 2, "error": [1, 0.01, 1, 0.0001]}
    (axis,) = plots.error_against_dose(pd.DataFrame(errors)).axes
    assert axis.lines[-1].get_ydata() == pytest.approx([1, 0.001])
    rates = {"decay": ["switched off", "slow"], "bound": [0.1, 0.01], "slope": [0.2, 0.005]}
    (axis,) = plots.late_rates(pd.DataFrame(rates)).axes
    np.testing.assert_array_equal(axis.lines[-1].get_xdata(), axis.lines[-1].get_ydata())
    assert [list(line.get_ydata()) for line in axis.lines[:2]] == [[0.2], [0.005]]


# ---- diagonal networks


def test_curves_are_medians_over_seeds(grid: pd.DataFrame) -> None:
    curves = chosen_curves(grid, 200)
    axis = plots.distance_by_steps(curves).axes[0]
    lines = {line.get_label(): line for line in axis.lines}
    assert list(lines) == [family.name for family in FAMILIES.values()]
    middle = where(curves, family="pilot").groupby("step")["distance"].median()
    np.testing.assert_allclose(lines["m ⊙ w, unbalanced start"].get_ydata(), middle)
    assert len({line.get_marker() for line in axis.lines}) == len(FAMILIES)
    axis = plots.distance_by_horizon(best_schedules(grid, [50, 200]).query("best")).axes[0]
    assert all(line.get_xdata().tolist() == [50, 200] for line in axis.lines)


def test_amplitudes_at_which_a_seed_diverged_are_left_out(grid: pd.DataFrame) -> None:
    figure = plots.distance_by_amplitude(grid, 200)
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    at = where(grid, family="pilot", schedule="geometric", step=200)
    whole = at.groupby("amplitude")["diverged"].any().eq(False)
    assert 0 < whole.sum() < len(whole)
    assert lines["∝ 0.95ᵏ"].get_xdata().tolist() == whole.index[whole].tolist()


def test_true_coordinates_of_each_family(grid: pd.DataFrame) -> None:
    chosen = chosen_curves(grid, 200).drop_duplicates("family")
    paths = experiments.weight_paths(chosen[chosen["family"].isin(["pilot", "spred"])], 1, 200)
    for axis, key in zip(plots.coordinates(paths).axes, ("pilot", "spred"), strict=True):
        ends = sorted(line.get_ydata()[-1] for line in axis.lines if len(line.get_xdata()) > 2)
        np.testing.assert_allclose(ends, sorted(where(paths, family=key, step=200)["x"]))
        assert {text.get_text() for text in axis.texts} == {f"x{i}" for i in paths["coordinate"]}


# ---- pruned networks


def pruned(names: list[str]) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = [(n, s, a, p) for n in names for s in range(3) for a in (1e-3, 2e-3) for p in (0.0, 0.5, 0.9)]
    table = pd.DataFrame(rows, columns=["method", "seed", "strength", "sparsity"])
    return table.assign(test_accuracy=rng.uniform(0.5, 1, len(rows)))


def test_accuracies_are_means_over_seeds_and_a_method_has_one_look() -> None:
    names = ["x", "pilot", "powerprop"]
    table = pruned(names)
    errors = plots.error_by_sparsity(where(table, strength=1e-3), [("one", names), ("other", ["pilot"])])
    (strengths,) = plots.accuracy_by_strength(table, 0.9, names).axes
    of_pilot = where(table, method="pilot", strength=1e-3, sparsity=0.9)["test_accuracy"].mean()
    line = {line.get_label(): line for line in errors.axes[0].lines}["PILoT"]
    assert [label.get_text() for label in errors.axes[0].get_xticklabels()] == ["50", "90"]
    assert 100 * (1 - of_pilot) == pytest.approx(dict(zip(*line.get_data(), strict=True))[1 - 0.9])
    again = {line.get_label(): line for line in strengths.lines}
    assert list(again) == [METHODS[name].label for name in names]
    assert again["PILoT"].get_ydata()[0] == pytest.approx(100 * of_pilot)
    assert again["PILoT"].get_color() == line.get_color() == errors.axes[1].lines[0].get_color()


def test_cycles_have_a_panel_a_rewind_and_leave_out_the_first() -> None:
    tables = [pruned(["x", "mw"]).assign(rewind=rewind) for rewind in ("rates", "weights")]
    cycles = where(pd.concat(tables), strength=1e-3).assign(cycle=lambda t: (10 * t["sparsity"]).astype(int))
    for axis in plots.accuracy_by_cycle(cycles).axes:
        assert all(sorted(line.get_xdata()) == pytest.approx([0.1, 0.5]) for line in axis.lines)
        assert len(axis.lines) == 2


def test_flips_and_courses_are_those_of_the_tables() -> None:
    table = pd.DataFrame(
        {"method": ["pilot"] * 3, "seed": range(3), "flips": [0.1, 0.2, 0.3], "accuracy": 90.0}
    )
    flips, accuracy = plots.flips_and_accuracy(table, ["pilot"]).axes
    assert flips.lines[-1].get_xdata().tolist() == pytest.approx([20])
    assert accuracy.lines[-1].get_xdata().tolist() == [90]
    courses = pd.DataFrame(
        {"method": ["pilot"] * 4, "seed": [0, 0, 1, 1], "epoch": [1, 2] * 2, "alpha": [1e-3, 2e-3] * 2}
    )
    fig = plots.strength_by_epoch(courses.assign(dose=1.0, l1=[5.0, 4.0, 6.0, 3.0]))
    assert labels(fig) == ["PILoT"]
    assert [line.get_ydata().tolist() for line in fig.axes[2].lines] == [[5, 4], [6, 3]]
