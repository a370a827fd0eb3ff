"""Gradient descent's loss change as a sum of squared parameter changes: an identity of calculus, measured."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor

from repro.learn import Ensemble
from repro.papers.granger_causal_sgd.settings import Start
from repro.papers.granger_causal_sgd.trace import Trace, log_trace

__all__ = [
    "explicit_identity",
    "identity",
    "identity_runs",
    "momentum_identity",
    "momentum_runs",
    "prediction",
]


def identity(trace: Trace, target: str) -> pd.DataFrame:
    r"""Fit loss changes by the first-order prediction, $\Delta L_t \approx -\frac b\eta\sum_k(\Delta\theta_{t,k})^2$.

    $\Delta L_t = g_t^\top\Delta\theta_t + \dots$ with $g_t = -\Delta\theta_t/\eta$, so that b = 1 to first order,
    for any network and data. The sum runs over all trained parameters, biases included.

    Args:
        trace: of plain SGD; a placebo serves, too.
        target: one of ``trace.loss_changes``.

    Returns:
        One row a network: ``slope`` b, by least squares without an intercept; ``r2`` =
        $1-\sum_t(\Delta L_t-b\,\hat y_t)^2/\sum_t(\Delta L_t-\overline{\Delta L})^2$ of that line, about the mean
        and so below 0 where a constant would predict better; ``r2_identity``, the same with b = 1. Both are NaN
        where the loss change is constant.

    Raises:
        ValueError: a trace with momentum, or a target that was not logged.

    Source: arXiv 2412.03035, abstract (the relation that gradient descent implies), worked out by expansion.
    """
    if trace.momentum:
        raise ValueError(
            f"with momentum {trace.momentum} a step is not the gradient alone; use momentum_identity"
        )
    return _fit(-trace.energy() / trace.learning_rate, _change(trace, target))


def prediction(trace: Trace, target: str, member: int = 0) -> pd.DataFrame:
    r"""Return what the identity predicts of each step and what was seen: columns ``predicted`` and ``observed``.

    Args:
        trace: of plain SGD, or a placebo.
        target: one of ``trace.loss_changes``.
        member: which network.
    """
    predicted = -trace.energy()[member] / trace.learning_rate
    return pd.DataFrame({"predicted": predicted.numpy(), "observed": _change(trace, target)[member].numpy()})


def explicit_identity(trace: Trace, diagonal: Tensor) -> Tensor:
    r"""Return $\sum_k\left(-\frac1\eta+\frac12H_{kk}\right)(\Delta\theta_{t,k})^2$, one coefficient a weight.

    The loss change of a full-batch step, exactly, where the loss is quadratic with a diagonal Hessian; elsewhere
    cross terms and the batch's own curvature are missing. Parameters that are not prunable enter with
    $-1/\eta$ alone.

    Args:
        trace: of plain SGD.
        diagonal: $H_{kk}$ ``(S, p)``, columns as in the trace.

    Returns:
        ``(S, T)``, float64.

    Raises:
        ValueError: a trace with momentum, or a diagonal of another shape.
    """
    if trace.momentum:
        raise ValueError(f"with momentum {trace.momentum} a step is not the gradient alone")
    if diagonal.shape != (trace.n_networks, trace.n_weights):
        raise ValueError(
            f"diagonal must be {(trace.n_networks, trace.n_weights)}, got {tuple(diagonal.shape)}"
        )
    coefficients = diagonal.double() / 2 - 1 / trace.learning_rate
    weights = torch.stack([trace.squares(i) @ coefficients[i] for i in range(trace.n_networks)])
    return weights - trace.rest / trace.learning_rate


def momentum_identity(trace: Trace) -> pd.DataFrame:
    r"""Fit same-batch loss changes under momentum, with and without the cross product of successive steps.

    $\Delta L_t \approx g_t^\top\Delta\theta_t =
    \frac1\eta\sum_k\left[\mu\,\Delta\theta_{t-1,k}\Delta\theta_{t,k}-(\Delta\theta_{t,k})^2\right]$, over all
    trained parameters. Each aggregate is given its best coefficient, so ``squares`` is not judged by its scale.

    Args:
        trace: with momentum above 0.

    Returns:
        Two rows a network: ``features`` is ``"squares"`` or ``"squares and cross"``; slope, r2 and r2_identity
        as in ``identity``.

    Raises:
        ValueError: a trace without momentum.
    """
    if trace.cross is None:
        raise ValueError("the trace was logged without momentum; its steps have no cross product to look at")
    squares, change = trace.energy(), _change(trace, "same_batch")
    sums = {"squares": -squares, "squares and cross": trace.momentum * trace.cross - squares}
    frames = [_fit(total / trace.learning_rate, change).assign(features=name) for name, total in sums.items()]
    return pd.concat(frames, ignore_index=True)


def identity_runs(
    start: Start,
    learning_rates: Sequence[float] = (1e-3, 1e-2, 1e-1),
    *,
    n_steps: int | None = None,
    n_whole: int = 20,
) -> pd.DataFrame:
    """Measure the identity of ``identity`` at several learning rates (claim G1).

    In float64: at small rates the rounding of a float32 loss is as large as what the identity leaves over.

    Args:
        start: the networks; each run starts from them anew.
        learning_rates: of plain SGD.
        n_steps: of each run on batches; None for the setting's logging epochs.
        n_whole: of each run on the whole training part.

    Returns:
        One row a (seed, learning_rate, target): slope, r2, r2_identity. Targets are ``"same_batch"``,
        ``"cross_batch"`` and ``"full_batch"``: the same-batch change of steps on the whole training part.
        Full-batch steps hardly differ at small rates, so that their r2 can fall where their slope goes to 1.

    Raises:
        ValueError, TrainingDivergedError: as ``log_trace``.
    """
    frames = []
    for rate in learning_rates:
        batches = _log(start, rate, 0.0, n_steps, start.setting.batch_size)
        whole = _log(start, rate, 0.0, n_whole, None)
        for target, trace, change in (
            ("same_batch", batches, "same_batch"),
            ("cross_batch", batches, "cross_batch"),
            ("full_batch", whole, "same_batch"),
        ):
            found = identity(trace, change)
            frames.append(_named(start, found).assign(learning_rate=rate, target=target))
    columns = ["seed", "learning_rate", "target", "slope", "r2", "r2_identity"]
    return pd.concat(frames, ignore_index=True)[columns]


def momentum_runs(
    start: Start,
    momentum: float = 0.9,
    *,
    learning_rate: float | None = None,
    n_steps: int | None = None,
) -> pd.DataFrame:
    """Measure what the cross product adds under momentum (claim G11), in float64 as ``identity_runs``.

    Args:
        start: the networks.
        momentum: above 0, below 1.
        learning_rate: None for the setting's logging rate.
        n_steps: None for the setting's logging epochs.

    Returns:
        One row a (seed, features): slope, r2, r2_identity; see ``momentum_identity``.

    Raises:
        ValueError, TrainingDivergedError: as ``log_trace`` and ``momentum_identity``.
    """
    rate = start.setting.logging_rate if learning_rate is None else learning_rate
    trace = _log(start, rate, momentum, n_steps, start.setting.batch_size)
    found = _named(start, momentum_identity(trace))
    return found[["seed", "features", "slope", "r2", "r2_identity"]]


def _log(
    start: Start, learning_rate: float, momentum: float, n_steps: int | None, batch_size: int | None
) -> Trace:
    return log_trace(
        Ensemble([member.double() for member in start.ensemble]),
        start.datasets,
        learning_rate=learning_rate,
        momentum=momentum,
        n_epochs=start.setting.logging_epochs if n_steps is None else None,
        n_steps=n_steps,
        batch_size=batch_size,
        seeds=start.seeds,
    )


def _named(start: Start, found: pd.DataFrame) -> pd.DataFrame:
    return found.assign(seed=[start.seeds[i] for i in found["network"]])


def _change(trace: Trace, target: str) -> Tensor:
    if target not in trace.loss_changes:
        raise ValueError(f"the trace has no target {target!r}; it has {', '.join(trace.loss_changes)}")
    return trace.loss_changes[target]


def _fit(prediction: Tensor, change: Tensor) -> pd.DataFrame:
    """Line through zero and shares of variance, for predictions and changes ``(S, T)``."""
    slope = (prediction * change).sum(dim=1) / prediction.square().sum(dim=1)
    about_mean = (change - change.mean(dim=1, keepdim=True)).square().sum(dim=1)

    def r2(factor: Tensor) -> Tensor:
        left = (change - factor[:, None] * prediction).square().sum(dim=1)
        return torch.where(about_mean > 0, 1 - left / about_mean, torch.nan)

    columns = {"slope": slope, "r2": r2(slope), "r2_identity": r2(torch.ones_like(slope))}
    return pd.DataFrame(
        {"network": range(len(slope))} | {name: values.numpy() for name, values in columns.items()}
    )
