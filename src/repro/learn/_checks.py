"""What can be wrong with the arguments of ``train``, found before any work is done."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from repro.learn._losses import Loss, check_loss
from repro.learn.data import Dataset
from repro.learn.evaluation import Networks
from repro.learn.seeding import checked_seed

__all__ = [
    "check_augment",
    "check_choices",
    "check_fit",
    "check_hooks",
    "check_precision",
    "list_of_datasets",
    "list_of_seeds",
    "make_optimizer",
]


def _whole(name: str, number: object, least: int = 1) -> None:
    if isinstance(number, bool) or not isinstance(number, int) or number < least:
        raise ValueError(f"{name} must be a whole number, {least} or above; got {number!r}")


def check_choices(
    n_epochs: int | None,
    n_steps: int | None,
    batch_size: int | None,
    reduction: str,
    schedule_every: str,
    evaluate_every: int | None,
) -> None:
    """Check the plain arguments one by one."""
    if (n_epochs is None) == (n_steps is None):
        raise ValueError(f"give either n_epochs or n_steps; got n_epochs={n_epochs}, n_steps={n_steps}")
    for name, number in (
        ("n_epochs", n_epochs),
        ("n_steps", n_steps),
        ("batch_size", batch_size),
        ("evaluate_every", evaluate_every),
    ):
        if number is not None:
            _whole(name, number)
    for name, word, known in (
        ("reduction", reduction, ("mean", "sum")),
        ("schedule_every", schedule_every, ("epoch", "step")),
    ):
        if word not in known:
            raise ValueError(f"{name} is {known[0]!r} or {known[1]!r}; got {word!r}")


def check_hooks(**hooks: Sequence[object]) -> None:
    """Check that every argument named is a sequence of callables."""
    for name, given in hooks.items():
        told = "report" if name == "after_epoch" else "step"
        if callable(given):
            raise TypeError(
                f"{name} is a sequence of callables f(model, {told}); got one callable, put it in a list"
            )
        if not isinstance(given, Sequence):
            raise TypeError(
                f"{name} is a sequence of callables f(model, {told}), a list say; got a {type(given).__name__}"
            )
        for hook in given:
            if not callable(hook):
                raise TypeError(f"{name} holds callables f(model, {told}); got {hook!r}")


def check_augment(augment: object) -> None:
    """Check that the augmentation, if any, can be called."""
    if augment is not None and not callable(augment):
        raise TypeError(f"augment is a function of inputs and a generator, or None; got {augment!r}")


def check_precision(mixed_precision: bool, device: torch.device) -> None:
    """Check that mixed precision is asked for on CUDA only."""
    if mixed_precision and device.type != "cuda":
        raise ValueError(f"mixed_precision=True works on CUDA only; the device is {str(device)!r}")
    if mixed_precision and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise ValueError(
            "mixed_precision=True needs a CUDA device that computes in bfloat16; this one does not"
        )


def list_of_seeds(seed: int | Sequence[int], size: int) -> list[int]:
    """Return one seed for all members or one for each."""
    seeds = [int(seed)] if isinstance(seed, (int, np.integer)) else list(seed)
    if len(seeds) not in (1, size):
        raise ValueError(f"seed is one seed or {size}, one a member; got {len(seeds)}")
    return [checked_seed(one) for one in seeds]


def list_of_datasets(dataset: Dataset | Sequence[Dataset], size: int) -> list[Dataset]:
    """Return one data set for all members or one for each."""
    datasets = [dataset] if isinstance(dataset, Dataset) else list(dataset)
    for one in datasets:
        if not isinstance(one, Dataset):
            raise TypeError(f"dataset is a Dataset or a sequence of them; got a {type(one).__name__}")
        if len(one.y_train) == 0:
            raise ValueError(f"the training part of {one.name!r} is empty")
    if len(datasets) not in (1, size):
        raise ValueError(f"dataset is one data set or {size}, one a member; got {len(datasets)}")
    return datasets


def check_fit(networks: Networks, loss: Loss, x: Tensor, y: Tensor, stacked: bool) -> None:
    """Run two examples through networks and loss."""
    few = x[:, :2] if stacked else x[:2]
    try:
        with networks.evaluating():
            outputs = networks.outputs(few, stacked)
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"the network does not take inputs of shape {tuple(few.shape)}: {error}") from error
    if outputs.ndim != 3:
        raise ValueError(f"a network must return (n, k) for n inputs; got {tuple(outputs.shape[1:])}")
    n_outputs = outputs.shape[-1]
    if n_outputs > 1 and int(y.max()) >= n_outputs:
        raise ValueError(f"classes go up to {int(y.max())}, but the network has only {n_outputs} outputs")
    check_loss(loss, outputs[0], (y[0] if stacked else y)[: outputs.shape[1]])


def make_optimizer(
    factory: Callable[[Iterable[Tensor]], torch.optim.Optimizer], parameters: Iterable[Tensor]
) -> torch.optim.Optimizer:
    """Call the factory and check what it returns."""
    if not callable(factory):
        raise TypeError(
            "optimizer is a function from parameters to an optimiser, such as "
            f"functools.partial(torch.optim.SGD, lr=0.1); got a {type(factory).__name__}"
        )
    optimizer = factory(list(parameters))
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(f"the optimizer factory returned a {type(optimizer).__name__}, not a torch optimiser")
    if isinstance(optimizer, torch.optim.LBFGS):
        raise ValueError("LBFGS evaluates the loss several times a step; this loop evaluates it once")
    return optimizer
