"""Training networks with one method: choices of one learning rate and all seeds at once, by ``repro.learn.train``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from repro.learn import (
    Dataset,
    Ensemble,
    EpochReport,
    History,
    evaluate,
    random_crop_flip,
    resolve_device,
    train,
)
from repro.papers.implicit_sparsification.method import (
    Algorithm1,
    Choice,
    Method,
    Penalty,
    _effective_weights,
    _l1_norms,
    _weight_tensors,
    fold,
    parametrize,
    schedule,
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
    r"""Networks trained with one method, C choices and S seeds, M = C S in all.

    Attributes:
        members: one row a network, in their order: the fields of its choice, seed.
        datasets: one a network.
        networks: M plain networks, folded.
        start: the weights that each network had before training, name to ``(M, *shape)``.
        course: one row a network and epoch: those of members, epoch, alpha, dose $A=\sum_k\eta_k\alpha_k/(1-\mu)$ over
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
            sparsities: fractions p to remove, ascending.

        Returns:
            One row a network and sparsity: those of members, sparsity, validation_accuracy, test_accuracy (fractions),
            zeros (the share of weights that are 0 before pruning).
        """
        tables = []
        pruned = Ensemble(list(self.networks)).to(resolve_device("auto"))
        weights = _flat(_effective_weights(pruned))
        zeros = (weights == 0).sum(dim=1) / weights.numel() * len(pruned)
        for sparsity in sparsities:
            _smallest(pruned, sparsity=sparsity).apply(pruned)
            found = _accuracies(pruned, self.datasets)
            tables.append(self.members.assign(sparsity=sparsity, zeros=zeros.tolist(), **found))
        return pd.concat(tables, ignore_index=True)

    def sign_flips(self) -> pd.DataFrame:
        r"""Share of the largest 5 % of the weights, by $|x|$ at the end, whose sign is not the one they started with.

        A weight that is exactly 0, at the start or at the end, has not flipped.

        Returns:
            One row a network: those of members, flips.
        """
        final, first = _flat(_effective_weights(self.networks)), _flat(self.start)
        largest = final.abs().topk(round(0.05 * final.shape[1]), dim=1).indices
        flipped = final.gather(1, largest).sign() * first.gather(1, largest).sign() < 0
        return self.members.assign(flips=flipped.double().mean(dim=1).tolist())


def _flat(weights: Mapping[str, Tensor]) -> Tensor:
    """All weights of each network, ``(S, n)``."""
    return torch.cat([weight.detach().flatten(1) for weight in weights.values()], dim=1)


def fit(
    where: Setting,
    how: Method,
    choices: Sequence[Choice],
    *,
    seeds: Sequence[int],
    n_epochs: int | None = None,
    mixed_precision: bool = False,
) -> Fit:
    """Train networks with one method, each from the same initial weights for a seed.

    Args:
        where: data, network and training.
        how: the method.
        choices: of one learning rate.
        seeds: of splits, initial weights and orders of batches.
        n_epochs: None for the setting's.
        mixed_precision: as in ``learn.train``.

    Raises:
        ValueError: choices that differ in the learning rate, or of which only some follow algorithm 1.
        TrainingDivergedError: all networks diverged; of some, ``Fit.diverged`` tells.
    """
    members, datasets, model = _written(where, how, choices, seeds)
    start = {name: weight.detach().clone() for name, weight in _effective_weights(model).items()}
    n_epochs = n_epochs or where.n_epochs
    history, course = _train(model, datasets, where, how, members, n_epochs, mixed_precision=mixed_precision)
    course = course.join(members, on="member").drop(columns="member")
    if not isinstance(model, Ensemble):
        model, start = Ensemble([model]), {name: weight[None] for name, weight in start.items()}
    networks = Ensemble([fold(network) for network in model])
    return Fit(members, datasets, networks, start, course, sorted(history.diverged))


def _written(
    where: Setting, how: Method, choices: Sequence[Choice], seeds: Sequence[int]
) -> tuple[pd.DataFrame, list[Dataset], nn.Module | Ensemble]:
    """Members, choice by choice and seed by seed; the data of each and the initial networks, written in a form."""
    rows = [(*choice, seed) for choice in choices for seed in seeds]
    members = pd.DataFrame(rows, columns=[*Choice._fields, "seed"])
    networks = where.networks(members["seed"].tolist())
    for network, knob in zip(networks, members["knob"], strict=True):
        if where.images:
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if how.form is not None:
            parametrize(network, partial(how.form, knob))
    # one network alone is twice as fast as an ensemble of one
    model = Ensemble(networks) if len(networks) > 1 else networks[0]
    return members, where.data_sets(seeds) * len(choices), model


def _train(
    model: nn.Module | Ensemble,
    datasets: list[Dataset],
    where: Setting,
    how: Method,
    members: pd.DataFrame,
    n_epochs: int,
    **options: Any,
) -> tuple[History, pd.DataFrame]:
    """Train networks written in a method's form by SGD with momentum under a cosine schedule; in place.

    Returns their course besides the history: one row a member and epoch.
    """
    rates = members["rate"].unique().tolist()
    if len(rates) > 1:
        raise ValueError(f"choices must have one learning rate; got {sorted(rates)}")
    first, following = _strengths(model, members, n_epochs)
    penalty = Penalty(model, how.penalty, first, where.weight_decay, how.decays)
    layers, course = _weight_tensors(model).values(), []

    def end_epoch(model: nn.Module | Ensemble, report: EpochReport) -> None:
        """Note the epoch that ended, set strengths and temperatures of the next."""
        used, l1, accuracy = penalty.strengths, _l1_norms(model), report.batch_accuracy
        per_alpha = report.step / report.epoch * report.learning_rate / (1 - where.momentum)
        told = {"alpha": used, "dose": per_alpha * used, "l1": l1, "batch_accuracy": accuracy}
        row = {"epoch": report.epoch, "member": members.index}
        course.append(pd.DataFrame(row | {name: column.numpy() for name, column in told.items()}))
        penalty.strengths = following(used, report.epoch, accuracy, l1)
        if how.temperature != 1:
            for _, _, temperature, _ in layers:
                temperature.fill_(how.temperature ** (report.epoch / n_epochs))

    history = train(
        model,
        datasets if len(datasets) > 1 else datasets[0],
        optimizer=partial(torch.optim.SGD, lr=rates[0], momentum=where.momentum),
        schedule=partial(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=n_epochs),
        n_epochs=n_epochs,
        batch_size=where.batch_size,
        before_step=[penalty],
        after_epoch=[end_epoch],
        augment=_CropFlip() if where.images else None,
        evaluate_every=n_epochs,
        seed=members["seed"].tolist(),
        **options,
    )
    table = pd.concat(course, ignore_index=True)
    return history, table.assign(dose=table.groupby("member")["dose"].cumsum())


def _strengths(
    model: nn.Module | Ensemble, members: pd.DataFrame, n_epochs: int
) -> tuple[Tensor, Callable[[Tensor, int, Tensor, Tensor], Tensor]]:
    """Strengths of the first epoch, and the rule for the next: arguments as for ``Algorithm1``."""
    amplitude = torch.tensor(members["strength"].to_numpy())
    if "algorithm 1" in set(members["schedule"]):
        if members["schedule"].nunique() > 1:
            raise ValueError("algorithm 1 and fixed schedules cannot be trained together")
        rise = torch.tensor(members["knob"].to_numpy())
        return amplitude, Algorithm1(n_epochs, _l1_norms(model), rise)
    shapes = np.array([[*schedule(name, n_epochs), 0.0] for name in members["schedule"]])
    planned = amplitude * torch.from_numpy(shapes.T)  # (T + 1, M)
    return planned[0], lambda alpha, epoch, accuracy, l1: planned[epoch]


class _CropFlip:
    """``learn.random_crop_flip`` with the draws made where the images are."""

    def __init__(self) -> None:
        self._own: torch.Generator | None = None

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        if self._own is None:
            self._own = torch.Generator(x.device).manual_seed(generator.initial_seed())
        return random_crop_flip(x, self._own)


# --- pruning ------------------------------------------------------------------------------------------------------


def _smallest(networks: Ensemble, within: Mask | None = None, **how_many: Any) -> Mask:
    """The mask without the smallest weights of each network; ``within`` and how many as for ``prune.select``."""
    weights = _effective_weights(networks).items()
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
    where: Setting,
    how: Method,
    choices: Sequence[Choice],
    *,
    seeds: Sequence[int],
    rewind: str,
    n_cycles: int,
    n_epochs: int,
) -> pd.DataFrame:
    r"""Train, prune the smallest weights by $|x|$ over the whole network, rewind; again and again.

    Cycle k trains at density $2^{-k}$ and measures at the end, before the next pruning. A pruned weight is exactly 0
    from then on: of $m\odot w$ both factors are set to 0, where both gradients vanish. The optimizer starts afresh in
    every cycle, and so does the schedule of the strength. Choices are trained together.

    Args:
        where, how, choices, seeds: as for ``fit``, two networks or more; a plain method or one with factors.
        rewind: ``"rates"`` keeps the weights and restarts the schedule of the learning rate (LRR); ``"weights"`` goes
            back to the weights of the second epoch (WR; the paper's first version calls it IMP).
        n_cycles: how many times to prune; the first training, without any, is cycle 0.
        n_epochs: of every cycle.

    Returns:
        One row a cycle, choice and seed: cycle, those of ``Fit.members``, sparsity, validation_accuracy, test_accuracy.

    Raises:
        TrainingDivergedError: all networks diverge in one cycle.
    """
    members, datasets, ensemble = _written(where, how, choices, seeds)
    assert isinstance(ensemble, Ensemble)
    layers, mask = _weight_tensors(ensemble), _smallest(ensemble, n_pruned=0)
    pruned: dict[str, Tensor] = {}
    early: dict[str, Tensor] = {}
    rewind_step = _REWIND_EPOCH * -(-len(datasets[0].y_train) // where.batch_size)

    @torch.no_grad()
    def hold(model: Ensemble, step: int) -> None:
        for name, gone in pruned.items():
            pruned[name] = gone.to(layers[name][0].device)  # a copy at the first step alone
            for tensor in layers[name]:
                tensor.masked_fill_(pruned[name], 0)

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
