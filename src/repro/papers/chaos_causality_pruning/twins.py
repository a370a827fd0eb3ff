"""Twin runs: two networks that differ by a nudge to one weight, trained alike, and how fast they part."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from repro.papers.chaos_causality_pruning.descent import Examples, descend
from repro.papers.chaos_causality_pruning.perceptrons import Perceptrons
from repro.papers.chaos_causality_pruning.settings import Setting

__all__ = ["separation", "twin_runs"]


def separation(
    initial: Perceptrons,
    train: Examples,
    *,
    learning_rate: float,
    n_epochs: int,
    delta: float,
    weight: int = 0,
    order: str = "fixed",
) -> NDArray[np.float64]:
    r"""Return the distance of twins after each epoch over the initial one, $\|\theta'_k-\theta_k\|/\delta$.

    The twin starts with one weight larger by $\delta$ and sees the same examples in the same order. In a chaotic
    system the ratio grows like $e^{\lambda k}$ with k updates, and $\lambda$ is the largest Lyapunov exponent that
    ``repro.series.lyapunov`` estimates from one series without a twin.

    Args:
        initial: R networks.
        train: examples of S splits.
        learning_rate: constant.
        n_epochs: passes.
        delta: the nudge, above 0.
        weight: which weight is nudged, index in the flat order.
        order: of the examples.

    Returns:
        ``(R, n_epochs + 1)``, starting with ones. Distances are over all weights and biases.
    """
    if not delta > 0:
        raise ValueError(f"delta must be above 0; got {delta}")
    n = len(initial)
    both = initial.pick(np.repeat(np.arange(n), 2))  # network, twin, network, twin, ...
    change = torch.zeros(2 * n, len(initial.layer_of), dtype=torch.float64)
    change[1::2, weight] = delta
    for w, c in zip(both.weights, both.unflat(change), strict=True):
        w.add_(c)
    ratios = [np.ones(n)]

    def note(_: int, networks: Perceptrons) -> None:
        squares = [(t[1::2] - t[::2]).square().flatten(1).sum(1) for t in networks.tensors]
        ratios.append((torch.stack(squares).sum(0).sqrt() / delta).numpy())

    descend(both, train, learning_rate=learning_rate, n_epochs=n_epochs, order=order, after_epoch=note)
    return np.stack(ratios, axis=1)


def twin_runs(
    setting: Setting,
    seeds: Sequence[int],
    deltas: Sequence[float] = (1e-3, 1e-8),
    *,
    epochs: int | None = None,
) -> pd.DataFrame:
    """Train twins on new splits from new initial weights, for nudges of several sizes (claims C5 and C13).

    Returns:
        One row a (seed, delta, epoch): updates so far, the ratio of distances, and the rate
        $\\ln(\\text{ratio})/\\text{updates}$ in nats an update.
    """
    parts = setting.load(seeds)
    initial = setting.initial(parts, seeds)
    n_epochs = epochs or setting.epochs
    frames = []
    for delta in deltas:
        ratios = separation(
            initial,
            parts.train,
            learning_rate=setting.learning_rate,
            n_epochs=n_epochs,
            delta=delta,
            order=setting.order,
        )
        index = pd.MultiIndex.from_product([seeds, range(n_epochs + 1)], names=["seed", "epoch"])
        frame = pd.DataFrame({"ratio": ratios.ravel()}, index=index).reset_index()
        updates = frame["epoch"] * len(parts.train)
        rate = np.log(frame["ratio"]) / updates.where(updates > 0)
        frames.append(frame.assign(table=setting.name, delta=delta, updates=updates, rate=rate))
    return pd.concat(frames, ignore_index=True)
