"""Training networks with one method: all its strengths and seeds at once, through ``repro.learn.train``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from repro.learn import (
    Dataset,
    Ensemble,
    EpochReport,
    History,
    evaluate,
    random_crop_flip,
    resolve_device,
    streams,
    train,
)
from repro.papers.implicit_sparsification.method import (
    Algorithm1,
    Method,
    Penalty,
    effective_weights,
    fold,
    l1_norms,
    parametrize,
    schedule,
    weight_tensors,
)
from repro.papers.implicit_sparsification.settings import Setting
from repro.prune import Mask, select

_KEEP = 0.5
"""Of the weights that are left, the share that a cycle of iterative pruning keeps; the paper's is 0.8."""
_REWIND_EPOCH = 2
"""Whose weights weight rewinding returns to."""

# --- one training -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Fit:
    r"""Networks trained with one method, A strengths and S seeds, M = A S in all.

    Attributes:
        members: one row a network, in their order: strength, seed.
        datasets: one a network.
        networks: M plain networks, folded.
        start: the weights that each network had before training, name to ``(M, *shape)``.
        course: one row a network and epoch: strength, seed, epoch, alpha, dose $A=\sum_k\eta_k\alpha_k/(1-\mu)$ over
            steps, l1 $\|x\|_1$, batch_accuracy.
        diverged: members whose loss became infinite or not a number.
    """

    members: pd.DataFrame
    datasets: list[Dataset]
    networks: Ensemble
    start: dict[str, Tensor]
    course: pd.DataFrame
    diverged: list[int]

    def pruned_accuracy(self, sparsities: Sequence[float]) -> pd.DataFrame:
        r"""Accuracy after the $\lfloor p\,n\rfloor$ smallest of all n weights are set to zero, without fine-tuning.

        Weights are ranked by $|x|$ over the whole network; biases and normalization stay.

        Args:
            sparsities: fractions p to remove.

        Returns:
            One row a network and sparsity: strength, seed, sparsity, validation_accuracy, test_accuracy (fractions).
        """
        tables = []
        for sparsity in sparsities:
            pruned = Ensemble(list(self.networks)).to(resolve_device("auto"))
            _smallest(pruned, sparsity=sparsity).apply(pruned)
            tables.append(self.members.assign(sparsity=sparsity, **_accuracies(pruned, self.datasets)))
        return pd.concat(tables, ignore_index=True)

    def sign_flips(self) -> pd.DataFrame:
        r"""Share of the largest 5 % of the weights, by $|x|$ at the end, whose sign is not the one they started with.

        A weight that is exactly 0, at the start or at the end, has not flipped.

        Returns:
            One row a network: strength, seed, flips.
        """
        final, first = (
            torch.cat([weights[name].detach().flatten(1) for name in self.start], dim=1)
            for weights in (self.networks.parameters, self.start)
        )
        largest = final.abs().topk(round(0.05 * final.shape[1]), dim=1).indices
        flipped = final.gather(1, largest).sign() * first.gather(1, largest).sign() < 0
        return self.members.assign(flips=flipped.double().mean(dim=1).tolist())


def fit(
    where: Setting,
    how: Method,
    strengths: Sequence[float] | None = None,
    *,
    seeds: Sequence[int],
    n_epochs: int | None = None,
    mixed_precision: bool = False,
) -> Fit:
    """Train networks with one method at several strengths, each from the same initial weights for a seed.

    Args:
        where: data, network and training.
        how: the method.
        strengths: None for the method's own grid.
        seeds: of splits, initial weights and orders of batches.
        n_epochs: None for the setting's.
        mixed_precision: as in ``learn.train``.

    Raises:
        TrainingDivergedError: all networks diverged; of some, ``Fit.diverged`` tells.
    """
    grid = how.grid if strengths is None else strengths
    members, datasets, ensemble = _written(where, how, grid, seeds)
    start = {name: weight.detach().clone() for name, weight in effective_weights(ensemble).items()}
    n_epochs = n_epochs or where.n_epochs
    history, course = _train(
        ensemble, datasets, where, how, members, n_epochs, mixed_precision=mixed_precision
    )
    course = course.join(members, on="member").drop(columns="member")
    networks = Ensemble([fold(network) for network in ensemble])
    return Fit(members, datasets, networks, start, course, sorted(history.diverged))


def _written(
    where: Setting, how: Method, strengths: Sequence[float], seeds: Sequence[int]
) -> tuple[pd.DataFrame, list[Dataset], Ensemble]:
    """Members, strength by strength and seed by seed; the data and initial network, written in a form, of each."""
    members = pd.DataFrame([(a, s) for a in strengths for s in seeds], columns=["strength", "seed"])
    networks = where.networks(members["seed"].tolist())
    for network, strength, seed in zip(networks, members["strength"], members["seed"].tolist(), strict=True):
        if how.form is not None:
            # a stream of its own: the initial weights must not be drawn a second time
            parametrize(network, partial(how.form, strength, streams(10_000 + seed).initialization))
    return members, where.data_sets(seeds) * len(strengths), Ensemble(networks)


def _train(
    ensemble: Ensemble,
    datasets: list[Dataset],
    where: Setting,
    how: Method,
    members: pd.DataFrame,
    n_epochs: int,
    **options: Any,
) -> tuple[History, pd.DataFrame]:
    """Train an ensemble written in a method's form by SGD with momentum under a cosine schedule; in place."""
    strengths = torch.tensor(members["strength"].to_numpy()) * (how.penalty is not None)
    penalty = Penalty(ensemble, how.penalty, strengths, where.weight_decay, how.decays)
    course = _Course(penalty, ensemble, how, n_epochs, where.momentum)
    rate = where.factor_rate if how.fast else where.rate
    history = train(
        ensemble,
        datasets,
        optimizer=partial(torch.optim.SGD, lr=rate, momentum=where.momentum),
        schedule=partial(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=n_epochs),
        n_epochs=n_epochs,
        batch_size=where.batch_size,
        before_step=[penalty],
        after_epoch=[course],
        augment=random_crop_flip if where.images else None,
        evaluate_every=n_epochs,
        seed=members["seed"].tolist(),
        **options,
    )
    return history, course.table()


class _Course:
    """An ``after_epoch`` hook: notes the epoch that ended, sets strengths and temperatures of the next."""

    def __init__(
        self, penalty: Penalty, ensemble: Ensemble, how: Method, n_epochs: int, momentum: float
    ) -> None:
        self._penalty, self._how, self._n_epochs, self._momentum = penalty, how, n_epochs, momentum
        self._tensors = weight_tensors(ensemble)
        self._step, self._dose = 0, torch.zeros_like(penalty.strengths)
        self._rows: list[tuple[float, ...]] = []
        self._next: Callable[[Tensor, int, Tensor, Tensor], Tensor]
        if how.schedule == "pilot":
            self._next = Algorithm1(n_epochs, l1_norms(ensemble))
        else:
            amplitude, shape = penalty.strengths, [*schedule(how.schedule, n_epochs), 0.0]
            penalty.strengths = amplitude * shape[0]
            self._next = lambda alpha, epoch, accuracy, l1: amplitude * shape[epoch]

    def __call__(self, model: Ensemble, report: EpochReport) -> None:
        used, l1 = self._penalty.strengths, l1_norms(model)
        n_steps, self._step = report.step - self._step, report.step
        self._dose = self._dose + n_steps * report.learning_rate * used / (1 - self._momentum)
        columns = (column.tolist() for column in (used, self._dose, l1, report.batch_accuracy))
        self._rows += [(report.epoch, i, *row) for i, row in enumerate(zip(*columns, strict=True))]
        self._penalty.strengths = self._next(used, report.epoch, report.batch_accuracy, l1)
        if self._how.temperature != 1:
            for *_, temperature in self._tensors.values():
                temperature.fill_(self._how.temperature ** (report.epoch / self._n_epochs))

    def table(self) -> pd.DataFrame:
        return pd.DataFrame(self._rows, columns=["epoch", "member", "alpha", "dose", "l1", "batch_accuracy"])


# --- pruning ------------------------------------------------------------------------------------------------------


def _smallest(networks: Ensemble, within: Mask | None = None, **how_many: Any) -> Mask:
    """The mask without the smallest weights of each network; ``within`` and how many as for ``prune.select``."""
    weights = effective_weights(networks).items()
    # a network that has diverged has weights that are no numbers; its accuracy is that of chance already
    scores = {name: weight.detach().abs().nan_to_num(0.0).cpu() for name, weight in weights}
    masks = []
    for i in range(len(networks)):
        before = None if within is None else Mask({name: within[name][i] for name in within})
        masks.append(select({name: score[i] for name, score in scores.items()}, within=before, **how_many))
    return Mask.stack(masks)


def _accuracies(networks: Ensemble, datasets: Sequence[Dataset]) -> dict[str, list[float]]:
    """Validation and test accuracy of each network on its own data set."""
    device = next(iter(networks.parameters.values())).device
    found = {}
    for part in ("validation", "test"):
        x, y = (torch.stack([getattr(data, f"{xy}_{part}") for data in datasets]).to(device) for xy in "xy")
        found[f"{part}_accuracy"] = evaluate(networks, x, y, per_member=True)[1].tolist()
    return found


def cycles(
    where: Setting, how: Method, *, seeds: Sequence[int], rewind: str, n_cycles: int, n_epochs: int
) -> pd.DataFrame:
    r"""Train, prune the smallest weights by $|x|$ over the whole network, rewind; again and again.

    Cycle k trains at density $2^{-k}$ and measures at the end, before the next pruning. A pruned weight is exactly 0
    from then on: of $m\odot w$ both factors are set to 0, where both gradients vanish. The optimizer starts afresh in
    every cycle, and so does the schedule of the strength. The method's strengths are trained together.

    Args:
        where, how, seeds: as for ``fit``; a plain method or one with factors.
        rewind: ``"rates"`` keeps the weights and restarts the schedule of the learning rate (LRR); ``"weights"`` goes
            back to the weights of the second epoch (WR; the paper's first version calls it IMP).
        n_cycles: how many times to prune; the first training, without any, is cycle 0.
        n_epochs: of every cycle.

    Returns:
        One row a cycle, strength and seed: cycle, strength, seed, sparsity, validation_accuracy, test_accuracy.

    Raises:
        TrainingDivergedError: all networks diverge in one cycle.
    """
    members, datasets, ensemble = _written(where, how, how.grid, seeds)
    layers, mask = weight_tensors(ensemble), _smallest(ensemble, n_pruned=0)
    pruned: dict[str, Tensor] = {}
    early: dict[str, Tensor] = {}
    rewind_step = _REWIND_EPOCH * -(-len(datasets[0].y_train) // where.batch_size)

    @torch.no_grad()
    def hold(model: Ensemble, step: int) -> None:
        for name, gone in pruned.items():
            for tensor in layers[name]:
                tensor.masked_fill_(gone.to(tensor.device), 0)

    def remember(model: Ensemble, step: int) -> None:
        if step == rewind_step and not early:
            early.update(model.state_dict())

    tables = []
    for cycle in range(n_cycles + 1):
        orders = members.assign(seed=1000 * cycle + members["seed"])
        _train(ensemble, datasets, where, how, orders, n_epochs, after_step=[hold, remember])
        found = {"cycle": cycle, "sparsity": mask.sparsity} | _accuracies(ensemble, datasets)
        tables.append(members.assign(**found))
        n_kept = round(_KEEP * (mask.n_kept // len(members)))
        mask = _smallest(ensemble, mask, n_pruned=mask.n_weights // len(members) - n_kept)
        pruned.update({name: ~mask[name] for name in mask})
        if rewind == "weights":
            ensemble.load_state_dict(early)
        hold(ensemble, 0)
    return pd.concat(tables, ignore_index=True)
