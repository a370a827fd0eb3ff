"""Training: networks of one method with all seeds and strengths at once, and diagonal networks as one tensor."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from repro import learn
from repro.learn import Dataset, Ensemble, EpochReport
from repro.papers.implicit_sparsification import method
from repro.papers.implicit_sparsification.method import Choice, _effective_weights, _Method, _weight_tensors
from repro.papers.implicit_sparsification.settings import _Array, _Setting, _SparseRegression
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
        pruned = Ensemble(list(self.networks)).to(learn.resolve_device("auto"))
        tables = []
        for sparsity in sparsities:
            _smallest(pruned, sparsity=sparsity).apply(pruned)
            tables.append(told.assign(sparsity=sparsity, **_accuracies(pruned, self.datasets)))
        return pd.concat(tables, ignore_index=True)


def _flat(weights: Mapping[str, Tensor]) -> Tensor:
    """All weights of each network, ``(S, n)``."""
    return torch.cat([weight.detach().flatten(1) for weight in weights.values()], dim=1)


def _fit(
    where: _Setting,
    how: _Method,
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
    members, datasets, model = written = _written(where, how, choices, seeds)
    start = {name: weight.detach().clone() for name, weight in _effective_weights(model).items()}
    _train(written, where, how, n_epochs or where.n_epochs, mixed_precision=mixed_precision)
    if not isinstance(model, Ensemble):
        model, start = Ensemble([model]), {name: weight[None] for name, weight in start.items()}
    return _Fit(members, datasets, Ensemble([method.fold(network) for network in model]), start)


class _Written(NamedTuple):
    """Networks, choice by choice and seed by seed: as in ``_Fit`` their members and data; the model in its form."""

    members: pd.DataFrame
    datasets: list[Dataset]
    model: method._Model


def _written(where: _Setting, how: _Method, choices: Sequence[Choice], seeds: Sequence[int]) -> _Written:
    """The initial networks, written in a form."""
    rows = [(*choice, seed) for choice in choices for seed in seeds]
    members = pd.DataFrame(rows, columns=[*Choice._fields, "seed"])
    networks = where.networks(members["seed"].tolist())
    for network, knob in zip(networks, members["knob"], strict=True):
        if where.images:
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if how.form is not None:
            method.parametrize(network, partial(how.form, knob))
    # one network alone is twice as fast as an ensemble of one
    model = Ensemble(networks) if len(networks) > 1 else networks[0]
    return _Written(members, where.data_sets(seeds) * len(choices), model)


def _train(written: _Written, where: _Setting, how: _Method, n_epochs: int, **options: Any) -> None:
    """Train networks written in a method's form by SGD with momentum under a cosine schedule; in place."""
    members, datasets, model = written
    strengths, following = _strengths(model, members, n_epochs)
    penalty = method.Penalty(model, how.penalty, strengths, where.weight_decay, how.decays)
    layers = _weight_tensors(model).values()

    def end_epoch(model: method._Model, report: EpochReport) -> None:
        """Set strengths and temperatures of the next epoch."""
        penalty.strengths = following(penalty.strengths, report)
        if how.temperature != 1:
            for _, _, temperature, _ in layers:
                temperature.fill_(how.temperature ** (report.epoch / n_epochs))

    learn.train(
        model,
        datasets if len(datasets) > 1 else datasets[0],
        optimizer=partial(torch.optim.SGD, lr=members["rate"].iloc[0], momentum=where.momentum),
        schedule=partial(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=n_epochs),
        n_epochs=n_epochs,
        batch_size=where.batch_size,
        before_step=[penalty],
        after_epoch=[end_epoch],
        augment=learn.random_crop_flip if where.images else None,
        evaluate_every=n_epochs,
        seed=members["seed"].tolist(),
        **options,
    )


def _strengths(
    model: method._Model, members: pd.DataFrame, n_epochs: int
) -> tuple[Tensor, Callable[[Tensor, EpochReport], Tensor]]:
    """Strengths of the first epoch, and the rule for the next, from those of an epoch and its report."""
    amplitude = torch.tensor(members["strength"].to_numpy())
    if "algorithm 1" in set(members["schedule"]):
        l1 = partial(method._l1_norms, model)
        rule = method.Algorithm1(n_epochs, l1(), torch.tensor(members["knob"].to_numpy()))
        return amplitude, lambda alpha, told: rule(alpha, told.epoch, told.batch_accuracy, l1())
    shapes = np.array([[*method.schedule(name, n_epochs), 0.0] for name in members["schedule"]])
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
        x, y = (each.to(device) for each in learn.stacked(datasets, part))
        found[f"{part}_accuracy"] = learn.evaluate(networks, x, y, per_member=True)[1].tolist()
    return found


def _cycles(
    where: _Setting,
    how: _Method,
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
        where, how, choices, seeds: as for ``_fit``, two networks or more; a plain method or one with factors.
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
    members, datasets, ensemble = written = _written(where, how, choices, seeds)
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
        orders = written._replace(members=members.assign(seed=1000 * cycle + members["seed"]))
        _train(orders, where, how, n_epochs, after_step=[hold, remember])
        found = {"cycle": cycle, "sparsity": mask.sparsity} | _accuracies(ensemble, datasets)
        tables.append(members.assign(**found))
        n_kept = round(_KEEP * (mask.n_kept // len(members)))
        mask = _smallest(ensemble, mask, n_pruned=mask.n_weights // len(members) - n_kept)
        pruned.update({name: ~mask[name] for name in mask})
        if rewind == "weights":
            ensemble.load_state_dict(early)
        hold(ensemble, 0)
    return pd.concat(tables, ignore_index=True)


# --- diagonal linear networks -------------------------------------------------------------------------------------

# A training loop of its own, for speed. A grid of 390 runs of 2,000 steps takes 0.7 s, ten times less than one run
# after the other in NumPy with gradients by hand, and 250 times less than with automatic differentiation and
# ``torch.optim`` (``benchmarks/README.md``). A network here is 100 numbers, and a step of a run 0.9 microseconds.

_STEP_SIZE = 1e-2
r"""$\eta$. Factors move x by about $\eta\sqrt{\beta^2+4x^2}$ times the gradient. The paper's is 1e-4, with a mean
over the samples in the loss, which takes a hundred times as many steps."""
_BATCH_SIZE = 5
"""Samples a step of stochastic descent; a divisor of their number."""


def _decay_both(m: Tensor, w: Tensor, g: Tensor, pull: Tensor) -> tuple[Tensor, Tensor]:
    """One step on f + α(|m|² + |w|²). The same operations for m and w keep |m| = |w| exact."""
    kept = 1 - 2 * pull
    return torch.addcmul(kept * m, g, w, value=-_STEP_SIZE), torch.addcmul(kept * w, g, m, value=-_STEP_SIZE)


def _l1_on_mask(m: Tensor, w: Tensor, g: Tensor, pull: Tensor) -> tuple[Tensor, Tensor]:
    """One subgradient step on f + α|m|₁."""
    moved = torch.addcmul(m, pull, m.sign(), value=-1)
    return moved.addcmul_(g, w, value=-_STEP_SIZE), torch.addcmul(w, g, m, value=-_STEP_SIZE)


def _l1_on_weights(x: Tensor, ones: Tensor, g: Tensor, pull: Tensor) -> tuple[Tensor, Tensor]:
    """One subgradient step on f + α|x|₁."""
    return torch.addcmul(x, pull, x.sign(), value=-1).sub_(g, alpha=_STEP_SIZE), ones


_FAMILIES: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "pilot": (method.pilot_factors, _decay_both),
    "spred": (partial(method.pilot_factors, beta=0.0), _decay_both),
    "l1_m": (method.pilot_factors, _l1_on_mask),
    "l1_x": (lambda x0: (x0, np.ones_like(x0)), _l1_on_weights),
}
r"""The families by key: how x0 becomes factors, and one step from m, w, the gradient of f with respect to x, and
$\eta\alpha$ to m and w. The paper compares ``pilot``, ``l1_m`` (L1 on m) and ``l1_x`` (L1 on x, by subgradients; the
factors are x and ones), and ``spred``, the balanced start, in figure 1a."""


def _descend(
    problems: Sequence[_SparseRegression],
    runs: Mapping[str, pd.DataFrame],
    steps: Sequence[int],
    orders: Sequence[int] | None = None,
) -> dict[str, _Array]:
    r"""Gradient descent on $\frac1{2d}\|Zx-y\|^2$ plus $\alpha_k$ times the family's penalty.

    A step of a family, for all problems and runs, is two batched matrix products and a few products of whole tensors.
    Each run follows the path that it would follow alone, up to rounding. Shrinking factors pass through denormal
    numbers, which slow arithmetic manyfold: call ``repro.learn.reproducible`` first, which flushes them to zero.

    Args:
        problems: P regressions of one size, each with its own start x0.
        runs: of each family, ``pilot``, ``spred``, ``l1_m`` or ``l1_x``, a table with R rows: schedule, a name
            for ``method.schedule``, and amplitude.
        steps: to record, ascending; step 0 is the start, the last one the end.
        orders: seeds of the order of mini-batches, one a problem, which all its families and runs share; None for full
            descent. Batches have 5 samples, a divisor of d.

    Returns:
        Weights x of each family at the steps, ``(T, P, R, n)``; NaN once one of a run's was 1e6 or more in size.
    """
    z = torch.from_numpy(np.stack([problem.Z for problem in problems]))
    minus_y = torch.from_numpy(np.stack([-problem.y for problem in problems]))
    x0, recorded = np.stack([problem.x0 for problem in problems]), set(steps)
    paths = {}
    for name, table in runs.items():  # one core's cache holds a family
        begin, update = _FAMILIES[name]
        of_runs = zip(table["schedule"], table["amplitude"], strict=True)
        alphas = np.stack([amplitude * method.schedule(how, steps[-1]) for how, amplitude in of_runs])
        pulls = torch.from_numpy(_STEP_SIZE * alphas.T[:, :, None])  # (K, R, 1)
        batches = repeat((z, minus_y[:, None])) if orders is None else _mini_batches(z, minus_y, orders)
        m, w = (torch.from_numpy(part)[:, None].repeat(1, len(table), 1) for part in begin(x0))
        x = m * w
        kept = {0: x}
        for step, (pull, batch) in enumerate(zip(pulls.unbind(0), batches, strict=False), start=1):
            m, w = update(m, w, _gradient(x, *batch), pull)
            x = m * w
            if step in recorded:
                kept[step] = x
        path = np.stack([kept[step].numpy() for step in steps])
        gone = ~(np.abs(path).max(axis=-1) < 1e6)
        path[np.logical_or.accumulate(gone, axis=0)] = np.nan
        paths[name] = path
    return paths


def _gradient(x: Tensor, z: Tensor, minus_y: Tensor) -> Tensor:
    """Of 1/(2b) |Zx - y|² at x, ``(P, R, n)``."""
    residual = torch.baddbmm(minus_y, x, z.mT)
    return torch.bmm(residual.div_(z.shape[1]), z)


def _mini_batches(z: Tensor, minus_y: Tensor, seeds: Sequence[int]) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless batches of Z, ``(P, b, n)``, and -y, ``(P, 1, b)``: parts of a new order of the samples an epoch."""
    orders = [np.random.default_rng([seed, 5]) for seed in seeds]
    n_problems, n_samples, n = z.shape
    first = n_samples * np.arange(n_problems)[:, None]
    while True:
        rows = torch.from_numpy(first + np.stack([rng.permutation(n_samples) for rng in orders]))
        parts = rows.view(n_problems, -1, _BATCH_SIZE).swapaxes(0, 1)  # (parts, P, b)
        samples = z.view(-1, n).index_select(0, parts.flatten()).view(*parts.shape, n)
        yield from zip(samples, minus_y.flatten()[parts].unsqueeze(-2), strict=True)
