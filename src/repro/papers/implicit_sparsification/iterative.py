r"""Iterative magnitude pruning: train, remove the smallest weights, rewind, train again; with and without factors.

Weight rewinding (WR) goes back to the weights of an early epoch, learning-rate rewinding (LRR) keeps them and only
restarts the schedule. The optimizer starts afresh in every cycle.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor

from repro.learn import Dataset, Ensemble, evaluate
from repro.papers.implicit_sparsification.factors import effective_weights, weight_tensors
from repro.papers.implicit_sparsification.fitting import check_epochs, run, written
from repro.papers.implicit_sparsification.methods import Method, method
from repro.papers.implicit_sparsification.settings import Setting, data_sets, initial_networks, setting
from repro.prune import Mask, select

__all__ = ["REWINDS", "iterative_pruning"]

REWINDS: tuple[str, ...] = ("rates", "weights")
"""Learning-rate rewinding (LRR) and weight rewinding (WR; the first version calls it IMP)."""


def iterative_pruning(
    where: str | Setting,
    how: str | Method,
    strength: float = 0.0,
    *,
    seeds: Sequence[int],
    rewind: str = "rates",
    n_cycles: int = 15,
    n_epochs: int = 20,
    keep: float = 0.6,
    rewind_epoch: int = 2,
    device: str = "auto",
    mixed_precision: bool = False,
    progress: bool | None = None,
) -> pd.DataFrame:
    r"""Train, prune the smallest weights by $|x|$ over the whole network, rewind; again and again.

    Cycle k trains at density $q^k$ and measures at the end, before the next pruning. A pruned weight is exactly
    0 from then on: of $m\odot w$ both factors are set to 0, where both gradients vanish.

    Args:
        where: a setting or its name.
        how: a method or its name: a plain one or one with factors.
        strength: of the method's penalty, the same in every cycle; its schedule starts again with each.
        seeds: of splits, initial weights and orders of batches.
        rewind: a name in ``REWINDS``.
        n_cycles: how many times to prune; the first training, without any, is cycle 0.
        n_epochs: of every cycle.
        keep: q, which share of the remaining weights a pruning keeps.
        rewind_epoch: the epoch whose weights weight rewinding returns to.
        device, mixed_precision, progress: as in ``learn.train``.

    Returns:
        One row a cycle and seed: method, rewind, strength, seed, cycle, sparsity, diverged,
        validation_accuracy, test_accuracy. A network whose loss became infinite in a cycle is diverged from there
        on: what it predicts, or is pruned by, means nothing.

    Raises:
        ValueError: an unknown name, a form in which zeros do not stay, a negative strength, a share to keep outside
            (0, 1), no cycles or epochs, a rewind epoch that training does not reach, no seeds.
        TrainingDivergedError: all networks diverge in one cycle.
    """
    chosen = setting(where) if isinstance(where, str) else where
    picked = method(how) if isinstance(how, str) else how
    if rewind not in REWINDS:
        raise ValueError(f"rewind is {' or '.join(map(repr, REWINDS))}; got {rewind!r}")
    if not 0 < keep < 1:
        raise ValueError(f"keep is the share that a pruning leaves, between 0 and 1; got {keep!r}")
    if not 0 <= strength < float("inf"):
        raise ValueError(f"strength must be a number, 0 or above; got {strength!r}")
    if isinstance(n_cycles, bool) or not isinstance(n_cycles, int) or n_cycles < 1:
        raise ValueError(f"n_cycles must be a whole number, 1 or above; got {n_cycles!r}")
    check_epochs(n_epochs)
    if rewind == "weights" and rewind_epoch not in range(1, n_epochs + 1):
        raise ValueError(
            f"rewind_epoch must lie in 1 to {n_epochs}, the epochs of a cycle; got {rewind_epoch!r}"
        )
    seeds = list(seeds)
    datasets = data_sets(chosen, seeds)
    networks = initial_networks(chosen, seeds)
    ensemble = Ensemble([written(net, picked, strength, s) for net, s in zip(networks, seeds, strict=True)])
    pruning = _Pruning(ensemble)
    steps_per_epoch = -(-len(datasets[0].y_train) // chosen.batch_size)
    early: dict[str, Tensor] = {}

    def remember(model: Ensemble, step: int) -> None:
        if step == rewind_epoch * steps_per_epoch:
            early.update(model.state_dict())

    frames = []
    diverged: set[int] = set()
    for cycle in range(n_cycles + 1):
        watch = rewind == "weights" and cycle == 0
        done = run(
            ensemble,
            datasets,
            chosen,
            picked,
            [strength] * len(seeds),
            seeds=[1000 * cycle + seed for seed in seeds],
            n_epochs=n_epochs,
            after_step=[pruning, remember] if watch else [pruning],
            device=device,
            mixed_precision=mixed_precision,
            progress=progress,
        )
        diverged |= set(done.history.diverged)
        frames.append(
            pd.DataFrame(
                {
                    "cycle": cycle,
                    "seed": seeds,
                    "sparsity": pruning.sparsity,
                    "diverged": [member in diverged for member in range(len(seeds))],
                    "validation_accuracy": _accuracy(ensemble, datasets, "validation"),
                    "test_accuracy": _accuracy(ensemble, datasets, "test"),
                }
            )
        )
        pruning.prune(keep)
        if rewind == "weights":
            ensemble.load_state_dict(early)
        pruning(ensemble, 0)
    table = pd.concat(frames, ignore_index=True)
    return table.assign(method=picked.name, rewind=rewind, strength=strength)


class _Pruning:
    """Which weights stay, and the hook that holds the others at 0, whatever the form."""

    def __init__(self, ensemble: Ensemble) -> None:
        self._ensemble = ensemble
        self._network = ensemble.member(0)
        layers = weight_tensors(ensemble.parameters, self._network).values()
        if any(
            not tensor.requires_grad or tensor.shape != layer[0].shape for layer in layers for tensor in layer
        ):
            raise ValueError(
                "iterative pruning holds a weight at 0 by setting the tensors behind it to 0, which works for plain "
                "weights and for m * w; this method writes weights in another form"
            )
        weights = effective_weights(ensemble.parameters, self._network)
        self._keep(Mask({name: torch.ones(w.shape, dtype=torch.bool) for name, w in weights.items()}))

    def _keep(self, mask: Mask) -> None:
        self._mask = mask
        self._pruned = {name: ~mask[name] for name in mask}

    @property
    def sparsity(self) -> float:
        return self._mask.sparsity

    def _members(self) -> list[dict[str, Tensor]]:
        weights = effective_weights(self._ensemble.parameters, self._network)
        return [
            {name: w.detach()[i].cpu() for name, w in weights.items()} for i in range(len(self._ensemble))
        ]

    def prune(self, keep: float) -> None:
        """Remove the smallest of the weights that are left, ``1 - keep`` of them."""
        n_left = self._mask.n_kept // len(self._ensemble)
        n_pruned = self._mask.n_weights // len(self._ensemble) - round(keep * n_left)
        # a network that has diverged has weights that are no numbers; its accuracy is that of chance already
        scores = [{name: w.abs().nan_to_num(0.0) for name, w in own.items()} for own in self._members()]
        # training may bring further weights to 0: those pruned before must go before these
        before = [Mask({name: self._mask[name][i] for name in self._mask}) for i in range(len(scores))]
        chosen = zip(scores, before, strict=True)
        self._keep(Mask.stack([select(own, n_pruned=n_pruned, within=old) for own, old in chosen]))

    def __call__(self, model: Ensemble, step: int) -> None:
        for name, tensors in weight_tensors(model.parameters, self._network).items():
            for tensor in tensors:
                with torch.no_grad():
                    tensor.masked_fill_(self._pruned[name].to(tensor.device), 0)


def _accuracy(ensemble: Ensemble, datasets: Sequence[Dataset], part: str) -> list[float]:
    x = torch.stack([getattr(d, f"x_{part}") for d in datasets])
    y = torch.stack([getattr(d, f"y_{part}") for d in datasets])
    if not y.shape[-1]:
        return [float("nan")] * len(datasets)
    return evaluate(ensemble, x, y, per_member=True)[1].tolist()
