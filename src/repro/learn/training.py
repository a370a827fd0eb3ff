"""One training loop for all chapters, and losses and accuracies: a network or an ensemble, data in memory."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from repro.base import whole
from repro.learn.data import Dataset, stacked
from repro.learn.ensembles import Ensemble
from repro.learn.seeding import streams

_Loss = Callable[[Tensor, Tensor], Tensor]


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    r"""$-\log\mathrm{softmax}(s)_y$ of logits ``(m, k)`` and classes ``(m,)``, shape ``(m,)``."""
    return functional.cross_entropy(outputs, targets, reduction="none")


class _Networks:
    """One view of a module and of an ensemble: outputs always ``(S, n, k)``, with S = 1 for a module."""

    def __init__(self, model: nn.Module | Ensemble) -> None:
        self.model = model
        self.size = len(model) if isinstance(model, Ensemble) else 1
        named = model.parameters if isinstance(model, Ensemble) else dict(model.named_parameters())
        self.trained = [p for p in named.values() if p.requires_grad]
        first = next(iter(named.values()), torch.zeros(()))
        self.device, self.dtype = first.device, first.dtype

    def __call__(self, loss: _Loss, x: Tensor, y: Tensor, per_member: bool) -> tuple[Tensor, Tensor]:
        """Losses of single examples ``(S, n)`` and outputs ``(S, n, k)``.

        Inputs are ``(n, ...)``, or ``(S, n, ...)`` per member; classes ``(n,)`` or ``(S, n)``.
        """
        if isinstance(self.model, Ensemble):
            outputs = self.model(x, per_member=per_member)
        else:
            outputs = self.model(x[0] if per_member else x).unsqueeze(0)
        if outputs.ndim != 3:
            raise ValueError(f"a network must return (n, k) for n inputs; got {tuple(outputs.shape[1:])}")
        targets = y.expand(outputs.shape[:2]).reshape(-1)
        losses = loss(outputs.reshape(-1, outputs.shape[-1]), targets)
        if losses.shape != targets.shape:
            shapes = f"expected shape {tuple(targets.shape)}, got {tuple(losses.shape)}"
            raise ValueError(f"a loss must return one number for each example, without averaging: {shapes}")
        return losses.view(outputs.shape[:2]), outputs


def _right(outputs: Tensor, y: Tensor) -> Tensor:
    """Count the right predictions, ``(S,)``: outputs ``(S, n, k)``, or ``(S, n, 1)`` above 0 for class 1."""
    single = outputs.shape[-1] == 1
    predicted = (outputs.squeeze(-1) > 0).long() if single else outputs.argmax(dim=-1)
    return (predicted == y).sum(dim=-1)


def evaluate(
    model: nn.Module | Ensemble,
    x: Tensor,
    y: Tensor,
    *,
    loss: _Loss = cross_entropy,
    per_member: bool = False,
) -> tuple[Tensor, Tensor]:
    """Return mean loss and accuracy, in evaluation mode and in pieces that bound the memory.

    A network with one output predicts class 1 above 0.

    Args:
        model: a module, or an ensemble of S.
        x: inputs ``(n, ...)``, or ``(S, n, ...)`` with ``per_member=True``.
        y: classes ``(n,)``, or ``(S, n)``.
        loss: from outputs ``(m, k)`` and classes ``(m,)`` to losses ``(m,)``.
        per_member: whether each member has inputs of its own.

    Returns:
        Losses and accuracies, float64, ``(S,)`` each, S = 1 for a module; accuracies lie in [0, 1].

    Raises:
        ValueError: no examples.
    """
    networks = _Networks(model)
    n = y.shape[-1]
    if n == 0:
        raise ValueError("there are no examples to evaluate on")
    axis = 1 if per_member else 0
    chunk = max(1, (512 if x.ndim > 2 + axis else 8192) // networks.size)  # images take more memory than rows
    total = torch.zeros(networks.size, dtype=torch.float64, device=y.device)
    correct = torch.zeros_like(total)
    mode = model.training
    model.eval()
    try:
        with torch.no_grad():
            for some_x, some_y in zip(x.split(chunk, axis), y.split(chunk, -1), strict=True):
                losses, outputs = networks(loss, some_x, some_y, per_member)
                total += losses.sum(dim=1)
                correct += _right(outputs, some_y)
    finally:
        model.train(mode)
    return total / n, correct / n


# --- the loop ---------------------------------------------------------------------------------------------------------


class TrainingDivergedError(FloatingPointError):
    """A loss became infinite or not a number."""


@dataclass(frozen=True)
class EpochReport:
    """What ``after_epoch`` hooks of ``train`` are told.

    Attributes:
        epoch: epochs finished.
        step: updates made.
        batch_accuracy: share of right predictions over the batches of the epoch, each at the weights of its
            time; ``(S,)`` float64 in [0, 1], S = 1 for a module.
        learning_rate: that of the epoch; the schedule moves it later.
    """

    epoch: int
    step: int
    batch_accuracy: Tensor
    learning_rate: float


@dataclass(frozen=True)
class History:
    """The course of a training run.

    Attributes:
        metrics: one row an evaluated epoch and member. Columns: ``epoch`` (0 is before training), ``step``,
            ``member``, ``seed``, ``learning_rate`` (of the next update), and for each part of the data
            ``train_loss``, ``train_accuracy``, ``validation_loss``, ... at the weights of that epoch's end.
            Losses are means over examples; accuracies lie in [0, 1].
        diverged: member to (epoch, step) of its first loss that is not finite; empty if all went well.
    """

    metrics: pd.DataFrame
    diverged: dict[int, tuple[int, int]]

    def last(self, column: str) -> NDArray[np.float64]:
        """Values of a column at the last evaluation, ``(S,)``."""
        epochs = self.metrics["epoch"]
        return self.metrics.loc[epochs == epochs.max(), column].to_numpy(dtype=np.float64)


_StepHook = Callable[[Any, int], object]
_EpochHook = Callable[[Any, EpochReport], object]


def resolve_device(device: str) -> torch.device:
    """Return the device of that name; ``"auto"`` is CUDA where there is one and the CPU elsewhere."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(device)


def bar(n_steps: int) -> Any:
    """Return a tqdm bar over steps, silent if nobody watches.

    Somebody does where standard error is a terminal, or the code runs in a notebook that a person has open: a Jupyter
    server tells the kernels it starts the name of their notebook; kernels started by papermill or nbclient from a shell
    have none. ``REPRO_PROGRESS=0`` or ``1`` decides otherwise.
    """
    watched = "JPY_SESSION_NAME" in os.environ or sys.stderr.isatty()
    wanted = os.environ.get("REPRO_PROGRESS", str(int(watched)))
    return tqdm(total=n_steps, disable=wanted in ("", "0"), leave=False, unit="step")


def train(
    model: nn.Module | Ensemble,
    dataset: Dataset | Sequence[Dataset],
    *,
    optimizer: Callable[[Iterable[Tensor]], torch.optim.Optimizer],
    n_epochs: int,
    batch_size: int | None = None,
    loss: _Loss = cross_entropy,
    schedule: Callable[[torch.optim.Optimizer], torch.optim.lr_scheduler.LRScheduler] | None = None,
    before_step: Sequence[_StepHook] = (),
    after_step: Sequence[_StepHook] = (),
    after_epoch: Sequence[_EpochHook] = (),
    augment: Callable[[Tensor, torch.Generator], Tensor] | None = None,
    evaluate_every: int | None = None,
    seed: int | Sequence[int] = 0,
    device: str = "auto",
    mixed_precision: bool = False,
) -> History:
    r"""Train a network, or all members of an ensemble at once, in place.

    Each step descends $\sum_i \frac1b\sum_{j\in B_i}\ell(f_{\theta_i}(x_j), y_j)$ over members $i$, whose
    gradient with respect to $\theta_i$ is that of member $i$ trained alone. The data are moved to the device
    once and batches are picked by index; afterwards the model is back on its device
    and in its mode.

    Args:
        model: a module or an ``Ensemble`` of S; its parameters are changed.
        dataset: inputs and classes; for an ensemble also S data sets of equal shapes, one a member.
        optimizer: from parameters to an optimiser that needs the gradient once a step, such as
            ``partial(torch.optim.SGD, lr=0.1)``.
        n_epochs: passes over the training part, each in a new order.
        batch_size: examples a step, None for all of them. A last shorter batch is used too.
        loss: from outputs ``(m, k)`` and classes ``(m,)`` to losses ``(m,)``.
        schedule: from the optimiser to a learning-rate schedule, which moves after every epoch.
        before_step: called as ``f(model, step)`` without gradients between the backward pass and each update;
            may change the gradients, ``parameter.grad``, to add a penalty's; step counts from 1.
        after_step: called in the same way after each update.
        after_epoch: called as ``f(model, report)`` without gradients after each epoch; see ``EpochReport``.
        augment: from the inputs of a training batch, ``(b, ...)`` or ``(S, b, ...)`` on the device, and a CPU
            generator that depends on the (first) seed, to inputs of the same shape; as ``random_crop_flip``.
        evaluate_every: epochs between evaluations on all parts; None for 1, or more in runs of more than 100
            epochs so that there are about 100. Before training and at the end there is always one; 0 for none at all.
        seed: of the order of batches. One seed: all members see the same batches; S seeds: each has its own
            order, as it would alone.
        device: ``"auto"`` (CUDA where there is one), ``"cpu"`` or ``"cuda"``.
        mixed_precision: bfloat16 where it is safe (autocast).

    Returns:
        ``History``.

    Raises:
        ValueError, TypeError: bad arguments, before any weight has changed.
        TrainingDivergedError: the loss of a network, or of all members, is not finite; names epoch and step.
            Of an ensemble, single members that diverge are noted in ``History.diverged`` instead.
    """
    networks, datasets, seeds = _checked(model, dataset, seed)
    n_epochs = whole("n_epochs", n_epochs)
    every = max(1, n_epochs // 100) if evaluate_every is None else whole("evaluate_every", evaluate_every, 0)
    for hook in (*before_step, *after_step, *after_epoch):
        if not callable(hook):
            raise TypeError(f"hooks come as lists of callables; got {hook!r} in one of them")
    where, stacked = resolve_device(device), len(datasets) > 1
    origin, mode = networks.device, model.training
    model.to(where)
    try:
        parts = _parts(datasets, where, networks.dtype)
        batches = _Batches(*parts["train"], stacked, seeds, batch_size)
        draws = streams(seeds[0]).augmentation
        stepper = optimizer(networks.trained)
        clock = schedule(stepper) if schedule else None
        autocast = torch.autocast(where.type, torch.bfloat16) if mixed_precision else nullcontext()
        diverged: dict[int, tuple[int, int]] = {}
        tables: list[pd.DataFrame] = []

        def rate() -> float:
            return float(stepper.param_groups[0]["lr"])

        def note(epoch: int) -> None:
            if not every:
                return
            of_members = {"member": range(networks.size), "seed": seeds * (networks.size // len(seeds))}
            row = {"epoch": epoch, "step": step} | of_members | {"learning_rate": rate()}
            for name, (x, y) in parts.items():
                found = evaluate(model, x, y, loss=loss, per_member=stacked)
                row[f"{name}_loss"], row[f"{name}_accuracy"] = (values.tolist() for values in found)
            tables.append(pd.DataFrame(row))

        step = 0
        note(epoch=0)
        model.train()
        with bar(n_epochs * batches.per_epoch) as shown:
            for epoch in range(1, n_epochs + 1):
                correct = torch.zeros(networks.size, dtype=torch.float64, device=where)
                seen = []
                for x, y in batches.epoch():
                    if augment is not None:
                        x = augment(x, draws)
                    stepper.zero_grad()
                    with autocast:
                        losses, outputs = networks(loss, x, y, batches.per_member)
                    means = losses.mean(dim=1)
                    means.sum().backward()
                    step += 1
                    with torch.no_grad():
                        if after_epoch:
                            correct += _right(outputs, y)
                        for hook in before_step:
                            hook(model, step)
                        stepper.step()
                        for hook in after_step:
                            hook(model, step)
                    seen.append(means.detach())
                    shown.update()
                _note_divergence(diverged, torch.stack(seen).cpu(), epoch, step)
                if after_epoch:
                    report = EpochReport(epoch, step, (correct / batches.n_examples).cpu(), rate())
                    with torch.no_grad():
                        for told in after_epoch:
                            told(model, report)
                if clock:
                    clock.step()
                if epoch == n_epochs or (every and epoch % every == 0):
                    note(epoch)
    finally:
        model.to(origin)
        model.train(mode)
    return History(pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(), diverged)


def _checked(
    model: nn.Module | Ensemble, dataset: Dataset | Sequence[Dataset], seed: int | Sequence[int]
) -> tuple[_Networks, list[Dataset], list[int]]:
    """The networks, one data set for all or one a member, and seeds alike."""
    networks = _Networks(model)
    if not networks.trained:
        raise ValueError("the model has no parameters that require a gradient; there is nothing to train")
    datasets = [dataset] if isinstance(dataset, Dataset) else list(dataset)
    seeds = list(seed) if isinstance(seed, Iterable) else [seed]
    for name, given in (("dataset", datasets), ("seed", seeds)):
        if len(given) not in (1, networks.size):
            raise ValueError(f"{name} is one for all or {networks.size}, one a member; got {len(given)}")
    return networks, datasets, seeds


def _parts(
    datasets: Sequence[Dataset], device: torch.device, dtype: torch.dtype
) -> dict[str, tuple[Tensor, Tensor]]:
    """The parts that are not empty: x ``(n, ...)`` and y ``(n,)``, or one of each a member in front."""
    parts = {}
    for name, x, y in datasets[0].parts():
        if len(datasets) > 1:
            x, y = stacked(datasets, name)
        parts[name] = (x.to(device, dtype), y.to(device))
    return parts


class _Batches:
    """Training batches of one epoch after the other.

    Members see the same batches when they share data and seed: x is then ``(b, ...)``. Otherwise each has its
    own: x ``(S, b, ...)``. y always has as many leading dimensions as x.
    """

    def __init__(
        self, x: Tensor, y: Tensor, stacked: bool, seeds: Sequence[int], batch_size: int | None
    ) -> None:
        self.n_examples = y.shape[-1]
        self._size = self.n_examples if batch_size is None else whole("batch_size", batch_size)
        self.per_epoch = -(-self.n_examples // self._size)
        # the whole part is a batch as it is, in its own order
        self._generators = [streams(seed).shuffle for seed in seeds] if self.per_epoch > 1 else []
        self.per_member = stacked or len(self._generators) > 1
        self._all, self._flat, self._offset = (x, y), (x, y), torch.zeros(1, 1, dtype=torch.int64)
        if stacked:
            # members' examples one after the other, so that one index picks from all of them
            self._flat = (x.flatten(0, 1), y.flatten(0, 1))
            self._offset = torch.arange(len(x))[:, None] * self.n_examples

    def epoch(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of the next epoch."""
        if not self._generators:
            yield self._all
            return
        order = torch.stack([torch.randperm(self.n_examples, generator=g) for g in self._generators])
        order = order + self._offset if self.per_member else order[0]
        for index in order.to(self._all[0].device).split(self._size, dim=-1):
            x, y = (each.index_select(0, index.reshape(-1)) for each in self._flat)
            yield x.view(*index.shape, *x.shape[1:]), y.view(index.shape)


def _note_divergence(diverged: dict[int, tuple[int, int]], losses: Tensor, epoch: int, step: int) -> None:
    """Note each member's first loss that is not finite, of all those ``(n, S)`` of an epoch that ended with a step.

    Looking at each loss would make a GPU wait at every step; those of an epoch are looked at together.
    """
    size = losses.shape[1]
    for row, member in (~losses.isfinite()).nonzero().tolist():
        at = step - len(losses) + 1 + row
        diverged.setdefault(member, (epoch, at))
        if len(diverged) == size:
            who = "" if size == 1 else f" of all {size} members, last of member {member},"
            told = f"the loss{who} became {losses[row, member].item()} at epoch {epoch}, step {at}"
            raise TrainingDivergedError(f"{told}; a smaller learning rate may help")
