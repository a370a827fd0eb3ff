"""Association of flatness with accuracy: against plain loops and SciPy, on confounded and on null data."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import rankdata, spearmanr

from repro.papers.granger_causal_sgd import association
from repro.papers.granger_causal_sgd.association import MEASURES

ARMS = ("causal", "magnitude", "random", "energy")


def _frame(
    rng: np.random.Generator, n_seeds: int = 6, *, effect: float = 0.0, confounding: float = 0.0
) -> pd.DataFrame:
    """Networks whose log flatness and accuracy share sparsity (``confounding``) and each other (``effect``)."""
    rows = []
    for seed in range(n_seeds):
        base = {"seed": seed, "stopping": "loss", "hessian": "kept", "reached": True}
        rows.append(
            base
            | {"arm": "dense", "sparsity": 0.0, "train_loss": 0.04, "test_accuracy": 0.97}
            | dict.fromkeys(MEASURES, 2.0)
        )
        for arm in ARMS:
            for sparsity in (0.5, 0.7, 0.9):
                flatter = rng.normal()
                log = confounding * sparsity + flatter
                accuracy = 0.97 + 0.01 * (effect * flatter - confounding * sparsity + rng.normal())
                rows.append(
                    base
                    | {"arm": arm, "sparsity": sparsity, "train_loss": 0.04 + 0.01 * rng.random()}
                    | {"test_accuracy": accuracy}
                    | dict.fromkeys(MEASURES, 2.0 * 10.0**log)
                )
    return pd.DataFrame(rows)


def test_without_anything_given_it_is_spearmans() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 5, (2, 40)).astype(float)
    ours = association.partial_rank_correlation(x, y, np.empty((0, 40)))
    assert ours == pytest.approx(spearmanr(x, y).statistic, abs=1e-12)


def test_one_variable_given_is_the_textbook_formula() -> None:
    rng = np.random.default_rng(1)
    x, y, z = rng.normal(size=(3, 30)) + rng.normal(size=30)
    xy, xz, yz = (spearmanr(*pair).statistic for pair in ((x, y), (x, z), (y, z)))
    expected = (xy - xz * yz) / np.sqrt((1 - xz**2) * (1 - yz**2))
    assert association.partial_rank_correlation(x, y, z[None]) == pytest.approx(expected, abs=1e-12)


def test_two_variables_given_agree_with_the_inverse_of_the_correlation_matrix() -> None:
    rng = np.random.default_rng(2)
    values = rng.normal(size=(4, 25)) + 0.7 * rng.normal(size=25)
    inverse = np.linalg.inv(np.corrcoef(rankdata(values, axis=1)))
    expected = -inverse[0, 1] / np.sqrt(inverse[0, 0] * inverse[1, 1])
    ours = association.partial_rank_correlation(values[0], values[1], values[2:])
    assert ours == pytest.approx(expected, abs=1e-12)


@given(arrays(np.float64, (4, 12), elements=st.integers(-4, 4).map(float)))
def test_order_keeping_changes_of_scale_and_renumbering_change_nothing(values: np.ndarray) -> None:
    x, y, *given_ = values
    one = association.partial_rank_correlation(x, y, np.stack(given_))
    other = association.partial_rank_correlation(np.exp(y)[::-1], x[::-1] ** 3, values[2:, ::-1])
    assert one == pytest.approx(other, abs=1e-9, nan_ok=True)
    assert np.isnan(one) or -1 <= one <= 1


def test_a_constant_confounder_is_no_confounder_and_a_determined_variable_has_no_correlation() -> None:
    rng = np.random.default_rng(3)
    x, y, z = rng.normal(size=(3, 20))
    constant = np.stack([z, np.full(20, 0.5)])
    assert association.partial_rank_correlation(x, y, constant) == pytest.approx(
        association.partial_rank_correlation(x, y, z[None])
    )
    assert np.isnan(association.partial_rank_correlation(2 * z, y, z[None]))
    assert np.isnan(association.partial_rank_correlation(np.ones(20), y, z[None]))
    assert np.isnan(association.partial_rank_correlation(x[:4], y[:4], constant[:, :4]))


def test_changes_are_those_of_a_loop_over_networks() -> None:
    frame = _frame(np.random.default_rng(4), 2).sample(frac=1, random_state=0)
    frame.loc[frame["arm"] == "dense", "largest"] = frame["seed"] + 0.5
    changes = association.against_dense(frame)
    assert len(changes) == 2 * 12 * len(MEASURES)
    for row in changes[changes["measure"] == "largest"].itertuples():
        of_seed = frame[frame["seed"] == row.seed]
        dense = of_seed[of_seed["arm"] == "dense"].iloc[0]
        own = of_seed[(of_seed["arm"] == row.arm) & (of_seed["sparsity"] == row.sparsity)].iloc[0]
        assert row.flatness == pytest.approx(np.log10(own["largest"] / dense["largest"]))
        assert row.accuracy == pytest.approx(100 * (own["test_accuracy"] - dense["test_accuracy"]))


def test_protocols_are_kept_apart() -> None:
    rng = np.random.default_rng(5)
    kept = _frame(rng, effect=-3.0)
    other = _frame(rng, effect=3.0).assign(hessian="all")
    table = association.flatness_accuracy(pd.concat([kept, other]), n_resamples=50)
    assert len(table) == 2 * len(MEASURES)
    partial = table.set_index(["measure", "protocol"])["partial"]
    assert (partial.xs("loss-kept", level="protocol") < -0.8).all()
    assert (partial.xs("loss-all", level="protocol") > 0.8).all()
    assert set(table["n_networks"]) == {6 * 12}


def test_an_effect_of_flatness_itself_is_found_in_every_seed() -> None:
    frame = _frame(np.random.default_rng(6), effect=-2.0, confounding=1.0)
    table = association.flatness_accuracy(frame, n_resamples=500)
    assert (table["high"] < 0).all()
    assert (table["low"] <= table["partial"]).all()
    assert (table["partial"] <= table["high"]).all()
    seeds = association.per_seed(frame)
    assert len(seeds) == 6 * len(MEASURES)
    assert (seeds["partial"] < 0).all()


def test_a_single_seed_has_the_correlation_of_its_own_networks() -> None:
    frame = _frame(np.random.default_rng(7), 3)
    alone = association.per_seed(frame[frame["seed"] == 1])
    together = association.per_seed(frame)
    pd.testing.assert_frame_equal(together[together["seed"] == 1].reset_index(drop=True), alone)


def test_what_sparsity_drives_is_a_raw_correlation_and_no_partial_one() -> None:
    raw, partial, held = [], [], 0
    for i in range(15):
        frame = _frame(np.random.default_rng([8, i]), confounding=12.0)
        row = association.flatness_accuracy(frame, n_resamples=99).iloc[0]
        raw.append(row["raw"])
        partial.append(row["partial"])
        held += row["low"] <= 0 <= row["high"]
    assert max(raw) < -0.5
    assert abs(np.mean(partial)) < 0.05
    assert held >= 11


@pytest.mark.parametrize(("n_seeds", "least", "most"), [(5, 0.74, 0.96), (10, 0.8, 0.99)])
def test_intervals_of_unrelated_values_hold_zero_about_as_often_as_said(
    n_seeds: int, least: float, most: float
) -> None:
    rng = np.random.default_rng([9, n_seeds])
    held = []
    for _ in range(60):
        clusters = list(rng.normal(size=(n_seeds, 4, 8)))
        interval = association._over_seeds(clusters, 0.95, 99, seed=0)
        held.append(interval.low <= 0 <= interval.high)
    assert least <= np.mean(held) <= most


def test_the_bootstrap_is_seeded_and_agrees_with_a_plain_loop() -> None:
    clusters = list(np.random.default_rng(10).normal(size=(4, 4, 6)))
    ours = association._over_seeds(clusters, 0.9, 150, seed=3)
    assert ours == association._over_seeds(clusters, 0.9, 150, seed=3)
    rng = np.random.default_rng(3)
    draws = []
    for chosen in rng.integers(4, size=(150, 4)):
        values = np.concatenate([clusters[i] for i in chosen], axis=1)
        draws.append(association.partial_rank_correlation(values[0], values[1], values[2:]))
    assert (ours.low, ours.high) == pytest.approx(tuple(np.quantile(draws, [0.05, 0.95])))


def test_a_measure_that_is_not_positive_leaves_its_network_out() -> None:
    frame = _frame(np.random.default_rng(11), effect=-2.0)
    frame.loc[frame.index[5], "noise_relative"] = -1e-6
    table = association.flatness_accuracy(frame, n_resamples=50).set_index("measure")
    assert table.loc["noise_relative", "n_networks"] == 71
    assert table.loc["largest", "n_networks"] == 72
    frame.loc[frame["arm"] != "dense", "trace"] = 0.0
    table = association.flatness_accuracy(frame, n_resamples=50).set_index("measure")
    assert table.loc["trace", "n_networks"] == 0
    assert table.loc["trace", ["raw", "partial", "low", "high"]].isna().all()


def test_bad_input_is_named() -> None:
    frame = _frame(np.random.default_rng(12), 2)
    with pytest.raises(ValueError, match=r"lacks the columns \['trace'\]"):
        association.per_seed(frame.drop(columns="trace"))
    with pytest.raises(ValueError, match=r"no dense network.*'seed': 1"):
        association.per_seed(frame[(frame["arm"] != "dense") | (frame["seed"] == 0)])
    with pytest.raises(ValueError, match=r"more than one dense network.*'seed': 0"):
        association.per_seed(pd.concat([frame, frame[frame["arm"] == "dense"]]))
    with pytest.raises(ValueError, match="at least two of them, got 1"):
        association.flatness_accuracy(frame[frame["seed"] == 0])
    with pytest.raises(ValueError, match=r"at least 5 pruned networks.*has 3"):
        association.per_seed(frame[frame["arm"].isin(["dense", "causal"])])
    with pytest.raises(ValueError, match=r"between 0 and 1, got 1\.5"):
        association.flatness_accuracy(frame, level=1.5)
    with pytest.raises(ValueError, match="got 0"):
        association.flatness_accuracy(frame, n_resamples=0)
