"""Mean squared weight changes and their mean products with loss changes: all that a screen of weights needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from repro.learn import Dataset, Ensemble
from repro.learn._losses import Loss
from repro.papers.granger_causal_sgd._logging import Descent
from repro.prune import Mask

__all__ = ["Moments", "stream_moments"]


@dataclass(frozen=True)
class Moments:
    r"""Means over the T rows of a trace, one number a weight, with $x_{t,k} = (\Delta\theta_{t,k})^2$.

    Attributes:
        mean_square: $\frac1T\sum_t x_{t,k}$, ``(S, p)``, float64.
        covariance: by target $\frac1T\sum_t \Delta L_t\,x_{t,k}$, ``(S, p)``, float64. Means are not taken off
            first, as in the regression without intercept that it stands for.
        shapes: parameter name to the shape of one network's weight; columns are in this order.
        n_rows: T.
    """

    mean_square: Tensor
    covariance: dict[str, Tensor]
    shapes: dict[str, torch.Size]
    n_rows: int


def stream_moments(
    ensemble: Ensemble,
    datasets: Dataset | Sequence[Dataset],
    *,
    learning_rate: float,
    momentum: float = 0.0,
    n_epochs: int | None = None,
    n_steps: int | None = None,
    batch_size: int | None,
    loss: str | Loss = "cross_entropy",
    seeds: int | Sequence[int],
    masks: Mask | None = None,
    full_loss: bool = False,
    placebo: bool = False,
    changes: str = "exact",
    drop_last: bool = True,
    device: str = "auto",
) -> Moments:
    r"""Return the moments of the trace that ``log_trace`` would make of the same arguments, keeping no rows.

    Takes 8 (1 + targets) bytes a weight and network, whatever the number of steps: enough to rank weights by
    energy or by covariance, and to threshold $|\frac1T\sum_t\Delta L_t x_{t,k}|$ at $\alpha$.

    Arguments and errors are those of ``trace.log_trace``.
    """
    descent = Descent(
        ensemble, datasets, learning_rate=learning_rate, momentum=momentum, n_epochs=n_epochs, n_steps=n_steps,
        batch_size=batch_size, loss=loss, seeds=seeds, masks=masks, full_loss=full_loss, placebo=placebo,
        changes=changes, drop_last=drop_last, device=device,
    )  # fmt: skip
    total = torch.zeros(descent.n_networks, descent.n_weights, dtype=torch.float64, device=descent.device)
    products = {name: torch.zeros_like(total) for name in descent.targets}
    for row in descent.rows():
        squares = (descent.factor * row.step.double()).square_()
        total += squares
        for name, change in row.loss_changes.items():
            products[name].addcmul_(change[:, None], squares)
    n = descent.n_rows
    return Moments(
        (total / n).cpu(), {name: (p / n).cpu() for name, p in products.items()}, descent.shapes, n
    )
