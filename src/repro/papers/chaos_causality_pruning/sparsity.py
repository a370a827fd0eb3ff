"""Accuracy against sparsity: any share of the weights removed by p-value, by magnitude, or at random."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

from repro.papers.chaos_causality_pruning.descent import accuracy, descend
from repro.papers.chaos_causality_pruning.observation import Observed
from repro.prune.selection import keep_highest, n_to_prune

__all__ = ["SCORES", "accuracy_against_sparsity"]

SCORES = ("noncausal", "magnitude after", "random")


def accuracy_against_sparsity(
    observed: Observed, sparsities: Sequence[float], *, n_random: int = 3, epochs: int | None = None
) -> pd.DataFrame:
    """Remove the least causal, the smallest, or random weights, retrain from the start, and test.

    The paper's rule has no dial: it removes what it removes. Ranking weights by their p-value, largest first,
    gives it one. Only tested weights are ranked; all methods remove the same number over all layers.

    Args:
        observed: dense training.
        sparsities: shares of the tested weights to remove, in [0, 1).
        n_random: random masks a seed.
        epochs: passes of the retraining, None for the setting's.

    Returns:
        One row a (score, sparsity, seed): test accuracy after the last epoch, random draws averaged.
    """
    setting, tested = observed.setting, observed.tested
    decisions = observed.decisions(observed.variants[0])
    after = observed.networks("own", trained=True).flat().abs().numpy()[:, tested]
    names, keeps = [], []
    for i, seed in enumerate(observed.seeds):
        rng = np.random.default_rng([seed, 6])
        # a weight that could not be tested is kept as long as any other is left
        scores = {"noncausal": [-np.nan_to_num(decisions[i].p, nan=-1.0)], "magnitude after": [after[i]]}
        scores["random"] = list(rng.random((n_random, int(tested.sum()))))
        for score, draws in scores.items():
            for values in draws:
                for sparsity in sparsities:
                    keep = np.ones(len(tested), bool)
                    n_pruned = n_to_prune(len(values), sparsity=sparsity)
                    keep[tested] = keep_highest(torch.as_tensor(values), n_pruned).numpy()
                    names.append((score, sparsity, seed))
                    keeps.append(keep)
    n_each = len(names) // len(observed.seeds)
    networks = observed.networks("own").pick(np.repeat(np.arange(len(observed.seeds)), n_each))
    descend(
        networks,
        observed.parts.train,
        learning_rate=setting.learning_rate,
        n_epochs=epochs or setting.epochs,
        batch_size=setting.batch_size,
        order=setting.order,
        keep=torch.as_tensor(np.stack(keeps)),
    )
    table = pd.DataFrame(names, columns=["score", "sparsity", "seed"])
    table["test_accuracy"] = accuracy(networks, observed.parts.test)
    means = table.groupby(["score", "sparsity", "seed"], sort=False)["test_accuracy"].mean()
    return means.reset_index()
