"""Training networks with one method: all its strengths and seeds at once, then folded back to plain weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from repro.base import unknown
from repro.learn import Dataset, Ensemble, EpochReport, History, streams, train
from repro.learn.augmentation import random_crop_flip
from repro.papers.implicit_sparsification.controllers import Controller, PilotController, ScheduleController
from repro.papers.implicit_sparsification.factors import (
    effective_weights,
    fold,
    parametrize_weights,
    weight_tensors,
)
from repro.papers.implicit_sparsification.methods import Method, method
from repro.papers.implicit_sparsification.penalties import Penalty
from repro.papers.implicit_sparsification.schedules import SCHEDULES, schedule
from repro.papers.implicit_sparsification.settings import Setting, data_sets, initial_networks, setting

__all__ = ["LEAST_L1", "Fit", "Run", "fit", "run", "strength_shape", "written"]

#: K of algorithm 1 as a share of the L1 norm at the start; the paper's values are not known.
LEAST_L1 = 0.03
#: Over the first half of training algorithm 1 can raise the strength by this factor; likewise unknown.
RISE = 15.0


@dataclass(frozen=True, eq=False)
class Run:
    """One training of an ensemble with a penalty.

    Attributes:
        history: of ``learn.train``.
        course: one row an epoch and member: epoch, member, alpha (of the penalty as it acts: an L1 method's is
            its lambda), dose, l1, batch_accuracy.
    """

    history: History
    course: pd.DataFrame


@dataclass(frozen=True, eq=False)
class Fit:
    """Networks trained with one method, A strengths and S seeds; member $aS+s$ has strength a and seed s.

    Attributes:
        setting: data, network and training.
        method: which.
        strengths: A of them.
        seeds: S of them.
        datasets: one a seed.
        networks: A x S plain networks, folded.
        start: the weights that each network had before training, name to ``(A S, *shape)``.
        course: one row a strength, seed and epoch: alpha, dose, l1, batch_accuracy, as in ``Run``.
        diverged: the (strength, seed) of networks whose loss became infinite or not a number.
    """

    setting: Setting
    method: Method
    strengths: tuple[float, ...]
    seeds: tuple[int, ...]
    datasets: list[Dataset]
    networks: Ensemble
    start: dict[str, Tensor]
    course: pd.DataFrame
    diverged: list[tuple[float, int]]

    @property
    def members(self) -> pd.DataFrame:
        """One row a network, in their order: method, strength, seed."""
        rows = [(self.method.name, a, s) for a in self.strengths for s in self.seeds]
        return pd.DataFrame(rows, columns=["method", "strength", "seed"])


def written(network: nn.Module, chosen: Method, strength: float, seed: int) -> nn.Module:
    """Return a copy of a plain network, written in the form of a method."""
    # a stream of its own: the initial weights must not be drawn a second time
    generator = streams(10_000 + seed).initialization
    form = chosen.form
    return parametrize_weights(
        copy.deepcopy(network), None if form is None else lambda: form(strength, generator)
    )


def run(
    ensemble: Ensemble,
    datasets: Sequence[Dataset],
    chosen: Setting,
    how: Method,
    strengths: Sequence[float],
    *,
    seeds: Sequence[int],
    n_epochs: int,
    after_step: Sequence[Callable[[Any, int], object]] = (),
    augment: Callable[[Tensor, torch.Generator], Tensor] | None = None,
    device: str = "auto",
    mixed_precision: bool = False,
    progress: bool | None = None,
) -> Run:
    r"""Train an ensemble, already written in a method's form, with the method's penalty; in place.

    SGD with momentum under a cosine schedule by epoch.

    Args:
        ensemble: M networks.
        datasets: one for all, or M.
        chosen: the setting: rates, batch size, momentum, weight decay.
        how: the method: penalty and its schedule.
        strengths: M, as in the method's grid.
        seeds: M, of the orders of batches.
        n_epochs: T.
        augment: as in ``learn.train``; None for what the setting says.
        after_step, device, mixed_precision, progress: as in ``learn.train``.

    Returns:
        ``Run``.

    Raises:
        ValueError: epochs that are not 1 or more, an unknown schedule or penalty, negative strengths.
        TrainingDivergedError: the losses of all networks became infinite or not a number.
    """
    check_epochs(n_epochs)
    network = ensemble.member(0)
    scaled = torch.tensor(
        [0.0 if how.penalty == "none" else a * how.scale for a in strengths], dtype=torch.float64
    )
    penalty = Penalty(ensemble, how.penalty, scaled, chosen.weight_decay, how.decayed)
    controller = _controller(how, penalty, ensemble, network, chosen.momentum, n_epochs)
    hooks: list[Callable[[Any, EpochReport], object]] = [controller]
    if how.temperature != 1.0:
        hooks.append(_Heating(network, how.temperature, n_epochs))
    if augment is None and chosen.augmented:
        augment = random_crop_flip()
    history = train(
        ensemble,
        datasets,
        optimizer=partial(
            torch.optim.SGD, lr=chosen.factor_rate if how.fast else chosen.rate, momentum=chosen.momentum
        ),
        schedule=partial(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=n_epochs),
        n_epochs=n_epochs,
        batch_size=chosen.batch_size,
        before_step=[penalty],
        after_step=after_step,
        after_epoch=hooks,
        augment=augment,
        evaluate_every=n_epochs,
        seed=list(seeds),
        device=device,
        mixed_precision=mixed_precision,
        progress=progress,
    )
    return Run(history, controller.course())


def check_epochs(n_epochs: int) -> None:
    """Refuse a number of epochs that is none."""
    if isinstance(n_epochs, bool) or not isinstance(n_epochs, int) or n_epochs < 1:
        raise ValueError(f"n_epochs must be a whole number, 1 or above; got {n_epochs!r}")


def _controller(
    how: Method, penalty: Penalty, ensemble: Ensemble, network: nn.Module, momentum: float, n_epochs: int
) -> Controller:
    if how.schedule == "pilot":
        weights = effective_weights(ensemble.parameters, network).values()
        start_l1 = torch.stack([w.detach().abs().flatten(1).sum(dim=1) for w in weights]).sum(dim=0)
        factor = RISE ** (1 / max(1, n_epochs // 2))
        return PilotController(
            penalty, network, momentum, n_epochs=n_epochs, factor=factor, least_l1=LEAST_L1 * start_l1.cpu()
        )
    return ScheduleController(penalty, network, momentum, strength_shape(how.schedule, n_epochs).tolist())


def strength_shape(name: str, n_epochs: int) -> NDArray[np.float64]:
    """Factors of the strength by epoch, ``(n_epochs,)``, for a schedule that is fixed beforehand.

    Args:
        name: ``"half"``, ``"rising"`` (see ``Method``), or a name in ``schedules.SCHEDULES``.
        n_epochs: of training.

    Raises:
        ValueError: an unknown name.
    """
    if name == "half":
        return schedule("geometric", 1.0, n_epochs, ratio=0.8, hold=n_epochs // 2)
    if name == "rising":
        return np.arange(n_epochs) / max(1, n_epochs - 1)
    if name not in SCHEDULES:
        raise ValueError(unknown("schedule", name, ("half", "rising", *SCHEDULES)))
    return schedule(name, 1.0, n_epochs)


class _Heating:
    """Raises the temperature of sigmoid masks exponentially from 1, after every epoch."""

    def __init__(self, network: nn.Module, last: float, n_epochs: int) -> None:
        self._network, self._last, self._n_epochs = network, last, n_epochs

    def __call__(self, model: Any, report: EpochReport) -> None:
        for *_, temperature in weight_tensors(model.parameters, self._network).values():
            temperature.fill_(self._last ** (report.epoch / self._n_epochs))


def fit(
    where: str | Setting,
    how: str | Method,
    strengths: Sequence[float] | None = None,
    *,
    seeds: Sequence[int],
    n_epochs: int | None = None,
    augment: Callable[[Tensor, torch.Generator], Tensor] | None = None,
    device: str = "auto",
    mixed_precision: bool = False,
    progress: bool | None = None,
) -> Fit:
    """Train networks with one method at several strengths, each from the same initial weights for a seed.

    Args:
        where: a setting or its name.
        how: a method or its name.
        strengths: None for the method's own grid.
        seeds: of splits, initial weights and orders of batches.
        n_epochs: None for the setting's.
        augment: as in ``learn.train``; None for what the setting says. The draws of an image depend on its place
            among the networks then.
        device, mixed_precision, progress: as in ``learn.train``.

    Returns:
        ``Fit``.

    Raises:
        ValueError: an unknown name, strengths that are negative, none or twice the same, no seeds, no epochs;
            all before any work.
        TrainingDivergedError: all networks diverged; of some, ``Fit.diverged`` tells.
    """
    chosen = setting(where) if isinstance(where, str) else where
    picked = method(how) if isinstance(how, str) else how
    grid = tuple(picked.strengths if strengths is None else (float(a) for a in strengths))
    if not grid or len(set(grid)) < len(grid) or not all(0 <= a < float("inf") for a in grid):
        raise ValueError(
            f"strengths must be at least one number, 0 or above, all different; got {list(grid)}"
        )
    n_epochs = chosen.n_epochs if n_epochs is None else n_epochs
    check_epochs(n_epochs)
    seeds = tuple(seeds)
    datasets = data_sets(chosen, seeds)
    plain = initial_networks(chosen, seeds)
    ensemble = Ensemble(
        [written(net, picked, a, s) for a in grid for net, s in zip(plain, seeds, strict=True)]
    )
    start = {k: v.detach().clone() for k, v in _weights(ensemble).items()}
    shared = len({id(d.x_train) for d in datasets}) == 1
    done = run(
        ensemble,
        datasets[:1] if shared else datasets * len(grid),
        chosen,
        picked,
        [a for a in grid for _ in seeds],
        seeds=list(seeds) * len(grid),
        n_epochs=n_epochs,
        augment=augment,
        device=device,
        mixed_precision=mixed_precision,
        progress=progress,
    )
    networks = Ensemble([fold(network) for network in ensemble])
    who = pd.DataFrame({"strength": np.repeat(grid, len(seeds)), "seed": list(seeds) * len(grid)})
    course = done.course.join(who, on="member").drop(columns="member").assign(method=picked.name)
    diverged = [(grid[i // len(seeds)], seeds[i % len(seeds)]) for i in sorted(done.history.diverged)]
    return Fit(chosen, picked, grid, seeds, datasets, networks, start, course, diverged)


def _weights(ensemble: Ensemble) -> dict[str, Tensor]:
    return effective_weights(ensemble.parameters, ensemble.member(0))
