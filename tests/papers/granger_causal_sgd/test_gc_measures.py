"""Differences, shares of variance, phase shifts and associations: known answers, other programs, null data."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.optimize import curve_fit
from scipy.stats import rankdata, spearmanr
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from repro.papers.granger_causal_sgd import measures

# --- differences and shares -----------------------------------------------------------------------------------


def test_differences_are_taken_seed_by_seed_in_percentage_points():
    rows = [
        (0, "dense", 0.0, 0.9), (1, "dense", 0.0, 0.8),
        (0, "a", 0.5, 0.95), (1, "a", 0.5, 0.7), (0, "a", 0.9, 0.6), (1, "a", 0.9, 0.5),
        (1, "b", 0.9, 0.4), (0, "b", 0.9, 0.7), (1, "b", 0.5, 0.9), (0, "b", 0.5, 0.9),
    ]  # fmt: skip
    frame = pd.DataFrame(rows, columns=["seed", "arm", "sparsity", "test_accuracy"])
    for arm, other, sparsities, wanted in (
        ("a", "b", [0.5, 0.9], {0: -2.5, 1: -5}),
        ("a", "dense", [0.5, 0.9], {0: -12.5, 1: -20}),
        ("dense", "a", [0.9], {0: 30, 1: 30}),
    ):
        assert measures.difference(frame, arm, other, sparsities).to_dict() == pytest.approx(wanted)


def test_shares_are_those_of_an_analysis_of_variance():
    rows = product((1e-9, 1e-8, 1e-7), (1, 2), (2, 5), range(2))
    frame = pd.DataFrame(rows, columns=["alpha", "iteration", "epochs", "seed"])
    frame["sparsity"] = np.random.default_rng(0).standard_normal(24)
    shares = measures.variance_shares(frame, "sparsity", ["alpha", "iteration"])
    for seed, some in frame.groupby("seed"):
        squares = anova_lm(ols("sparsity ~ C(alpha) + C(iteration)", data=some).fit(), typ=2)["sum_sq"]
        total = ((some["sparsity"] - some["sparsity"].mean()) ** 2).sum()
        assert shares.loc[seed].tolist() == pytest.approx((squares / total).tolist())


# --- phase shift ----------------------------------------------------------------------------------------------

S = np.array([0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99])
U = -np.log10(1 - S)


def logistic(u: NDArray, midpoint: float, width: float, high: float = 0.96, low: float = 0.1) -> NDArray:
    return low + (high - low) / (1 + 81 ** ((u - midpoint) / width))


def curves(accuracies: dict[tuple[str, int], NDArray]) -> pd.DataFrame:
    """Accuracies by arm and seed, the first of them of the dense network; test a point below validation."""
    rows = [
        (seed, arm if s else "dense", s, a, a - 0.01)
        for (arm, seed), curve in accuracies.items()
        for s, a in zip(S[: len(curve)], curve, strict=True)
    ]
    frame = pd.DataFrame(rows, columns=["seed", "arm", "sparsity", "validation_accuracy", "test_accuracy"])
    return frame.drop_duplicates()


def fit(*accuracies: NDArray) -> pd.DataFrame:
    frame = curves({("causal", seed): curve for seed, curve in enumerate(accuracies)})
    frame = frame.assign(test_accuracy=frame["validation_accuracy"]).sample(frac=1, random_state=0)
    return measures.phase_shifts(frame).sort_index()


@pytest.mark.parametrize(("midpoint", "width"), [(0.8, 0.3), (1.1, 0.6), (1.3, 0.9), (1.4, 1.5)])
def test_a_logistic_without_noise_comes_back_within_the_grid(midpoint, width):
    found = fit(logistic(U, midpoint, width)).iloc[0]
    assert found["midpoint"] == pytest.approx(midpoint, abs=0.04)
    assert found["width"] == pytest.approx(width, rel=0.1)
    assert found["is_shift"] == (width <= 1)


def test_the_grid_comes_as_close_as_another_program_and_the_rest_is_least_squares():
    curve = logistic(U, 1.1, 0.7) + np.random.default_rng(0).normal(0, 0.02, len(S))
    n, found = len(S), fit(curve).iloc[0]

    def aic(shape, start, bounds, k):
        found = curve_fit(shape, U, curve, p0=start, bounds=bounds, max_nfev=10_000)[0]
        return n * np.log(((shape(U, *found) - curve) ** 2).mean()) + 2 * k

    others = (
        aic(lambda u, h, d: h - d * u, (1, 0.1), ([0, 0], [2, 2]), 3),
        aic(lambda u, h, d, p: h - d * u**p, (1, 0.1, 2), ([0, 0, 0.25], [2, 2, 8]), 4),
        aic(lambda u, h, d, c: h - d * np.maximum(u - c, 0), (1, 0.5, 0.8), ([0, 0, 0], [2, 5, 1.7]), 4),
        aic(lambda u, h, d, c: h - d * np.exp(-(10.0**-u) / 10**c), (1, 1, -1), ([0, 0, -3], [5, 5, 1]), 4),
    )
    wanted = aic(logistic, (1.0, 0.5, 0.9, 0.1), ([0, 0.1, 0, 0], [2, 8, 1, 1]), 5) - min(others)
    assert found["gain"] == pytest.approx(wanted, abs=1)


def test_curves_of_known_shape_are_called_a_shift_where_they_have_one():
    """Steps are found, and what saturates, bends or is level passes in one of eight at most."""
    alarms = measures.false_alarms([0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99], [0.005, 0.02], 200)
    assert (alarms.iloc[0] > 0.95).all()
    assert alarms.iloc[1:].max(axis=None) < 0.125
    assert len(alarms) == 6


def test_a_fall_between_two_points_is_narrow_and_what_never_falls_is_no_shift():
    found = fit(np.where(U > 1.1, 0.1, 0.95), np.full(8, 0.9), 0.5 + 0.2 * U)
    assert 1.0 < found["midpoint"].iloc[0] < 1.31
    assert found["width"].iloc[0] < np.diff(U).min()
    assert found["is_shift"].tolist() == [True, False, False]
    assert np.isfinite(found["gain"]).all()
    with pytest.raises(ValueError, match="at least 7 sparsities are needed, got 6"):
        fit(U[:6] / 9)


def test_the_knee_is_the_last_sparsity_within_the_tolerance_by_the_validation_part():
    lost = {("a", 0): [0, 0.4, 0.8, 2.5, 0.9, 30, 60, 90], ("a", 1): [0, 5, 5, 5, 5, 5, 5, 5]}
    frame = curves({key: 0.9 - np.array(each) / 100 for key, each in lost.items()})
    found = measures.knees(frame, [0.5, 1, 3])
    assert found["decades"].unstack("tolerance").loc["a", 0].tolist() == pytest.approx([np.log10(2), 1, 1])
    assert found.loc[(0.5, "a", 0), "difference"] == pytest.approx(-0.4)
    assert found.xs(1, level="seed")["decades"].tolist() == [0, 0, 0]


def test_the_steepest_fall_does_not_hang_on_the_grid():
    grid = np.geomspace(1e-12, 1e-10, 17)
    for shift in (0, 0.1, 0.3):
        u = np.log10(grid) + 11 + shift
        rows = pd.DataFrame({"seed": 0, "alpha": grid, "test_accuracy": 0.1 + 0.8 / (1 + np.exp(u / 0.05))})
        assert measures.steepest(rows, 0.5)[0] == pytest.approx(80, abs=2)
        largest = -np.diff(rows["test_accuracy"][::2]).min()
        assert measures.steepest(rows[::2], 0.25)[0] == pytest.approx(100 * largest)


# --- flatness and accuracy ------------------------------------------------------------------------------------


def flat(seed: int, n_seeds: int = 6, effect: float = 0.0, confounding: float = 0.0) -> pd.DataFrame:
    """Networks whose log flatness and accuracy share sparsity (``confounding``) and each other (``effect``)."""
    arms = [("dense", 0.0), *product(("causal", "magnitude", "random", "energy"), (0.5, 0.7, 0.9))]
    rows = [(i, "loss", *arm) for i in range(n_seeds) for arm in arms]
    table = pd.DataFrame(rows, columns=["seed", "stopping", "arm", "sparsity"])
    draws = np.random.default_rng(seed).normal(size=(3, len(table)))
    flatter, noise, loss = draws * (table["sparsity"].to_numpy() > 0)  # the dense network is as it is
    driven = confounding * table["sparsity"]
    sizes = dict.fromkeys(("all", "kept", "noise"), 2.0 * 10.0 ** (driven + flatter))
    accuracy = 0.97 + 0.01 * (effect * flatter - driven + noise)
    return table.assign(train_loss=0.04 + 0.003 * loss, test_accuracy=accuracy, **sizes)


def correlated(*values: NDArray) -> pd.Series:
    """Raw and partial correlation of one seed's networks, given flatness, accuracy, sparsity and training loss."""
    columns = dict(zip(("all", "accuracy", "sparsity", "train_loss"), values, strict=True))
    return measures.associations(pd.DataFrame(columns).assign(seed=0), "all").loc[0]


def test_it_agrees_with_spearman_and_the_inverse_of_the_correlation_matrix():
    ties = np.random.default_rng(0).integers(0, 5, (2, 40)).astype(float)
    constant = np.full(40, 0.5)
    alone = correlated(*ties, constant, constant)
    assert (alone["raw"], alone["partial"]) == pytest.approx((spearmanr(*ties).statistic,) * 2)
    values = np.random.default_rng(2).normal(size=(4, 40)) + 0.7 * np.random.default_rng(3).normal(size=40)
    for given in (values, [*values[:3], constant]):
        inverse = np.linalg.inv(np.corrcoef(rankdata([v for v in given if v is not constant], axis=1)))
        partial = -inverse[0, 1] / np.sqrt(inverse[0, 0] * inverse[1, 1])
        assert correlated(*given)["partial"] == pytest.approx(partial, abs=1e-12)
    for bad in (values[[2, 1, 2, 3]], values[:, :4]):  # determined by what is given, and too few
        assert np.isnan(correlated(*bad)["partial"])


def test_changes_are_those_of_a_loop_over_networks():
    frame = flat(4, 2).sample(frac=1, random_state=0)
    frame.loc[frame["arm"] == "dense", "all"] = frame["seed"] + 0.5
    changes = measures.against_dense(frame)
    assert len(changes) == 2 * 12
    for row in changes.itertuples():
        of_seed = frame[frame["seed"] == row.seed]
        dense = of_seed[of_seed["arm"] == "dense"].iloc[0]
        own = of_seed[(of_seed["arm"] == row.arm) & (of_seed["sparsity"] == row.sparsity)].iloc[0]
        assert row.all == pytest.approx(np.log10(own["all"] / dense["all"]))
        assert row.accuracy == pytest.approx(100 * (own["test_accuracy"] - dense["test_accuracy"]))


def test_an_effect_of_flatness_itself_is_found_in_every_seed_and_one_that_sparsity_drives_is_a_raw_one():
    changes = measures.against_dense(flat(6, effect=-2.0, confounding=1.0))
    found = measures.associations(changes, "noise")
    assert list(found.index) == list(range(6))
    assert (found["partial"] < 0).all()
    driven = measures.associations(measures.against_dense(flat(8, 40, confounding=12.0)), "all")
    assert driven["raw"].mean() < -0.7
    assert abs(driven["partial"].mean()) < 0.15


def test_a_measure_that_is_not_positive_leaves_its_network_out():
    frame = flat(11, 2, effect=-2.0)
    frame.loc[frame.index[5], "noise"] = -1e-6
    changes = measures.against_dense(frame)
    assert (changes["noise"].isna().sum(), changes["all"].isna().sum()) == (1, 0)
    assert measures.associations(changes, "noise")["partial"].notna().all()
