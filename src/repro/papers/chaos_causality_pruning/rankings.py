"""Which features and which spectra survive pruning (claims C9 and C10)."""

from __future__ import annotations

import pandas as pd

from repro.papers.chaos_causality_pruning.attributions import mean_absolute_shapley, rank_agreement
from repro.papers.chaos_causality_pruning.comparisons import RetrainedArms
from repro.papers.chaos_causality_pruning.observation import Observed
from repro.papers.chaos_causality_pruning.spectra import layer_spectrum, power_law_alpha

__all__ = ["feature_rankings", "layer_exponents", "ranking_excess"]

COMPARED = (
    ("dense", "stranger"),
    ("ft", "noncausal"),
    ("ft", "random"),
    ("pt", "noncausal"),
    ("pt", "random"),
)


def feature_rankings(
    observed: Observed, arms: RetrainedArms, *, n_random: int = 10, n_examples: int = 30
) -> pd.DataFrame:
    """Compare each retrained network's ranking of the input features with the dense network's.

    Features are ranked by the mean absolute Shapley value of the outputs over test examples and classes, against
    the mean training example.

    Args:
        observed: dense training, for the data.
        arms: retrained networks, taken at the epoch at which they stopped.
        n_random: random masks a seed and variant, of those there are.
        n_examples: test examples, of those there are.

    Returns:
        One row a (variant, arm, draw, seed) but the dense one: rank correlations ``spearman`` and ``kendall``.
    """
    runs = arms.runs.reset_index(drop=True)
    wanted = runs["variant"].eq("dense") & runs["arm"].eq("dense")
    for variant, arm in COMPARED:
        wanted |= runs["variant"].eq(variant) & runs["arm"].eq(arm) & (runs["draw"] < n_random)
    rows = []
    for i, seed in enumerate(observed.seeds):
        chosen = runs[wanted & runs["seed"].eq(seed)]
        networks = arms.retrained.networks.pick(chosen.index.to_numpy())
        background = observed.parts.train.x[i].mean(0)
        values = mean_absolute_shapley(networks, background, observed.parts.test.x[i][:n_examples])
        dense = values[(chosen["arm"] == "dense").to_numpy()][0]
        for of_network, (_, run) in zip(values, chosen.iterrows(), strict=True):
            if run["arm"] != "dense":
                agreement = rank_agreement(dense, of_network)
                rows.append(
                    {"table": observed.setting.name, "seed": seed, "draw": run["draw"]}
                    | {"variant": run["variant"], "arm": run["arm"]}
                    | {"spearman": agreement.spearman, "kendall": agreement.kendall}
                )
    return pd.DataFrame(rows)


def ranking_excess(table: pd.DataFrame, variant: str) -> pd.Series:
    """Return LEGCNet's rank correlation minus the mean of random masks, by table and seed."""
    means = table[table["variant"] == variant].groupby(["arm", "table", "seed"])["spearman"].mean()
    return means.loc["noncausal"] - means.loc["random"]


def layer_exponents(arms: RetrainedArms, arm: tuple[str, str]) -> pd.DataFrame:
    """Fit a power law to the spectrum of every layer of an arm's networks.

    Returns:
        One row a (seed, layer), layers from 1: ``alpha``, and ``n_tail``, the number of eigenvalues it rests on.
    """
    runs = arms.runs.reset_index(drop=True)
    chosen = runs[(runs["variant"] == arm[0]) & (runs["arm"] == arm[1])]
    networks = arms.retrained.networks.pick(chosen.index.to_numpy())
    rows = []
    for layer, stacked in enumerate(networks.weights, start=1):
        for seed, weight in zip(chosen["seed"], stacked.numpy(), strict=True):
            found = power_law_alpha(layer_spectrum(weight))
            rows.append({"seed": seed, "layer": layer, "alpha": found.alpha, "n_tail": found.n_tail})
    return pd.DataFrame(rows)
