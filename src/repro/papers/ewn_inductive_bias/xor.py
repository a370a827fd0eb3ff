"""XOR: how many neurons stay long under each parametrisation (E9)."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
import torch

from repro.learn.ensembles import Ensemble
from repro.papers.ewn_inductive_bias.descent import descend
from repro.papers.ewn_inductive_bias.log_losses import LogLoss
from repro.papers.ewn_inductive_bias.parametrizations import METHODS, normalize_weights
from repro.papers.ewn_inductive_bias.relations import count_long, gini, top_share
from repro.papers.ewn_inductive_bias.synthetic import default_weights, xor_problem
from repro.papers.ewn_inductive_bias.synthetic_descent import bias_free_network, run_table

__all__ = ["XOR_RULES", "xor_sparsity"]

XOR_RULES: dict[str, tuple[float, float]] = {"plain": (15, 0.1), "swn": (15, 1.0), "ewn": (5, 0.1)}
"""The authors' f and largest k for XOR, by method."""


def xor_sparsity(
    seeds: Iterable[int],
    methods: Iterable[str] = METHODS,
    *,
    z_end: float = 50.0,
    n_hidden: int = 20,
    rules: dict[str, tuple[float, float]] | None = None,
    window: int = 10,
    max_steps: int = 40_000,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    r"""XOR with 20 ReLU neurons and fixed output weights: how many neurons stay long (E9).

    Args:
        seeds: of the initial weights (``torch.manual_seed`` and default layers, as the authors).
        methods: ``"plain"``, ``"swn"``, ``"ewn"``.
        z_end: the loss level.
        n_hidden: half of the neurons have output weight +1, half -1.
        rules: method -> (f, largest k); the authors' by default.
        window: see ``descend``. 1 is the authors' rule; it leaves many SWN networks caught at a kink.
        max_steps: of attempts.

    Returns:
        Two tables. Runs: seed, method, status, z, steps, seconds, count (neurons longer than a fifth of the
        longest), top_share (of the squared length in the four longest), gini, gini_start; measured at the end
        of the run, whether or not it reached z_end. Lengths: seed, method, neuron, length.

    Explained in chapter ``ewn-inductive-bias``.
    """
    problem, seeds, rules = xor_problem(n_hidden), list(seeds), XOR_RULES | (rules or {})
    x, y = torch.from_numpy(problem.x), torch.from_numpy(problem.y)
    output = np.repeat([1.0, -1.0], n_hidden // 2)[None, :]
    runs, table = [], []
    for method in methods:
        f, k_max = rules[method]
        networks = [
            bias_free_network([default_weights((2, n_hidden), seed)[0], output], "relu") for seed in seeds
        ]
        descent = descend(
            Ensemble([normalize_weights(network, method, ["1"]) for network in networks]),
            x,
            y,
            log_loss=LogLoss("logistic"),
            targets=(z_end,),
            exponent=1 - 1 / f,
            k_max=k_max,
            grow=1.1,
            shrink=1.1,
            window=window,
            max_steps=max_steps,
            frozen=("3.weight",),
            patience=3_000,
        )
        start, end = (
            np.linalg.norm(weights["1"].numpy(), axis=-1)
            for weights in (descent.weights(), descent.final_weights())
        )
        runs.append(
            run_table(descent, seeds, method).assign(
                count=[count_long(own) for own in end],
                top_share=[top_share(own) for own in end],
                gini=[gini(own) for own in end],
                gini_start=[gini(own) for own in start],
            )
        )
        neurons = {"seed": np.repeat(seeds, n_hidden), "method": method}
        neurons |= {"neuron": np.tile(np.arange(n_hidden), len(seeds)), "length": end.ravel()}
        table.append(pd.DataFrame(neurons))
    return pd.concat(runs, ignore_index=True), pd.concat(table, ignore_index=True)
