"""Decisions, deletions, overlaps and retraining of one observed run, against slow versions."""

from __future__ import annotations

import numpy as np
import pytest

from repro.papers.chaos_causality_pruning.arms import ARMS, masks
from repro.papers.chaos_causality_pruning.comparisons import (
    COUNTERPARTS,
    compare_decisions,
    delete_without_retraining,
    jaccard,
    overlaps,
    retrain_arms,
    share_below,
)
from repro.papers.chaos_causality_pruning.decisions import decide
from repro.papers.chaos_causality_pruning.descent import accuracy
from repro.papers.chaos_causality_pruning.observation import observe
from repro.papers.chaos_causality_pruning.retraining import retrain
from repro.papers.chaos_causality_pruning.settings import SETTINGS, setting
from repro.prune.overlap import expected_jaccard


def test_every_counterpart_is_tested_with_the_papers_rule_and_with_f(observed_wine):
    table = compare_decisions(observed_wine)
    for variant in ("ft", "pt"):
        for rule in ("paper", "f_test"):
            chosen = table[
                (table["variant"] == variant) & (table["rule"] == rule) & (table["part"] == "validation")
            ]
            assert set(chosen["series"]) == set(COUNTERPARTS)
            assert (chosen.groupby("series")["seed"].nunique() == 4).all()
    assert ((table["causal"] + table["non_causal"] + table["untestable"]).round(9) == 1).all()


def test_the_strangers_exponents_meet_the_networks_own_errors(observed_wine):
    table = compare_decisions(observed_wine)
    chosen = table.query("variant == 'ft' and series == 'stranger' and rule == 'paper'").set_index("seed")
    for i, seed in enumerate(observed_wine.seeds):
        y, x = observed_wine.errors("ft")[i], observed_wine.series("ft", "stranger")[i]
        assert chosen.loc[seed, "causal"] == decide(y, x, max_lag=5).causal.mean()


def test_own_stranger_and_nudged_are_different_networks_on_the_same_data(observed_wine):
    own, stranger, nudged = (
        observed_wine.networks(role).flat().numpy() for role in ("own", "stranger", "nudged")
    )
    assert np.abs(own - stranger).max() > 0.1
    change = np.abs(nudged / own - 1)
    assert 1e-5 < change.mean() < 1e-3
    series = {role: observed_wine.series("ft", role) for role in ("own", "stranger", "nudged")}
    assert not np.allclose(series["own"], series["stranger"])
    assert np.corrcoef(series["own"].ravel(), series["nudged"].ravel())[0, 1] > 0.9


def test_networks_learned(observed_wine):
    trained = observed_wine.trained
    assert accuracy(trained, observed_wine.parts.train).min() > 0.9


def test_retrained_arms_are_what_retraining_one_by_one_gives(observed_wine):
    arms = retrain_arms(observed_wine, 2)
    runs = arms.runs
    assert set(runs.loc[runs["variant"] == "ft", "arm"]) == set(ARMS)
    s = observed_wine.setting
    keep = masks(observed_wine, "ft", 2)["causal"][:, 0]
    alone = retrain(
        observed_wine.networks("own"),
        keep,
        observed_wine.parts.train,
        observed_wine.parts.test,
        learning_rate=s.learning_rate,
        benchmark=s.benchmark,
        cap=s.epochs + 50,
    )
    chosen = runs[(runs["variant"] == "ft") & (runs["arm"] == "causal")]
    assert chosen["epochs"].tolist() == alone.epochs.tolist()
    assert chosen["test_accuracy"].to_numpy() == pytest.approx(alone.test_accuracy)
    assert chosen["kept"].tolist() == alone.kept.tolist()


def test_dense_arm_is_not_masked_and_the_stranger_starts_elsewhere(observed_wine):
    arms = retrain_arms(observed_wine, 1)
    dense = arms.runs[arms.runs["variant"] == "dense"].reset_index(drop=True)
    assert (dense["kept"] == dense["n_weights"]).all()
    picked = arms.retrained.networks.pick(dense.index.to_numpy()).flat()
    assert not np.allclose(picked[0], picked[1])


def test_deleting_large_weights_hurts_more_than_deleting_small_ones(observed_wine):
    table = delete_without_retraining(observed_wine, 100)
    ranks = table[table["variant"] == "ft"].groupby("arm")["share_below"].mean()
    assert ranks["largest"] > 0.7
    assert ranks["magnitude after"] < 0.3
    assert table["share_below"].between(0, 1).all()


def test_deleting_nothing_is_in_the_middle_of_nothing():
    assert share_below(np.full(7, 3.0), 3.0) == 0.5
    assert share_below(np.array([1.0, 2.0, 3.0, 4.0]), 3.0) == 0.625


def test_overlaps_compare_with_chance(observed_wine):
    table = overlaps(observed_wine)
    assert set(table["pair"]) == {"late and early", "nudged", "stranger"}
    assert table["jaccard"].between(0, 1).all()


@pytest.mark.parametrize(("k", "m", "n"), [(3, 4, 10), (1, 1, 5), (5, 5, 5), (0, 3, 6)])
def test_expected_jaccard_is_the_mean_over_random_sets(k, m, n):
    rng = np.random.default_rng(0)

    def one_set(size):
        chosen = np.zeros(n, bool)
        chosen[rng.choice(n, size, replace=False)] = True
        return chosen

    mean = np.mean([jaccard(one_set(k), one_set(m)) for _ in range(4000)])
    assert expected_jaccard(k, m, n) == pytest.approx(mean, abs=0.015)


def test_two_empty_sets_agree():
    assert jaccard(np.zeros(4, bool), np.zeros(4, bool)) == 1
    assert expected_jaccard(0, 0, 4) == 1


def test_no_seeds_is_an_error():
    with pytest.raises(ValueError, match="at least one seed"):
        observe(setting("wine"), [])


def test_an_unknown_setting_names_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'wine'"):
        setting("wines")


def test_partial_runs_see_about_a_tenth_and_enough_windows():
    for name in ("iris", "wine", "breast_cancer_10"):
        s = SETTINGS[name]
        assert s.early_epochs is not None
        assert s.early_epochs / s.epochs <= 0.2
