"""All runs of a table, curves of sparsity, rankings and spectra; the pictures draw what they are given."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from repro.papers.chaos_causality_pruning import plots, pruning_plots, rankings
from repro.papers.chaos_causality_pruning.comparisons import (
    compare_decisions,
    delete_without_retraining,
    overlaps,
    retrain_arms,
)
from repro.papers.chaos_causality_pruning.experiments import runs_of
from repro.papers.chaos_causality_pruning.measures import faster_shares
from repro.papers.chaos_causality_pruning.sparsity import accuracy_against_sparsity


@pytest.fixture(scope="module")
def arms(observed_wine):
    return retrain_arms(observed_wine, 2)


def test_accuracy_falls_with_sparsity_and_least_by_magnitude(observed_wine):
    table = accuracy_against_sparsity(observed_wine, [0.0, 0.9], epochs=15)
    means = table.groupby(["score", "sparsity"])["test_accuracy"].mean()
    assert means["random", 0.0] == means["noncausal", 0.0] == means["magnitude after", 0.0]
    assert means["random", 0.9] < means["random", 0.0]
    assert means["magnitude after", 0.9] >= means["random", 0.9]


def test_rankings_agree_perfectly_where_nothing_is_pruned(observed_wine, arms):
    table = rankings.feature_rankings(observed_wine, arms, n_random=2, n_examples=5)
    assert table[["spearman", "kendall"]].abs().max().max() <= 1 + 1e-12
    nothing = arms.runs.query("arm == 'noncausal' and kept == n_weights")
    for _, run in nothing.iterrows():
        same = table[
            (table["seed"] == run["seed"])
            & (table["variant"] == run["variant"])
            & (table["arm"] == "noncausal")
        ]
        assert same["spearman"].item() == pytest.approx(1)
    excess = rankings.ranking_excess(table, "ft")
    assert excess.index.names == ["table", "seed"]


def test_spectra_of_all_layers(arms):
    table = rankings.layer_exponents(arms, ("ft", "noncausal"))
    assert table["layer"].unique().tolist() == [1, 2]
    assert (table.groupby("layer")["seed"].nunique() == 4).all()
    assert (table["alpha"] > 1).all()


def test_the_pictures_draw(observed_wine, arms):
    decisions = observed_wine.decisions("ft")
    figures = [
        plots.causal_map(observed_wine.initial.sizes, {"own": decisions[0], "other": decisions[1]}),
        plots.causal_shares(compare_decisions(observed_wine)),
        pruning_plots.deletions(delete_without_retraining(observed_wine, 20)),
        pruning_plots.overlaps(overlaps(observed_wine)),
        pruning_plots.ranks_among_random({"wine": faster_shares(arms.runs, "ft").to_numpy()}),
        pruning_plots.sparsity_curves(accuracy_against_sparsity(observed_wine, [0.0, 0.5], epochs=1), "wine"),
    ]
    assert all(isinstance(figure, Figure) and figure.axes for figure in figures)


def test_runs_of_a_table_have_all_parts():
    runs = runs_of(["breast_cancer_10"], [0, 1], n_random=2, epoch_share=0.3, n_ranked=1)
    for frame in (runs.retrained, runs.decisions, runs.deletions, runs.overlaps, runs.rankings):
        assert isinstance(frame, pd.DataFrame)
        assert frame["table"].unique().tolist() == ["breast_cancer_10"]
        assert frame["seed"].nunique() == 2
    assert np.isfinite(runs.retrained["test_accuracy"]).all()


@pytest.mark.parametrize("share", [0, 1.5])
def test_epoch_share_is_checked_before_any_work(share):
    with pytest.raises(ValueError, match=f"epoch_share must lie in .0, 1.; got {share}"):
        runs_of(["wine"], [0], n_random=1, epoch_share=share)
