"""Fine-tuning of pruned networks as the authors' code does it, with its rule for when to stop."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from repro.learn import TrainingDivergedError, train
from repro.papers.granger_causal_sgd.phases import derived_seed
from repro.papers.granger_causal_sgd.settings import Start
from repro.prune import Mask

__all__ = ["fine_tune", "stop_epoch"]

_LEG = 20
"""Epochs between looks at whether all networks have stopped."""


def fine_tune(
    start: Start, masks: Sequence[Mask], *, tune_epochs: int | None = None, device: str = "auto"
) -> pd.DataFrame:
    r"""Train networks from $\theta_0\odot m$ with masks held; measure each at the epoch where the rule stops it.

    Adam with the setting's rate and batch size. For the first 20 epochs the batches are those of a network's
    seed, as in ``stopping.train_to_stops``; after every 20 comes a new order, of ``phases.derived_seed(s, 0, e)``
    after e epochs. A difference to the authors' code: there one Adam object serves pretraining and fine-tuning,
    and its moments survive the pruning; here it starts anew.

    Args:
        start: S networks at $\theta_0$, which stay as they are.
        masks: each with entries ``(R * S, *shape)``, such as ``PruningRun.masks``; R may differ.
        tune_epochs: at most; None for the setting's.
        device: as in ``learn.train``.

    Returns:
        One row a network, masks one after the other (the order of ``PruningRun.frame``): ``seed``, ``tune_epochs``
        (where it stopped), ``stopped`` (False where the epochs ran out), ``train_loss`` (whole training part),
        ``train_accuracy``, ``validation_accuracy``, ``test_accuracy``; all measured at the stop.

    Raises:
        ValueError: no masks, or a mask that does not fit.
        TrainingDivergedError: a loss is not finite; names seed and epoch.
    """
    n_epochs = start.setting.tune_epochs if tune_epochs is None else tune_epochs
    if isinstance(n_epochs, bool) or not isinstance(n_epochs, int) or n_epochs < 1:
        raise ValueError(f"tune_epochs must be a whole number, 1 or above; got {n_epochs!r}")
    mask, repeats = _joined(masks, len(start.seeds))
    ensemble = start.copy(repeats)
    mask.apply(ensemble)
    adam = _Once(start.setting.adam())
    seeds = start.seeds * repeats
    metrics = []
    for first in range(0, n_epochs, _LEG):
        history = train(
            ensemble,
            start.datasets * repeats,
            optimizer=adam,
            n_epochs=min(_LEG, n_epochs - first),
            batch_size=start.setting.batch_size,
            after_step=[mask],
            evaluate_every=1,
            seed=[seed if first == 0 else derived_seed(seed, 0, first) for seed in seeds],
            device=device,
            progress=False,
        )
        if history.diverged:
            member, (epoch, _) = next(iter(history.diverged.items()))
            raise TrainingDivergedError(
                f"fine-tuning of network {member}, seed {seeds[member]}: the loss is not finite from epoch "
                f"{first + epoch} on; a smaller learning rate may help"
            )
        leg = history.metrics[history.metrics["epoch"] > 0]
        metrics.append(leg.assign(epoch=leg["epoch"] + first))
        course = pd.concat(metrics)
        losses = course.pivot(index="member", columns="epoch", values="batch_loss").to_numpy()
        stops = [stop_epoch(each) for each in losses]
        if None not in stops:
            break
    at = course.set_index(["member", "epoch"])
    last = losses.shape[1]
    frame = at.loc[[(i, stop or last) for i, stop in enumerate(stops)]].reset_index()
    frame = frame.assign(seed=seeds, tune_epochs=frame["epoch"], stopped=[stop is not None for stop in stops])
    columns = ["seed", "tune_epochs", "stopped", "train_loss", "train_accuracy", "validation_accuracy"]
    return frame[[*columns, "test_accuracy"]]


def stop_epoch(losses: NDArray[np.float64], tolerance: float = 1e-4, patience: int = 5) -> int | None:
    """Return the epoch, counted from 1, after which the authors' rule stops a training, or None.

    The rule: ``patience`` epochs one after the other, none of them with a mean loss more than ``tolerance`` below
    the best before.

    Args:
        losses: mean loss over the batches of each epoch, ``(epochs,)``.
        tolerance: of the loss.
        patience: epochs.
    """
    best, stale = np.inf, 0
    for epoch, loss in enumerate(losses, start=1):
        best, stale = (loss, 0) if loss < best - tolerance else (best, stale + 1)
        if stale == patience:
            return epoch
    return None


class _Once:
    """An optimizer that is made once, so that a training may go on in a further call with its moments."""

    def __init__(self, make: Callable[..., torch.optim.Optimizer]) -> None:
        self._make = make
        self._made: torch.optim.Optimizer | None = None

    def __call__(self, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
        if self._made is None:
            self._made = self._make(parameters)
        return self._made


def _joined(masks: Sequence[Mask], n_seeds: int) -> tuple[Mask, int]:
    """All masks as one, and how often it takes all seeds."""
    if not masks:
        raise ValueError("at least one mask is needed, got none")
    names = list(masks[0])
    for i, mask in enumerate(masks):
        sizes = {len(kept) for kept in mask.values()}
        if list(mask) != names or len(sizes) != 1 or next(iter(sizes)) % n_seeds:
            raise ValueError(
                f"masks need entries for all of {n_seeds} seeds, once or several times; mask {i} has "
                f"{ {name: tuple(kept.shape) for name, kept in mask.items()} }"
            )
    joined = Mask({name: torch.cat([mask[name] for mask in masks]) for name in names})
    return joined, len(joined[names[0]]) // n_seeds
