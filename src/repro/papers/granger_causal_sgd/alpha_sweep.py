"""What the penalty, the iterations and the logging epochs of causal pruning do to sparsity and accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import pandas as pd
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from repro.papers.granger_causal_sgd.fine_tuning import fine_tune
from repro.papers.granger_causal_sgd.pruning_loop import LOSS_DELTAS, causal_pruning
from repro.papers.granger_causal_sgd.settings import Start

__all__ = ["DIGITS_ALPHAS", "FACTORS", "alpha_runs", "main_effects"]

DIGITS_ALPHAS = (3e-12, 1e-11, 3e-11, 1e-10, 3e-10, 1e-9)
r"""On digits, half-decades from the 20 % to the 99 % quantile of $|\frac1T\sum_t\Delta L_t\Delta\theta_{t,k}^2|$.

The authors' 1e-14 to 1e-17 belong to other networks, another batch size and a learning rate ten times smaller.
"""

FACTORS = ("alpha", "iteration", "logging_epochs", "loss_delta", "seed")


def alpha_runs(
    start: Start,
    alphas: Sequence[float] = DIGITS_ALPHAS,
    *,
    loss_deltas: Sequence[str] = LOSS_DELTAS,
    n_iterations: int = 2,
    logging_epochs: Sequence[int] | None = None,
    tune_epochs: int | None = None,
    device: str = "auto",
) -> pd.DataFrame:
    r"""Run causal pruning over a grid, and fine-tune the networks of every iteration (claims G6b, G10, G12).

    Since the loop rewinds, the mask after iteration j is that of a run of j iterations.

    Args:
        start: S networks at $\theta_0$.
        alphas: penalties.
        loss_deltas: of ``LOSS_DELTAS``.
        n_iterations: of the longest run.
        logging_epochs: one or several numbers; None for the setting's.
        tune_epochs: at most; None for the setting's.
        device: as in ``learn.train``.

    Returns:
        One row a (loss_delta, logging_epochs, iteration, alpha, seed): those, ``sparsity``, ``sparsity NAME`` of
        each layer, ``collapsed`` (layers without a weight), ``overlap`` (Jaccard index of the kept weights with
        those after the iteration before, from the second on; 1 where nothing changed), and the columns of
        ``fine_tune``.

    Raises:
        ValueError, TrainingDivergedError: as ``causal_pruning`` and ``fine_tune``.
    """
    several = [start.setting.logging_epochs] if logging_epochs is None else list(logging_epochs)
    if not several or not loss_deltas:
        raise ValueError(f"the grid is empty; got logging_epochs={logging_epochs}, loss_deltas={loss_deltas}")
    frames, masks = [], []
    for loss_delta, n_epochs in product(loss_deltas, several):
        run = causal_pruning(
            start,
            alpha=list(alphas),
            loss_delta=loss_delta,
            n_iterations=n_iterations,
            logging_epochs=n_epochs,
            device=device,
        )
        kept = 1 - run.frame["sparsity"].to_numpy().reshape(n_iterations, -1)
        overlap = np.full_like(kept, np.nan)
        overlap[1:] = np.divide(kept[1:], kept[:-1], out=np.ones_like(kept[1:]), where=kept[:-1] > 0)
        frames.append(
            run.frame.assign(loss_delta=loss_delta, logging_epochs=n_epochs, overlap=overlap.ravel())
        )
        masks += run.masks
    tuned = fine_tune(start, masks, tune_epochs=tune_epochs, device=device)
    return pd.concat(frames, ignore_index=True).assign(**tuned.drop(columns="seed"))


def main_effects(
    frame: pd.DataFrame,
    outcomes: Sequence[str] = ("sparsity", "test_accuracy"),
    factors: Sequence[str] = FACTORS,
) -> pd.DataFrame:
    r"""Return each factor's share of the variance of an outcome, $SS_\text{factor}/SS_\text{total}$.

    Type II sums of squares of an additive model in which every factor is a set of levels (a penalty counts by
    its level, so on whatever scale). What no factor explains, interactions and chance, stands under
    ``"rest"``; in a balanced grid the shares of an outcome sum to 1.

    Not a test: the rows of a network at several iterations are not independent of each other.

    Args:
        frame: as ``alpha_runs`` gives it.
        outcomes: columns.
        factors: columns; those with a single level are left out.

    Returns:
        One row an (outcome, factor): ``outcome``, ``factor``, ``levels``, ``share``. NaN shares where the outcome
        never varies.

    Raises:
        ValueError: missing columns, or no factor with two levels.
    """
    if missing := [name for name in (*outcomes, *factors) if name not in frame]:
        raise ValueError(f"the table lacks {missing}; it has {list(frame.columns)}")
    used = {name: frame[name].nunique() for name in factors if frame[name].nunique() > 1}
    if not used:
        raise ValueError(f"no factor has two levels or more; looked at {list(factors)}")
    rows = []
    for outcome in outcomes:
        total = float(((frame[outcome] - frame[outcome].mean()) ** 2).sum())
        if total == 0:
            shares = dict.fromkeys(used, np.nan) | {"rest": np.nan}
        else:
            model = ols(f"Q('{outcome}') ~ " + " + ".join(f"C({name})" for name in used), data=frame).fit()
            squares = anova_lm(model, typ=2)["sum_sq"]
            shares = {name: squares[f"C({name})"] / total for name in used}
            shares["rest"] = squares["Residual"] / total
        for name, share in shares.items():
            rows.append((outcome, name, used.get(name, 0), float(share)))
    return pd.DataFrame(rows, columns=["outcome", "factor", "levels", "share"])
