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
    evaluate,
    random_crop_flip,
    resolve_device,
    stacked,
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
from repro.papers.implicit_sparsification.settings import _Setting
from repro.prune import Mask, select

_KEEP = 0.5
"""Of the weights that are left, the share that a cycle of iterative pruning keeps; the paper's is 0.8."""
_REWIND_EPOCH = 2
"""Whose weights weight rewinding returns to."""

# --- one training -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Fit:
    r"""Networks trained with one method, C choices and S seeds, M = C S in all.

    Attributes:
        members: one row a network, in their order: the fields of its choice, seed.
        datasets: one a network.
        networks: M plain networks, folded.
        start: the weights that each network had before training, name to ``(M, *shape)``.
    """

    members: pd.DataFrame
    datasets: list[Dataset]
    networks: Ensemble
    start: dict[str, Tensor]

    def pruned_accuracy(self, sparsities: Sequence[float]) -> pd.DataFrame:
        r"""Accuracy after the $\lfloor p\,n\rfloor$ smallest of all n weights are set to zero, without fine-tuning.

        Weights are ranked by $|x|$ over the whole network; biases and normalization stay.

        Args:
            sparsities: fractions p to remove, ascending.

        Returns:
            One row a network and sparsity: those of members, sparsity, validation_accuracy, test_accuracy (fractions);
            of the network before pruning zeros (the share of weights that are 0) and flips (the share of the largest
            5 % of the weights, by $|x|$, whose sign is not the one they started with; one that is exactly 0, at the
            start or at the end, has not flipped).
        """
        final, first = _flat(_effective_weights(self.networks)), _flat(self.start)
        largest = final.abs().topk(round(0.05 * final.shape[1]), dim=1).indices
        flipped = final.gather(1, largest).sign() * first.gather(1, largest).sign() < 0
        of_network = {"zeros": final == 0, "flips": flipped}
        told = self.members.assign(**{k: v.double().mean(dim=1).tolist() for k, v in of_network.items()})
        pruned = Ensemble(list(self.networks)).to(resolve_device("auto"))
        tables = []
        for sparsity in sparsities:
            _smallest(pruned, sparsity=sparsity).apply(pruned)
            tables.append(told.assign(sparsity=sparsity, **_accuracies(pruned, self.datasets)))
        return pd.concat(tables, ignore_index=True)


def _flat(weights: Mapping[str, Tensor]) -> Tensor:
    """All weights of each network, ``(S, n)``."""
    return torch.cat([weight.detach().flatten(1) for weight in weights.values()], dim=1)


def fit(
    where: _Setting,
    how: Method,
    choices: Sequence[Choice],
    *,
    seeds: Sequence[int],
    n_epochs: int | None = None,
    mixed_precision: bool = False,
) -> _Fit:
    """Train networks with one method, each from the same initial weights for a seed.

    Args:
        where: data, network and training.
        how: the method.
        choices: of one learning rate; all of them follow algorithm 1, or none.
        seeds: of splits, initial weights and orders of batches.
        n_epochs: None for the setting's.
        mixed_precision: as in ``learn.train``.

    Returns:
        The trained networks, whose ``pruned_accuracy`` tells what is left of them at each sparsity.

    Raises:
        TrainingDivergedError: all networks diverged.
    """
    members, datasets, model = _written(where, how, choices, seeds)
    start = {name: weight.detach().clone() for name, weight in _effective_weights(model).items()}
    n_epochs = n_epochs or where.n_epochs
    _train(model, datasets, where, how, members, n_epochs, mixed_precision=mixed_precision)
    if not isinstance(model, Ensemble):
        model, start = Ensemble([model]), {name: weight[None] for name, weight in start.items()}
    return _Fit(members, datasets, Ensemble([fold(network) for network in model]), start)


def _written(
    where: _Setting, how: Method, choices: Sequence[Choice], seeds: Sequence[int]
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
    where: _Setting,
    how: Method,
    members: pd.DataFrame,
    n_epochs: int,
    **options: Any,
) -> None:
    """Train networks written in a method's form by SGD with momentum under a cosine schedule; in place."""
    strengths, following = _strengths(model, members, n_epochs)
    penalty = Penalty(model, how.penalty, strengths, where.weight_decay, how.decays)
    layers = _weight_tensors(model).values()

    def end_epoch(model: nn.Module | Ensemble, report: EpochReport) -> None:
        """Set strengths and temperatures of the next epoch."""
        penalty.strengths = following(penalty.strengths, report)
        if how.temperature != 1:
            for _, _, temperature, _ in layers:
                temperature.fill_(how.temperature ** (report.epoch / n_epochs))

    train(
        model,
        datasets if len(datasets) > 1 else datasets[0],
        optimizer=partial(torch.optim.SGD, lr=members["rate"].iloc[0], momentum=where.momentum),
        schedule=partial(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=n_epochs),
        n_epochs=n_epochs,
        batch_size=where.batch_size,
        before_step=[penalty],
        after_epoch=[end_epoch],
        augment=random_crop_flip if where.images else None,
        evaluate_every=n_epochs,
        seed=members["seed"].tolist(),
        **options,
    )


def _strengths(
    model: nn.Module | Ensemble, members: pd.DataFrame, n_epochs: int
) -> tuple[Tensor, Callable[[Tensor, EpochReport], Tensor]]:
    """Strengths of the first epoch, and the rule for the next, from those of an epoch and its report."""
    amplitude = torch.tensor(members["strength"].to_numpy())
    if "algorithm 1" in set(members["schedule"]):
        rule = Algorithm1(n_epochs, _l1_norms(model), torch.tensor(members["knob"].to_numpy()))
        return amplitude, lambda alpha, report: rule(
            alpha, report.epoch, report.batch_accuracy, _l1_norms(model)
        )
    shapes = np.array([[*schedule(name, n_epochs), 0.0] for name in members["schedule"]])
    planned = amplitude * torch.from_numpy(shapes.T)  # (T + 1, M)
    return planned[0], lambda alpha, report: planned[report.epoch]


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
        x, y = (each.to(device) for each in stacked(datasets, part))
        found[f"{part}_accuracy"] = evaluate(networks, x, y, per_member=True)[1].tolist()
    return found


def cycles(
    where: _Setting,
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
        One row a cycle, choice and seed: cycle, the fields of the choice, seed, sparsity, validation_accuracy,
        test_accuracy.

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
