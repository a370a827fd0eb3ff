"""One training loop for all chapters: a network or an ensemble, any optimiser, data in memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from repro.learn._batches import Batches, stacked_parts
from repro.learn._checks import (
    check_augment,
    check_choices,
    check_fit,
    check_hooks,
    check_precision,
    list_of_datasets,
    list_of_seeds,
    make_optimizer,
)
from repro.learn._losses import Loss, loss_function
from repro.learn._progress import bar
from repro.learn.data import Dataset
from repro.learn.ensembles import Ensemble
from repro.learn.evaluation import Networks, decision_threshold, evaluate, predictions
from repro.learn.history import EpochReport, History, LossWatch
from repro.learn.recording import Record, Recorder
from repro.learn.seeding import streams

__all__ = ["resolve_device", "train"]

OptimizerFactory = Callable[[Iterable[Tensor]], torch.optim.Optimizer]
ScheduleFactory = Callable[[torch.optim.Optimizer], torch.optim.lr_scheduler.LRScheduler]
StepHook = Callable[[Any, int], object]
EpochHook = Callable[[Any, EpochReport], object]
Augment = Callable[[Tensor, torch.Generator], Tensor]


def resolve_device(device: str) -> torch.device:
    """Return the device of that name; ``"auto"`` is CUDA where there is one and the CPU elsewhere.

    Raises:
        ValueError: an unknown device, or CUDA on a machine without.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError:
        raise ValueError(f"device is 'auto', 'cpu' or 'cuda'; got {device!r}") from None
    if resolved.type not in ("cpu", "cuda"):
        raise ValueError(f"device is 'auto', 'cpu' or 'cuda'; got {device!r}")
    if resolved.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device={device!r}, but this machine has no CUDA device; use 'auto' or 'cpu'")
    return resolved


def train(
    model: nn.Module | Ensemble,
    dataset: Dataset | Sequence[Dataset],
    *,
    optimizer: OptimizerFactory,
    n_epochs: int | None = None,
    n_steps: int | None = None,
    batch_size: int | None = None,
    loss: str | Loss = "cross_entropy",
    reduction: str = "mean",
    schedule: ScheduleFactory | None = None,
    schedule_every: str = "epoch",
    before_step: Sequence[StepHook] = (),
    after_step: Sequence[StepHook] = (),
    after_epoch: Sequence[EpochHook] = (),
    augment: Augment | None = None,
    record: Record | None = None,
    evaluate_every: int | None = None,
    seed: int | Sequence[int] = 0,
    shuffle: bool = True,
    device: str = "auto",
    mixed_precision: bool = False,
    progress: bool | None = None,
) -> History:
    r"""Train a network, or all members of an ensemble at once, in place.

    Each step descends $\sum_i \frac1b\sum_{j\in B_i}\ell(f_{\theta_i}(x_j), y_j)$ over members $i$, whose
    gradient with respect to $\theta_i$ is that of member $i$ trained alone. The data are moved to the device
    once and batches are picked by index; afterwards the model is back on its device
    and in its mode.

    Args:
        model: a module or an ``Ensemble`` of S; its parameters are changed.
        dataset: inputs and classes; for an ensemble also S data sets of equal shapes, one a member.
        optimizer: from parameters to an optimiser, such as ``partial(torch.optim.SGD, lr=0.1)``.
        n_epochs: passes over the training part; or give ``n_steps``.
        n_steps: updates; the last epoch may be cut short.
        batch_size: examples a step, None for all of them. A last shorter batch is used too.
        loss: ``"cross_entropy"``, ``"logistic"``, ``"squared_error"``, or a callable from outputs ``(m, k)``
            and classes ``(m,)`` to losses ``(m,)``.
        reduction: ``"mean"`` over the examples of a batch, or their ``"sum"``, as the objective.
        schedule: from the optimiser to a learning-rate schedule.
        schedule_every: when the schedule moves, ``"epoch"`` or ``"step"``.
        before_step: called as ``f(model, step)`` without gradients between the backward pass and each update;
            may change the gradients, ``parameter.grad``, to add a penalty's; step counts from 1.
        after_step: called in the same way after each update.
        after_epoch: called as ``f(model, report)`` without gradients after each full epoch; see
            ``EpochReport``.
        augment: from the inputs of a training batch, ``(b, ...)`` or ``(S, b, ...)`` on the device, and a CPU
            generator that depends on the (first) seed, to inputs of the same shape; as ``random_crop_flip``.
        record: weights, gradients or losses to keep; see ``Record``.
        evaluate_every: epochs between evaluations on all parts; None for 1, or more in runs of more than 100
            epochs so that there are about 100. Before training and at the end there is always one.
        seed: of the order of batches. One seed: all members see the same batches; S seeds: each has its own
            order, as it would alone.
        shuffle: whether each epoch has a new order.
        device: ``"auto"`` (CUDA where there is one), ``"cpu"`` or ``"cuda"``.
        mixed_precision: bfloat16 where it is safe (autocast); CUDA only.
        progress: a progress bar; None shows one only when a person is watching.

    Returns:
        ``History``.

    Raises:
        ValueError, TypeError: bad arguments, before any work.
        MemoryError: the recording would exceed its bound, before any work.
        TrainingDivergedError: the loss of a network, or of all members, is not finite; names epoch and step.
            Of an ensemble, single members that diverge are noted in ``History.diverged`` instead.
    """
    networks = Networks(model)
    if not networks.trained:
        raise ValueError("the model has no parameters that require a gradient; there is nothing to train")
    where = resolve_device(device)
    check_precision(mixed_precision, where)
    check_choices(n_epochs, n_steps, batch_size, reduction, schedule_every, evaluate_every)
    check_hooks(before_step=before_step, after_step=after_step, after_epoch=after_epoch)
    check_augment(augment)
    seeds = list_of_seeds(seed, networks.size)
    datasets = list_of_datasets(dataset, networks.size)
    function = loss_function(loss)
    origin, mode = networks.device, model.training
    model.to(where)
    try:
        networks = Networks(model)
        parts = stacked_parts(datasets, where, networks.dtype)
        stacked = len(datasets) > 1
        check_fit(networks, function, *parts["train"], stacked)
        batches = Batches(*parts["train"], stacked, seeds, batch_size, shuffle)
        draws = streams(seeds[0]).augmentation
        total = n_steps if n_steps is not None else (n_epochs or 0) * batches.per_epoch
        every = evaluate_every or max(1, total // batches.per_epoch // 100)
        loss_shape = (networks.size,) if isinstance(model, Ensemble) else ()
        recorder = Recorder(record, networks.trained, total, loss_shape) if record else None
        stepper = make_optimizer(optimizer, networks.trained.values())
        clock = schedule(stepper) if schedule else None
        autocast = torch.autocast("cuda", dtype=torch.bfloat16) if mixed_precision else nullcontext()
        watch = LossWatch(networks.size, raise_at_once=not isinstance(model, Ensemble))
        rows: list[dict[str, Any]] = []

        def note(epoch: int, step: int) -> None:
            metrics = {"batch_loss": watch.mean()}
            for name, (x, y) in parts.items():
                metrics[f"{name}_loss"], metrics[f"{name}_accuracy"] = evaluate(
                    model, x, y, loss=loss, per_member=stacked
                )
            columns = {name: values.tolist() for name, values in metrics.items()}
            rate = stepper.param_groups[0]["lr"]
            for i in range(networks.size):
                first = {"epoch": epoch, "step": step, "member": i, "seed": seeds[i % len(seeds)]}
                rows.append(first | {"learning_rate": float(rate)} | {k: v[i] for k, v in columns.items()})

        threshold = decision_threshold(loss)
        start = time.perf_counter()
        note(0, 0)
        model.train()
        step = epoch = 0
        with bar(total, progress) as shown:
            while step < total:
                epoch += 1
                right = torch.zeros(networks.size, dtype=torch.float64, device=where)
                for x, y in batches.epoch():
                    if augment is not None:
                        x = augment(x, draws)
                    stepper.zero_grad()
                    with autocast:
                        losses, outputs = networks.batch(function, x, y, batches.per_member)
                    means = losses.mean(dim=-1)
                    objective = means if reduction == "mean" else losses.sum(dim=-1)
                    objective.sum().backward()
                    means = means.detach()
                    if recorder:
                        recorder.before_update(step, means)
                    step += 1
                    with torch.no_grad():
                        if after_epoch:
                            right += (predictions(outputs, threshold) == y).sum(dim=-1)
                        for hook in before_step:
                            hook(model, step)
                        stepper.step()
                        for hook in after_step:
                            hook(model, step)
                    if clock and schedule_every == "step":
                        clock.step()
                    watch.add(means, losses.shape[-1], epoch, step)
                    shown.update()
                    if step == total:
                        break
                if after_epoch and step == epoch * batches.per_epoch:
                    rate = float(stepper.param_groups[0]["lr"])
                    report = EpochReport(epoch, step, (right / batches.n_examples).cpu(), rate)
                    with torch.no_grad():
                        for told in after_epoch:
                            told(model, report)
                if clock and schedule_every == "epoch":
                    clock.step()
                if epoch % every == 0 or step == total:
                    note(epoch, step)
        if recorder:
            recorder.after_last(step)
    finally:
        model.to(origin)
        model.train(mode)
    return History(
        pd.DataFrame(rows),
        step,
        epoch,
        time.perf_counter() - start,
        str(where),
        recorder.recording if recorder else None,
        watch.diverged,
    )
