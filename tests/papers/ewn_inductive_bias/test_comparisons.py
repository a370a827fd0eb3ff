"""Differences between methods seed by seed, the authors' numbers, and the pictures, on tables made by hand."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from repro.papers.ewn_inductive_bias import authors_logs, comparisons, plots
from repro.papers.ewn_inductive_bias.image_experiments import ImageTables
from repro.papers.ewn_inductive_bias.synthetic import SIMPLE_TRAJ_STARTS
from repro.papers.ewn_inductive_bias.two_weights import exact_point

mpl.use("Agg")
EMPTY = pd.DataFrame()


@pytest.fixture(autouse=True)
def _closed_figures():
    yield
    plt.close("all")


def tables(rows: list[tuple[str, int, float, float, float]], score: str = "length") -> ImageTables:
    """From (method, seed, z, percent removed, accuracy)."""
    columns = ["method", "seed", "z", "pruned_percent", "accuracy"]
    accuracy = pd.DataFrame(rows, columns=columns).assign(score=score, n_removed=0)
    return ImageTables(EMPTY, EMPTY, accuracy)


def test_the_advantage_is_against_the_better_method_of_the_same_seed() -> None:
    first = [("plain", 0, 9.0, 90.0, 40.0), ("swn", 0, 9.0, 90.0, 50.0), ("ewn", 0, 9.0, 90.0, 70.0)]
    second = [("plain", 1, 9.0, 90.0, 60.0), ("swn", 1, 9.0, 90.0, 20.0), ("ewn", 1, 9.0, 90.0, 55.0)]
    found = comparisons.pruning_advantage(tables(first + second), 9.0)
    assert found.to_dict() == {0: 20.0, 1: -5.0}


def test_a_seed_without_all_methods_is_no_pair() -> None:
    rows = [("plain", 0, 9.0, 90.0, 40.0), ("swn", 0, 9.0, 90.0, 50.0), ("ewn", 0, 9.0, 90.0, 70.0)]
    found = comparisons.pruning_advantage(tables([*rows, ("ewn", 1, 9.0, 90.0, 99.0)]), 9.0)
    assert found.to_dict() == {0: 20.0}


def test_the_price_is_read_before_pruning_and_positive_when_ewn_is_worse() -> None:
    rows = [("plain", 3, 9.0, 0.0, 95.0), ("ewn", 3, 9.0, 0.0, 93.5), ("ewn", 3, 9.0, 90.0, 10.0)]
    assert comparisons.accuracy_price(tables(rows), 9.0).to_dict() == {3: 1.5}


def test_best_of_scores_takes_the_highest_of_the_authors_scores() -> None:
    low = tables([("plain", 0, 9.0, 50.0, 30.0), ("ewn", 0, 9.0, 50.0, 40.0)]).accuracy
    high = low.assign(score="since start", accuracy=[80.0, 60.0])
    ignored = low.assign(score="with outgoing", accuracy=[99.0, 99.0])
    both = ImageTables(EMPTY, EMPTY, pd.concat([low, high, ignored]))
    assert comparisons.pruning_advantage(both, 9.0, 50.0, ("plain",), "best").to_dict() == {0: -20.0}
    assert comparisons.pruning_advantage(both, 9.0, 50.0, ("plain",)).to_dict() == {0: 10.0}
    listed = comparisons.accuracy_by_score(both, 9.0, 50.0)
    assert listed.loc["with outgoing", "ewn"] == 99.0
    assert listed["plain"].loc["best of scores (on the test set)"] == 80.0


def test_asking_where_nothing_was_measured_names_what_was() -> None:
    rows = [("plain", 0, 9.0, 90.0, 40.0), ("ewn", 0, 9.0, 90.0, 70.0)]
    with pytest.raises(ValueError, match=r"z = 10.*z: 9\.0"):
        comparisons.pruning_advantage(tables(rows), 10.0)


def test_the_authors_mnist_numbers_give_the_differences_that_their_logs_are_quoted_for() -> None:
    best = authors_logs.mnist_pruning("best").query("pruned_percent == 90")
    wide = best.pivot(index="z", columns="method", values="accuracy")
    np.testing.assert_allclose((wide["ewn"] - wide["plain"]).round(1), [-10.8, 3.9, 14.0], atol=0.11)
    np.testing.assert_allclose((wide["ewn"] - wide["swn"]).round(1), [-2.1, 6.6, 17.4], atol=0.11)
    length = authors_logs.mnist_pruning("length")
    # the best of several scores is never below one of them
    merged = length.merge(authors_logs.mnist_pruning("best"), on=["pruned_percent", "method", "z"])
    assert (merged["accuracy_y"] >= merged["accuracy_x"]).all()
    with pytest.raises(ValueError, match="'worst'"):
        authors_logs.mnist_pruning("worst")


def test_two_weights_draws_every_start_on_its_exact_path() -> None:
    figure = plots.two_weights()
    plain, ewn = figure.axes
    paths = [line for line in ewn.lines if len(line.get_xdata()) > 2]
    assert len(paths) == len(SIMPLE_TRAJ_STARTS)
    for start, line in zip(SIMPLE_TRAJ_STARTS, paths, strict=True):
        np.testing.assert_allclose(
            [line.get_xdata()[-1], line.get_ydata()[-1]], exact_point(start, 50.0, "ewn")
        )
    slopes = [
        np.diff(line.get_ydata()) / np.diff(line.get_xdata())
        for line in plain.lines
        if len(line.get_xdata()) > 2
    ]
    np.testing.assert_allclose(np.concatenate(slopes), 0.5, rtol=1e-6)


def test_pruning_curves_say_over_how_many_seeds_and_show_no_band_for_one() -> None:
    rows = [("plain", s, 9.0, p, 90.0 - p + s) for s in range(3) for p in (0.0, 50.0)]
    rows += [("ewn", 0, 9.0, p, 95.0 - p) for p in (0.0, 50.0)]
    figure = plots.pruning(tables(rows).accuracy, [9.0], methods=("plain", "ewn"))
    (axis,), (legend,) = figure.axes, figure.legends
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels == ["plain (t 95 %, 3 seeds)", "EWN (1 seed, no interval)"]
    assert len(axis.collections) == 1  # one band, that of the method with several seeds
    np.testing.assert_allclose(axis.lines[0].get_ydata(), [91.0, 41.0])
