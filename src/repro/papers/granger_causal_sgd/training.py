"""Training with an eye on it: SGD whose every step is logged, and Adam after pruning, to one of two stops."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from repro.learn import (
    Dataset,
    Ensemble,
    EpochReport,
    History,
    TrainingDivergedError,
    evaluate,
    stacked,
    train,
)
from repro.learn.training import _EpochHook, cross_entropy
from repro.papers.granger_causal_sgd.settings import Start
from repro.prune import Mask, prunable

_MOST_BYTES = 2**32  # of the steps of a trace


def _derived_seed(seed: int, *key: int) -> int:
    """Return a seed for a part of a network's run, told by whole numbers; none has to do with another.

    Networks of one seed share it, whatever their penalty or mask, so that their runs differ in nothing else.
    """
    return int(np.random.SeedSequence([seed, *key]).generate_state(1)[0])


# --- SGD, logged ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trace:
    r"""T steps of S networks with p prunable weights each; row t belongs to $\theta_t \to \theta_{t+1}$.

    The columns are the prunable weights, flattened in the order of ``shapes``, and $x_{t,k} = (\Delta\theta_{t,k})^2$.

    Attributes:
        steps: $v_t$ ``(S, T, p)`` in the networks' dtype, with $\Delta\theta_t = -\eta v_t$; ``(S, 0, p)`` where rows
            were not kept. Plain SGD has $v_t = g_t$, the gradient; momentum $v_t = \mu v_{t-1} + g_t$.
        loss_changes: $\Delta L_t$ ``(S, T)``, float64, by target: ``"cross_batch"``
            $L_{B_{t+1}}(\theta_{t+1}) - L_{B_t}(\theta_t)$, ``"same_batch"``
            $L_{B_t}(\theta_{t+1}) - L_{B_t}(\theta_t)$ and, where asked for, ``"full_loss"``
            $L(\theta_{t+1}) - L(\theta_t)$ on the whole training part.
        energy: $\sum_k(\Delta\theta_{t,k})^2$ ``(S, T)``, float64, over all trained parameters, biases too.
        cross: $\sum_k\Delta\theta_{t-1,k}\Delta\theta_{t,k}$ ``(S, T)``, float64, over the same; the first is 0, and
            all are without momentum.
        mean_squares: $\frac1T\sum_t x_{t,k}$ ``(S, p)``, float64: how much each weight moved, whatever the loss did.
        covariance: by target $\frac1T\sum_t\Delta L_t\,x_{t,k}$ ``(S, p)``, float64. Means are not taken off first, as
            in the regression without intercept that it stands for.
        shapes: parameter name to the shape of one network's weight.
        learning_rate: $\eta$; of a placebo, the rate its steps would have had.
        momentum: $\mu$.
    """

    steps: Tensor
    loss_changes: dict[str, Tensor]
    energy: Tensor
    cross: Tensor
    mean_squares: Tensor
    covariance: dict[str, Tensor]
    shapes: dict[str, torch.Size]
    learning_rate: float
    momentum: float

    @property
    def layers(self) -> dict[str, slice]:
        """Columns of each parameter."""
        ends = accumulate((shape.numel() for shape in self.shapes.values()), initial=0)
        return {name: slice(*ends_) for name, ends_ in zip(self.shapes, pairwise(ends), strict=True)}

    def squares(self, i: int) -> Tensor:
        r"""Return $x_{t,k}$ of network i, ``(T, p)``, float64."""
        return (-self.learning_rate * self.steps[i].double()).square_()

    def first_order(self, *, products: bool = True) -> Tensor:
        r"""Return the loss change of each step to first order, ``(S, T)``: a sum of squared parameter changes.

        $\Delta L_t = g_t^\top\Delta\theta_t + \dots \approx
        \frac1\eta\sum_k\left[\mu\,\Delta\theta_{t-1,k}\Delta\theta_{t,k}-(\Delta\theta_{t,k})^2\right]$ on the
        step's own batch, with $g_t = (\mu\Delta\theta_{t-1}-\Delta\theta_t)/\eta$. Without momentum all coefficients
        are $-1/\eta$. The sum runs over all trained parameters, biases included; of a placebo, too.

        Args:
            products: False leaves the first term out.

        Source: arXiv 2412.03035, abstract (the relation that gradient descent implies), worked out by expansion.
        """
        return (self.momentum * products * self.cross - self.energy) / self.learning_rate

    def by_name(self, flat: Tensor) -> dict[str, Tensor]:
        """Split one value a weight, ``(S, p)``, into the parameters: name to ``(S, *shape)``."""
        return {name: flat[:, at].reshape(-1, *self.shapes[name]) for name, at in self.layers.items()}


def log(
    ensemble: Ensemble,
    datasets: Sequence[Dataset],
    *,
    learning_rate: float,
    n_epochs: int,
    batch_size: int | None,
    seeds: Sequence[int],
    momentum: float = 0.0,
    mask: Mask | None = None,
    rows: bool = True,
    full_loss: bool = False,
    placebo: bool = False,
    drop_last: bool = True,
) -> Trace:
    r"""Log SGD on the cross-entropy of S networks, $\theta_{t+1} = \theta_t - \eta v_t$, $v_t = \mu v_{t-1} + g_t$.

    The networks are copied first and stay as they are: who logs has rewound. $\Delta\theta_t = -\eta v_t$ in float64 is
    the change that SGD means to make; the float32 weights make it to within their rounding.

    Args:
        ensemble: the networks, at the weights to start from.
        datasets: one a network; the training parts are used.
        learning_rate: $\eta$, above 0.
        n_epochs: passes over the training part. A trace has one row less than there are steps: the last loss change
            would need another batch.
        batch_size: examples a step; None for the whole training part.
        seeds: of the order of batches, one a network; the order is that of ``learn.train``.
        momentum: $\mu$, in [0, 1).
        mask: held while logging; the changes of pruned weights are 0.
        rows: whether to keep the steps themselves. Without them a trace takes 24 bytes a weight, or 32, and no more.
        full_loss: whether to log the loss of the whole training part around each step, too.
        placebo: compute steps and never take them; ``steps`` are then gradients at the start.
        drop_last: leave out the last batch of an epoch where it is shorter; the authors' code keeps it.

    Raises:
        ValueError: bad arguments, nothing to prune, fewer than two steps or buffers (batch normalization), before any
            work.
        MemoryError: the steps would take more than 4 GiB, before any work.
        TrainingDivergedError: a loss is not finite; names network, seed, epoch and step.
    """
    if not 0 < learning_rate < math.inf:
        placebos = "for steps computed and never taken, give the rate of the real run and placebo=True"
        raise ValueError(f"learning_rate must be above 0 and finite, got {learning_rate}; {placebos}")
    if placebo and momentum:
        raise ValueError(f"a placebo takes no steps that could gain momentum; got {momentum}")
    n = len(datasets[0].y_train)
    batch = min(batch_size or n, n)
    n_rows = n_epochs * (n // batch if drop_last else -(-n // batch)) - 1
    if n_rows < 1:
        raise ValueError(f"traces need at least 2 steps; {n_epochs} epochs of {n} examples have {n_rows + 1}")
    shapes = _prunable_shapes(ensemble)
    copies, mask = Ensemble(list(ensemble)), mask or Mask({})
    mask.apply(copies)
    pruned = {name: ~kept for name, kept in mask.items()}
    n_losses = len(ensemble) * batch if drop_last else 0
    steps = _room(ensemble, shapes, n_rows if rows else 0)
    logged = _Logging(datasets, momentum, pruned, full_loss, placebo, n_losses, steps, tuple(shapes))
    hooks = {"before_step": [logged.before], "after_step": [logged.after]}
    how: dict[str, Any] = {"n_epochs": n_epochs, "batch_size": batch_size, "evaluate_every": n_epochs}
    how |= {"loss": logged.losses, "augment": logged.inputs, "seed": list(seeds)} | hooks
    sgd = partial(torch.optim.SGD, lr=learning_rate, momentum=momentum)
    history = train(copies, datasets, optimizer=sgd, **how)
    _raise_if_diverged(history, seeds)
    series = {name: torch.stack([row[name] for row in logged.rows], dim=1).cpu() for name in logged.rows[0]}
    mean = {name: learning_rate**2 / n_rows * total.cpu() for name, total in logged.sums.items()}
    energy, cross = (learning_rate**2 * series.pop(name) for name in ("energy", "cross"))
    moved = mean.pop("energy")
    return Trace(logged.steps, series, energy, cross, moved, mean, shapes, learning_rate, momentum)


@dataclass
class _Logging:
    """Hooks of ``learn.train`` that note what each step did once the loss of the next batch is known.

    The loop shows a batch to two of its arguments alone: the inputs to ``augment``, the classes to ``loss``.
    """

    datasets: Sequence[Dataset]
    momentum: float
    pruned: dict[str, Tensor]
    full_loss: bool
    placebo: bool
    n_losses: int  # of a batch; one with fewer is left out
    steps: Tensor
    names: Sequence[str]  # of the parameters in a row of steps
    rows: list[dict[str, Tensor]] = field(default_factory=list)
    sums: dict[str, Tensor] = field(default_factory=dict)
    now: dict[str, Tensor] = field(default_factory=dict)
    velocity: dict[str, Tensor] = field(default_factory=dict)

    def inputs(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """See the inputs of a batch."""
        self.x = x
        return x

    def losses(self, outputs: Tensor, y: Tensor) -> Tensor:
        """See the classes of a batch, and its losses."""
        each = cross_entropy(outputs, y)
        self.y, self.each = y, each.detach()
        return each

    def before(self, ensemble: Ensemble, step: int) -> None:
        r"""At $\theta_t$, its gradient at hand: what the step before this one did, and what this one will be."""
        trained = {name: p for name, p in ensemble.parameters.items() if p.requires_grad}
        self.counts = len(self.each) >= self.n_losses
        if self.counts:
            last, self.now = self.now, {"loss": _batch_mean(ensemble, self.each)}
            if self.full_loss:
                self.now["whole"] = evaluate(ensemble, *self._whole, per_member=True)[0]
            if last:
                self._finish(last)
            self._begin(trained)
        if self.placebo or not self.counts:
            for p in trained.values():  # without a gradient there is no step, and momentum waits
                p.grad = None

    def after(self, ensemble: Ensemble, step: int) -> None:
        r"""At $\theta_{t+1}$: the same batch again."""
        if self.counts:
            outputs = ensemble(self.x, per_member=self.x.ndim > self.datasets[0].x_train.ndim)
            self.now["after"] = _batch_mean(ensemble, cross_entropy(outputs.flatten(0, 1), self.y))

    def _finish(self, row: dict[str, Tensor]) -> None:
        changes = {"cross_batch": self.now["loss"] - row["loss"], "same_batch": row["after"] - row["loss"]}
        if self.full_loss:
            changes["full_loss"] = self.now["whole"] - row["whole"]
        if self.steps.numel():
            self.steps[:, len(self.rows)] = row["step"]
        self.rows.append(changes | {"energy": row["energy"], "cross": row["cross"]})
        squares = row["step"].double().square_()
        for name, factor in ({"energy": torch.ones_like(row["loss"])} | changes).items():
            if name not in self.sums:
                self.sums[name] = torch.zeros_like(squares)
            self.sums[name].addcmul_(factor[:, None], squares)

    def _begin(self, trained: dict[str, Tensor]) -> None:
        """Note the step to come, as ``torch.optim.SGD`` makes it."""
        last, self.velocity = self.velocity, {}
        energy, cross = torch.zeros_like(self.now["loss"]), torch.zeros_like(self.now["loss"])
        for name, p in trained.items():
            assert p.grad is not None
            if name in self.pruned:
                p.grad.masked_fill_(self.pruned[name].to(p.device), 0)
            v = last[name].mul(self.momentum).add_(p.grad) if self.momentum and last else p.grad
            self.velocity[name], exact = v, v.flatten(1).double()
            energy += exact.square().sum(dim=1)
            if self.momentum and last:
                cross += (last[name].flatten(1) * exact).sum(dim=1)
        flat = torch.cat([self.velocity[name].flatten(1) for name in self.names], dim=1)
        self.now |= {"step": flat, "energy": energy, "cross": cross}

    @cached_property
    def _whole(self) -> tuple[Tensor, Tensor]:
        x, y = stacked(self.datasets, "train")
        return x.to(self.x), y.to(self.y.device)


def _batch_mean(ensemble: Ensemble, losses: Tensor) -> Tensor:
    """Mean losses ``(S,)`` of a batch in float64: the change between two of them is small."""
    return losses.view(len(ensemble), -1).double().mean(dim=1)


def _prunable_shapes(ensemble: Ensemble) -> dict[str, torch.Size]:
    """Shapes of one network's weights by name; refuse networks that cannot be logged."""
    if ensemble.buffers:
        told = "the loss of a network with buffers, such as batch normalization's, depends on more than its parameters"
        raise ValueError(f"{told}; it has {', '.join(ensemble.buffers)}")
    names = list(prunable(ensemble.member(0)))
    for name in names:
        if name not in ensemble.parameters or not ensemble.parameters[name].requires_grad:
            raise ValueError(f"weight {name!r} is frozen or parametrised; a trace needs it trained and plain")
    return {name: ensemble.parameters[name].shape[1:] for name in names}


def _room(ensemble: Ensemble, shapes: dict[str, torch.Size], n_rows: int) -> Tensor:
    """Set memory aside for the steps."""
    n, p = len(ensemble), sum(each.numel() for each in shapes.values())
    steps = torch.empty(n, n_rows, p, dtype=ensemble.parameters[next(iter(shapes))].dtype, device="meta")
    if steps.nbytes > _MOST_BYTES:
        told = f"{n} networks x {n_rows} steps x {p:,} weights take {steps.nbytes:,} bytes, more than {_MOST_BYTES:,}"
        raise MemoryError(f"{told}; log fewer networks at a time, or with rows=False")
    return torch.empty_like(steps, device="cpu")


# --- Adam, after pruning ----------------------------------------------------------------------------------------------


def _tune(
    start: Start, mask: Mask, n_epochs: int, after_epoch: Sequence[_EpochHook] = ()
) -> tuple[Ensemble, History]:
    r"""Train S networks from $\theta_0\odot m$ with the mask held, all as one.

    Adam with the setting's rate and batch size; a network's batches are those of its seed, whatever its mask. A single
    network of images is trained outside the ensemble, channels last, where convolutions take two thirds of the time.

    Args:
        start: networks at $\theta_0$, which stay as they are.
        mask: entries ``(S, *shape)``.
        n_epochs: of training; networks are measured after the last.
        after_epoch: hooks, as ``learn.train`` takes them.

    Returns:
        The networks and the history.

    Raises:
        TrainingDivergedError: a loss is not finite; names network and seed.
    """
    networks: Ensemble | nn.Module = Ensemble(list(start.ensemble))
    if start.setting.data.get("images") and len(start.seeds) == 1:
        networks = start.ensemble.member(0).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        mask = Mask({name: kept[0] for name, kept in mask.items()})
    mask.apply(networks)
    history = start.train(networks, n_epochs, after_step=[mask], after_epoch=after_epoch)
    _raise_if_diverged(history, start.seeds)
    return networks if isinstance(networks, Ensemble) else Ensemble([networks]), history


class _AllReached(Exception):
    """Nothing is left to train for."""


def _train_to_stops(
    start: Start, mask: Mask, *, target_loss: float, max_epochs: int
) -> dict[str, tuple[Ensemble, Tensor]]:
    r"""Train S networks, as ``_tune`` does, and keep each as it is at two stops on its way.

    Curvature falls as the training loss does, so networks are compared both after equal epochs and at equal loss.

    Args:
        start: networks at $\theta_0$.
        mask: entries ``(S, *shape)``.
        target_loss: mean cross-entropy on the whole training part for the stop by loss, looked at after each epoch.
        max_epochs: where a network that does not reach it stops.

    Returns:
        By stopping, after the setting's ``"epochs"`` and at the end of the first epoch with the training ``"loss"`` at
        or below the target: the networks, and of each whether it came down to the target (True for stopping by
        epochs); one that did not is in its last state.
    """
    (x, y), n_epochs = stacked(start.datasets, "train"), start.setting.tune_epochs
    reached = torch.zeros(len(y), dtype=torch.bool)
    states: dict[str, dict[str, Tensor]] = {"epochs": {}, "loss": {}}

    def look(ensemble: Ensemble, report: EpochReport) -> None:
        now = ensemble.state_dict()
        if report.epoch == n_epochs:
            states["epochs"] = now
        if report.epoch <= max_epochs and not reached.all():
            some, kept = next(iter(now.values())), states["loss"] or now
            losses = evaluate(ensemble, x.to(some), y.to(some.device), per_member=True)[0].cpu()
            states["loss"] = {name: _per_network(reached, kept[name], now[name]) for name in now}
            reached.logical_or_(losses <= target_loss)
        if reached.all() and report.epoch >= n_epochs:
            raise _AllReached

    with suppress(_AllReached):
        _tune(start, mask, max(n_epochs, max_epochs), [look])
    found = {}
    for stopping, came_down in {"epochs": torch.ones_like(reached), "loss": reached}.items():
        networks = Ensemble(list(start.ensemble))
        networks.load_state_dict(states[stopping])
        found[stopping] = networks, came_down
    return found


def _per_network(first: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Pick ``a`` for the networks where ``first``, else ``b``."""
    return torch.where(first.to(a.device).view(-1, *[1] * (a.ndim - 1)), a, b)


def _raise_if_diverged(history: History, seeds: Sequence[int]) -> None:
    """Raise ``TrainingDivergedError`` for the first network whose loss was not finite."""
    for i, (epoch, step) in history.diverged.items():
        told = f"network {i}, seed {seeds[i]}, is not finite in epoch {epoch}, step {step}"
        raise TrainingDivergedError(f"the loss of {told}; a smaller learning rate may help")
