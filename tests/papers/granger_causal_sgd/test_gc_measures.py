"""Differences, shares of variance, phase shifts and associations: known answers, other programs, null data."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
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


def noisy(curve: NDArray, sd: float, n: int) -> list[NDArray]:
    return list(np.clip(curve + np.random.default_rng(0).normal(0, sd, (n, len(S))), 0, 1))


@settings(max_examples=6)
@given(st.floats(0.6, 1.6), st.floats(0.3, 1.5), st.floats(0.7, 0.99), st.floats(0.0, 0.3))
def test_a_logistic_without_noise_comes_back(midpoint, width, high, low):
    found = fit(logistic(U, midpoint, width, high, low)).iloc[0]
    assert found["midpoint"] == pytest.approx(midpoint, abs=1e-3)
    assert found["width"] == pytest.approx(width, abs=5e-3)
    assert (found["high"], found["low"]) == pytest.approx((high, low), abs=5e-3)
    assert found["is_shift"] == (found["width"] <= 1)


def test_no_logistic_of_another_program_fits_better_and_the_rest_is_least_squares():
    (curve,) = noisy(logistic(U, 1.1, 0.7), 0.02, 1)
    bounds = ([0, 0.1, 0, 0], [2, 20, 1, 1])
    (m, w, h, low), _ = curve_fit(logistic, U, curve, p0=(1.0, 0.5, 0.9, 0.1), bounds=bounds)
    rss, n, found = ((logistic(U, m, w, h, low) - curve) ** 2).sum(), len(S), fit(curve).iloc[0]
    assert found["aic_logistic"] <= n * np.log(rss / n) + 10 + 1e-6
    for aic, degree in ((found["aic_line"], 1), (found["aic_quadratic"], 2)):
        _, [rss], _, _ = np.linalg.lstsq(np.vander(U, degree + 1), curve)
        assert aic == pytest.approx(n * np.log(rss / n) + 2 * (degree + 2))


@pytest.mark.parametrize(
    ("curve", "sd", "at_most"),
    [
        (0.95 - 0.4 * U, 0.03, 1),
        (0.95 - 0.15 * U**2, 0.005, 1),
        (logistic(U, 1.2, 1.5), 0.01, 1),
        (np.full(len(S), 0.9), 0.02, 3),
    ],
    ids=["line", "parabola", "wide fall", "mere noise"],
)
def test_of_five_seeds_few_show_a_shift_where_there_is_none(curve, sd, at_most):
    assert fit(*noisy(curve, sd, 5))["is_shift"].sum() <= at_most


def test_a_fall_between_two_points_has_the_least_width_and_what_never_falls_has_no_midpoint():
    found = fit(np.where(U > 1.1, 0.1, 0.95), np.full(8, 0.9), 0.5 + 0.2 * U)
    assert 1.0 < found["midpoint"].iloc[0] < 1.31
    assert found["width"].iloc[0] == pytest.approx(np.diff(U).min() / 2, rel=0.01)
    assert found["is_shift"].tolist() == [True, False, False]
    assert found[["midpoint", "width"]].iloc[1:].isna().all(axis=None)
    assert np.isfinite(found[["aic_logistic", "aic_line", "aic_quadratic"]]).all(axis=None)
    with pytest.raises(ValueError, match="at least 7 sparsities are needed, got 6"):
        fit(U[:6] / 9)


def test_the_knee_is_the_last_sparsity_before_the_fall_by_the_validation_part():
    # midpoints 1.2 and 1.5, width .4: .8 and 1.1 decades; where all falls, 0
    shapes = {("early", 0): (1.2, 0.4), ("early", 1): (1.5, 0.4), ("at once", 0): (0.5, 1.5)}
    frame = curves({key: np.append(0.95, logistic(U[1:], *shape)) for key, shape in shapes.items()})
    found = measures.phase_shifts(frame)
    assert found.loc["early", "knee"].tolist() == [0.8, 0.9]
    assert found.loc[("at once", 0), "knee"] == 0.0
    wanted = 100 * (logistic(U[3], 1.2, 0.4) - 0.95)
    assert found.loc[("early", 0), "difference"] == pytest.approx(wanted)
    assert measures.phase_shifts(frame.assign(test_accuracy=0.5))["knee"].tolist() == found["knee"].tolist()
    assert (
        measures.phase_shifts(frame.assign(validation_accuracy=0.5))[["knee", "difference"]]
        .isna()
        .all(axis=None)
    )


# --- flatness and accuracy ------------------------------------------------------------------------------------


def flat(
    rng: np.random.Generator, n_seeds: int = 6, effect: float = 0.0, confounding: float = 0.0
) -> pd.DataFrame:
    """Networks whose log flatness and accuracy share sparsity (``confounding``) and each other (``effect``)."""
    rows = []
    for seed in range(n_seeds):
        base = {"seed": seed, "stopping": "loss", "hessian": "kept"}
        dense = {"arm": "dense", "sparsity": 0.0, "train_loss": 0.04, "test_accuracy": 0.97}
        rows.append(base | dense | {"largest": 2.0, "noise": 2.0})
        for arm, sparsity in product(("causal", "magnitude", "random", "energy"), (0.5, 0.7, 0.9)):
            flatter = rng.normal()
            size = 2.0 * 10.0 ** (confounding * sparsity + flatter)
            accuracy = 0.97 + 0.01 * (effect * flatter - confounding * sparsity + rng.normal())
            pruned = {"arm": arm, "sparsity": sparsity, "train_loss": 0.04 + 0.01 * rng.random()}
            rows.append(base | pruned | {"test_accuracy": accuracy, "largest": size, "noise": size})
    return pd.DataFrame(rows)


def correlated(flatness: NDArray, accuracy: NDArray, sparsity: NDArray, loss: NDArray) -> pd.Series:
    """Raw and partial correlation of one seed's networks; a dense network of flatness and accuracy 0 goes first."""
    columns = {"largest": 10.0**flatness, "test_accuracy": accuracy, "sparsity": sparsity, "train_loss": loss}
    dense = pd.DataFrame({"arm": ["dense"]} | {name: [float(name == "largest")] for name in columns})
    frame = pd.concat([dense, pd.DataFrame(columns).assign(arm="pruned")])
    frame = frame.assign(seed=0, stopping="loss", hessian="kept", noise=frame["largest"])
    return measures.flatness_accuracy(frame).iloc[0]


def test_it_agrees_with_spearman_the_textbook_formula_and_the_inverse_of_the_correlation_matrix():
    ties = np.random.default_rng(0).integers(0, 5, (2, 40)).astype(float)
    constant = np.full(40, 0.5)
    alone = correlated(*ties, constant, constant)
    assert (alone["raw"], alone["partial"]) == pytest.approx((spearmanr(*ties).statistic,) * 2)
    values = np.random.default_rng(2).normal(size=(4, 40)) + 0.7 * np.random.default_rng(3).normal(size=40)
    x, y, z = values[:3]
    xy, xz, yz = (spearmanr(*pair).statistic for pair in ((x, y), (x, z), (y, z)))
    one = (xy - xz * yz) / np.sqrt((1 - xz**2) * (1 - yz**2))
    assert correlated(x, y, z, constant)["partial"] == pytest.approx(one, abs=1e-12)
    inverse = np.linalg.inv(np.corrcoef(rankdata(values, axis=1)))
    two = -inverse[0, 1] / np.sqrt(inverse[0, 0] * inverse[1, 1])
    assert correlated(*values)["partial"] == pytest.approx(two, abs=1e-12)
    for bad in (values[[2, 1, 2, 3]], values[:, :4]):  # determined by what is given, and too few
        assert np.isnan(correlated(*bad)["partial"])


def test_changes_are_those_of_a_loop_over_networks():
    frame = flat(np.random.default_rng(4), 2).sample(frac=1, random_state=0)
    frame.loc[frame["arm"] == "dense", "largest"] = frame["seed"] + 0.5
    changes = measures.against_dense(frame)
    assert len(changes) == 2 * 12 * 2
    for row in changes[changes["measure"] == "largest"].itertuples():
        of_seed = frame[frame["seed"] == row.seed]
        dense = of_seed[of_seed["arm"] == "dense"].iloc[0]
        own = of_seed[(of_seed["arm"] == row.arm) & (of_seed["sparsity"] == row.sparsity)].iloc[0]
        assert row.flatness == pytest.approx(np.log10(own["largest"] / dense["largest"]))
        assert row.accuracy == pytest.approx(100 * (own["test_accuracy"] - dense["test_accuracy"]))


def test_an_effect_of_flatness_itself_is_found_in_every_seed_and_protocols_are_kept_apart(monkeypatch):
    monkeypatch.setattr(measures, "_RESAMPLES", 199)
    rng = np.random.default_rng(6)
    frame = flat(rng, effect=-2.0, confounding=1.0)
    table = measures.flatness_accuracy(pd.concat([frame, flat(rng, effect=3.0).assign(hessian="all")]))
    table = table.set_index(["protocol", "measure"]).sort_index()
    assert (table.loc["loss-kept"]["high"] < 0).all()
    assert (table.loc["loss-all"]["low"] > 0).all()
    seeds = measures.per_seed(frame)
    assert len(seeds) == 6 * 2
    assert (seeds["partial"] < 0).all()
    alone = measures.per_seed(frame[frame["seed"] == 1])
    pd.testing.assert_frame_equal(seeds[seeds["seed"] == 1].reset_index(drop=True), alone)


def test_what_sparsity_drives_is_a_raw_correlation_and_no_partial_one(monkeypatch):
    monkeypatch.setattr(measures, "_RESAMPLES", 49)
    frames = [flat(np.random.default_rng([8, i]), confounding=12.0) for i in range(8)]
    rows = pd.DataFrame([measures.flatness_accuracy(frame).iloc[0] for frame in frames])
    assert rows["raw"].max() < -0.5
    assert abs(rows["partial"].mean()) < 0.07
    assert ((rows["low"] <= 0) & (rows["high"] >= 0)).sum() >= 5


def test_the_bootstrap_agrees_with_a_plain_loop(monkeypatch):
    monkeypatch.setattr(measures, "_RESAMPLES", 150)
    clusters = list(np.random.default_rng(10).normal(size=(4, 4, 6)))
    draws = []
    for chosen in np.random.default_rng(0).integers(4, size=(150, 4)):
        values = np.concatenate([clusters[i] for i in chosen], axis=1)
        inverse = np.linalg.inv(np.corrcoef(rankdata(values, axis=1)))
        draws.append(-inverse[0, 1] / np.sqrt(inverse[0, 0] * inverse[1, 1]))
    assert measures._over_seeds(clusters) == pytest.approx(tuple(np.quantile(draws, [0.025, 0.975])))


def test_a_measure_that_is_not_positive_leaves_its_network_out():
    frame = flat(np.random.default_rng(11), 2, effect=-2.0)
    frame.loc[frame.index[5], "noise"] = -1e-6
    changes = measures.against_dense(frame).set_index("measure")["flatness"]
    assert (changes.isna().sum(), changes["noise"].isna().sum()) == (1, 1)
    for noise, gone in ((frame["noise"], False), (frame["noise"].where(frame["arm"] == "dense", 0.0), True)):
        table = measures.flatness_accuracy(frame.assign(noise=noise)).set_index("measure")
        missing = table.loc["noise", ["raw", "partial", "low", "high"]].isna()
        assert (missing == gone).all()
