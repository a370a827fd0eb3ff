"""Whether the whole step Granger-causes the loss change, beside a step that is never taken."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from repro.papers.granger_causal_sgd.settings import Start
from repro.papers.granger_causal_sgd.trace import Trace, log_from
from repro.series.granger import Status, granger_test

__all__ = ["StepTest", "granger_runs", "permutation_level", "step_test"]


@dataclass(frozen=True)
class StepTest:
    """What ``step_test`` found, arrays ``(S,)``.

    Attributes:
        f: NaN where ``status`` is not ``"OK"``.
        p_value: NaN there, too.
        partial_r2: share of what is left that the steps explain; 0 where the loss change is constant
            (``"CONSTANT_EFFECT"``: nothing to explain), NaN where the test fails for another reason.
        status: name of a ``series.granger.Status``.
    """

    f: NDArray[np.float64]
    p_value: NDArray[np.float64]
    partial_r2: NDArray[np.float64]
    status: list[str]


def step_test(energy: Tensor, loss_change: Tensor, n_lags: int = 2) -> StepTest:
    r"""Test whether the size of the steps helps to predict the loss change beyond its own past.

    $Y_t=a_0+\sum_{j=1}^q a_jY_{t-j}\;\left[+\sum_{j=0}^{q-1}b_jX_{t-j}\right]$,
    $F=\frac{(\mathrm{RSS}_r-\mathrm{RSS}_f)/q}{\mathrm{RSS}_f/(n-2q-1)}$ with n = T - q rows, and the partial
    $R^2 = 1-\mathrm{RSS}_f/\mathrm{RSS}_r = qF/(qF+n-2q-1)$. $X_t$ is admissible beside $Y_t$ because the step is
    fixed before its loss change is seen: not to be confused with the usual test, whose causes are all lagged.

    A test of prediction: what follows from the batch alone passes it, too, whether or not a step is taken.

    Args:
        energy: $X_t=\sum_k(\Delta\theta_{t,k})^2$ ``(S, T)``.
        loss_change: $Y_t$ ``(S, T)``.
        n_lags: q.

    Raises:
        ValueError: shapes that differ, fewer than 3 q + 2 rows, or a bad number of lags.
    """
    if energy.shape != loss_change.shape or energy.ndim != 2:
        raise ValueError(
            f"energy and loss_change are both (S, T); got {tuple(energy.shape)} and {tuple(loss_change.shape)}"
        )
    # granger_test looks at strictly earlier causes: X one step early makes X_t one of them; what the shift
    # brings to the end is later than all effects and never used
    found = granger_test(loss_change, energy.roll(-1, dims=1), n_lags)
    if not found.n_obs:
        raise ValueError(f"{n_lags} lags need at least {3 * n_lags + 2} rows, got {energy.shape[1]}")
    explained = n_lags * found.f
    partial_r2 = explained / (explained + found.df_den)
    partial_r2[found.status == Status.CONSTANT_EFFECT] = 0.0
    return StepTest(found.f, found.p_value, partial_r2, [Status(each).name for each in found.status])


def granger_runs(
    start: Start,
    n_lags: int = 2,
    *,
    learning_rate: float | None = None,
    n_epochs: int | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    r"""Test steps that were taken, steps that were not, and steps in another order (claim G2).

    Real and placebo runs see the same batches from the same weights. A placebo's parameters never move, so its
    same-batch and full-loss changes are 0, and whatever it explains of the cross-batch change is no effect of a
    step. Its energy is $\eta^2\lVert g_t\rVert^2$.

    Args:
        start: the networks.
        n_lags: q.
        learning_rate: None for the setting's logging rate.
        n_epochs: None for the setting's logging epochs.
        seed: of the permutations.

    Returns:
        One row a (seed, target, condition): f, p_value, partial_r2, status, n_rows. ``condition`` is ``"real"``,
        ``"placebo"`` or ``"permuted"``: the real run with its energies in random order.

    Raises:
        ValueError, TrainingDivergedError: as ``log_trace`` and ``step_test``.
    """
    real, placebo = (
        log_from(start, learning_rate=learning_rate, n_epochs=n_epochs, full_loss=True, placebo=placebo)
        for placebo in (False, True)
    )
    generator = torch.Generator().manual_seed(seed)
    orders = torch.stack([torch.randperm(real.n_rows, generator=generator) for _ in start.seeds])
    conditions = {
        "real": (real, real.energy()),
        "placebo": (placebo, placebo.energy()),
        "permuted": (real, real.energy().gather(1, orders)),
    }
    frames = []
    for target in real.loss_changes:
        for condition, (trace, energy) in conditions.items():
            found = step_test(energy, trace.loss_changes[target], n_lags)
            names = {"seed": start.seeds, "target": target, "condition": condition}
            frames.append(pd.DataFrame(names | vars(found)).assign(n_rows=trace.n_rows))
    return pd.concat(frames, ignore_index=True)


def permutation_level(
    trace: Trace, target: str, n_permutations: int = 200, *, n_lags: int = 2, seed: int = 0
) -> NDArray[np.float64]:
    """Return how often the test of ``step_test`` has p < 0.05 when the steps stand in random order.

    Args:
        trace: of S networks.
        target: one of ``trace.loss_changes``.
        n_permutations: of the rows of each network.
        n_lags: as in ``step_test``.
        seed: of the permutations.

    Returns:
        ``(S,)``, shares in [0, 1]; 0.05 is what a valid test has.

    Raises:
        ValueError: as ``step_test``; a loss change that the test refuses, such as a placebo's own.
    """
    generator = torch.Generator().manual_seed(seed)
    energy, change = trace.energy(), trace.loss_changes[target]
    shares = []
    for i in range(trace.n_networks):
        orders = torch.stack(
            [torch.randperm(trace.n_rows, generator=generator) for _ in range(n_permutations)]
        )
        found = step_test(energy[i][orders], change[i].expand(n_permutations, -1), n_lags)
        if set(found.status) != {"OK"}:
            raise ValueError(f"network {i} cannot be tested on {target}: {set(found.status)}")
        shares.append(np.mean(found.p_value < 0.05))
    return np.array(shares)
