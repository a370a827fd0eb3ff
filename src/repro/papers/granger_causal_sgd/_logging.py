"""One descent with SGD, step by step: how each weight moved, and what the loss did."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from repro.learn import Dataset, Ensemble, TrainingDivergedError, evaluate
from repro.learn._batches import Batches, stacked_parts
from repro.learn._checks import check_choices, check_fit, list_of_datasets, list_of_seeds
from repro.learn._losses import Loss, loss_function
from repro.learn.evaluation import Networks
from repro.learn.training import resolve_device
from repro.prune import Mask, prunable

__all__ = ["Descent", "Row"]


@dataclass(frozen=True)
class Row:
    r"""What step t, $\theta_t \to \theta_{t+1}$, did to S networks.

    Attributes:
        step: $v_t$ ``(S, p)`` of the prunable weights, $\Delta\theta_t = f v_t$ with the descent's factor f.
        batch_loss: $L_{B_t}(\theta_t)$ ``(S,)``, float64.
        loss_changes: by target, ``(S,)``, float64.
        rest: $\sum\Delta\theta_t^2$ ``(S,)`` over all other trained parameters, float64.
        cross: $\sum\Delta\theta_{t-1}\Delta\theta_t$ ``(S,)`` over all parameters, float64; 0 at the first step.
    """

    step: Tensor
    batch_loss: Tensor
    loss_changes: dict[str, Tensor]
    rest: Tensor
    cross: Tensor


class Descent:
    """SGD on S networks, checked before any work; ``rows`` walks it, on a copy of the networks.

    Arguments and errors are those of ``trace.log_trace``.
    """

    def __init__(
        self,
        ensemble: Ensemble,
        datasets: Dataset | Sequence[Dataset],
        *,
        learning_rate: float,
        momentum: float,
        n_epochs: int | None,
        n_steps: int | None,
        batch_size: int | None,
        loss: str | Loss,
        seeds: int | Sequence[int],
        masks: Mask | None,
        full_loss: bool,
        placebo: bool,
        changes: str,
        drop_last: bool,
        device: str,
    ) -> None:
        check_choices(n_epochs, n_steps, batch_size, "mean", "epoch", None)
        _check_rule(learning_rate, momentum, placebo, changes)
        self._ensemble = ensemble
        self._datasets = list_of_datasets(datasets, len(ensemble))
        self._seeds = list_of_seeds(seeds, len(ensemble))
        self._loss = loss_function(loss)
        self._masks, self._full_loss, self._drop_last = masks, full_loss, drop_last
        self.device = resolve_device(device)
        self._learning_rate, self._momentum, self._placebo = learning_rate, momentum, placebo
        self._stored = changes == "stored"

        self.targets = ("cross_batch", "same_batch", *(["full_loss"] if full_loss else []))
        self.n_networks = len(ensemble)
        self.shapes = _prunable_shapes(ensemble)
        self.n_weights = sum(shape.numel() for shape in self.shapes.values())
        self.dtype = ensemble.parameters[next(iter(self.shapes))].dtype
        self.factor = 1.0 if self._stored else -learning_rate
        n_examples = len(self._datasets[0].y_train)
        self._batch_size = min(batch_size or n_examples, n_examples)
        per_epoch = n_examples // self._batch_size if drop_last else -(-n_examples // self._batch_size)
        n_updates = n_steps if n_steps is not None else (n_epochs or 0) * per_epoch
        if n_updates < 2:
            raise ValueError(
                "a trace needs at least 2 steps, since the loss change of the last one would need another batch; "
                f"got {n_updates} ({per_epoch} an epoch)"
            )
        self.n_rows = n_updates - 1
        if masks is not None:
            masks.check(ensemble)
            _check_alive(masks, self.shapes, self.n_networks)

    def rows(self) -> Iterator[Row]:
        """Yield the rows one after the other, tensors on the device of the descent.

        Raises:
            TrainingDivergedError: a loss is not finite; names network and step.
        """
        ensemble = Ensemble(list(self._ensemble)).to(self.device)
        if self._masks is not None:
            self._masks.apply(ensemble)
        networks = Networks(ensemble)
        theta = networks.trained
        stacked = len(self._datasets) > 1
        x_train, y_train = stacked_parts(self._datasets, self.device, networks.dtype)["train"]
        check_fit(networks, self._loss, x_train, y_train, stacked)
        batches = Batches(x_train, y_train, stacked, self._seeds, self._batch_size, shuffle=True)

        def losses(x: Tensor, y: Tensor) -> Tensor:
            return networks.batch_losses(self._loss, x, y, batches.per_member)

        def whole_loss() -> Tensor:
            return evaluate(ensemble, x_train, y_train, loss=self._loss, per_member=stacked)[0]

        pruned = {n: ~self._masks[n].to(self.device) for n in self._masks} if self._masks else {}
        velocity = previous = {name: torch.zeros_like(p) for name, p in theta.items()}
        pending: Row | None = None
        full = whole_loss() if self._full_loss else None
        for step, (x, y) in enumerate(islice(self._epochs(batches), self.n_rows + 1)):
            each = losses(x, y)
            before = _mean(each)
            if pending is not None:
                pending.loss_changes["cross_batch"] = before - pending.batch_loss
                _check_finite(pending.loss_changes, step)
                yield pending
            if step == self.n_rows:
                return
            gradients = torch.autograd.grad(each.mean(dim=-1).sum(), list(theta.values()))
            with torch.no_grad():
                velocity = self._velocity(velocity, gradients, pruned)
                moved = self._move(theta, velocity)
                changes = {"cross_batch": before, "same_batch": _mean(losses(x, y)) - before}
                if full is not None:
                    last, full = full, whole_loss()
                    changes["full_loss"] = full - last
                pending = self._row(moved, previous, before, changes)
                previous = moved

    def _epochs(self, batches: Batches) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            for x, y in batches.epoch():
                if y.shape[-1] == self._batch_size or not self._drop_last:
                    yield x, y

    def _velocity(
        self, old: dict[str, Tensor], gradients: Sequence[Tensor], pruned: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        r"""$v_t = \mu v_{t-1} + g_t$, 0 where pruned."""
        new = dict(zip(old, gradients, strict=True))
        if self._momentum:
            new = {name: old[name].mul(self._momentum).add_(gradient) for name, gradient in new.items()}
        return {name: v.masked_fill(pruned[name], 0) if name in pruned else v for name, v in new.items()}

    def _move(self, theta: Mapping[str, Tensor], velocity: dict[str, Tensor]) -> dict[str, Tensor]:
        r"""Step, except in a placebo; return what $\Delta\theta$ is the factor times of."""
        if self._placebo:
            return velocity
        before = {name: p.clone() for name, p in theta.items()} if self._stored else {}
        for name, p in theta.items():
            p.add_(velocity[name], alpha=-self._learning_rate)
        return {name: p - before[name] for name, p in theta.items()} if self._stored else velocity

    def _row(
        self,
        moved: dict[str, Tensor],
        previous: dict[str, Tensor],
        batch_loss: Tensor,
        loss_changes: dict[str, Tensor],
    ) -> Row:
        rest = torch.zeros_like(batch_loss)
        cross = torch.zeros_like(batch_loss)
        for name, step in moved.items():
            now = step.flatten(1).double()
            if name not in self.shapes:
                rest += now.square().sum(dim=1)
            if self._momentum:
                cross += (previous[name].flatten(1) * now).sum(dim=1)
        flat = torch.cat([moved[name].flatten(1) for name in self.shapes], dim=1)
        return Row(flat, batch_loss, loss_changes, self.factor**2 * rest, self.factor**2 * cross)


def _mean(losses: Tensor) -> Tensor:
    """Mean over examples in float64: the change between two of them is small."""
    return losses.detach().double().mean(dim=-1)


def _check_finite(loss_changes: dict[str, Tensor], step: int) -> None:
    for name, change in loss_changes.items():
        if not bool(change.isfinite().all()):
            member = int((~change.isfinite()).nonzero()[0])
            raise TrainingDivergedError(
                f"the loss of network {member} is not finite after step {step} ({name}); a smaller learning rate "
                "may help"
            )


def _check_rule(learning_rate: float, momentum: float, placebo: bool, changes: str) -> None:
    if not (learning_rate > 0 and math.isfinite(learning_rate)):
        raise ValueError(
            f"learning_rate must be above 0 and finite, got {learning_rate}; for steps that are computed and "
            "never taken, give the rate of the real run and placebo=True"
        )
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum must lie in [0, 1), got {momentum}")
    if changes not in ("exact", "stored"):
        raise ValueError(f"changes is 'exact' or 'stored', got {changes!r}")
    if placebo and momentum:
        raise ValueError(
            f"a placebo has no steps that could carry momentum; momentum must be 0, got {momentum}"
        )
    if placebo and changes == "stored":
        raise ValueError(
            "the stored weights of a placebo never change; changes must be 'exact', got 'stored'"
        )


def _prunable_shapes(ensemble: Ensemble) -> dict[str, torch.Size]:
    """Shapes of one network's weights by name; refuse networks that cannot be logged."""
    if ensemble.buffers:
        raise ValueError(
            "the loss of a network with buffers, such as batch normalization's, depends on more than its "
            f"parameters; it has {', '.join(ensemble.buffers)}"
        )
    names = list(prunable(ensemble.member(0)))
    for name in names:
        if name not in ensemble.parameters or not ensemble.parameters[name].requires_grad:
            raise ValueError(
                f"the weight {name!r} is frozen or parametrised; a trace needs it trained and plain"
            )
    return {name: ensemble.parameters[name].shape[1:] for name in names}


def _check_alive(masks: Mask, shapes: Mapping[str, torch.Size], n_networks: int) -> None:
    n_kept = torch.zeros(n_networks, dtype=torch.int64)
    for name, shape in shapes.items():
        kept = masks[name] if name in masks else torch.ones(shape, dtype=torch.bool)
        n_kept += kept.expand(n_networks, *shape).flatten(1).sum(dim=1)
    if bool((n_kept == 0).any()):
        raise ValueError(
            f"the mask keeps no weight of network {int((n_kept == 0).nonzero()[0])}; nothing is left to log"
        )
