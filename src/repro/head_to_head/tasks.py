"""Tasks: data, a network and a budget of epochs; those of the chapter, and data of one's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from repro.learn import Dataset, Ensemble, lenet5, lenet_300_100, load, perceptron, resnet20
from repro.learn.data import draw
from repro.learn.networks import kaiming_normal_

_SPARSITIES = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995)


@dataclass(frozen=True)
class Task:
    """What is to be learned, by which network, in how many epochs.

    Attributes:
        name: for tables.
        data: from a seed to a data set, with a split of its own.
        build: the plain network, without arguments.
        n_epochs: of training in all, whatever the method does with them; even.
        batch_size: examples a step.
        sparsities: at which methods are compared, ascending.
        first_rate: where tuning begins to walk; None for a grid, see ``experiments.tuning``.
    """

    name: str
    data: Callable[[int], Dataset]
    build: Callable[[], nn.Module]
    n_epochs: int = 40
    batch_size: int = 128
    sparsities: Sequence[float] = field(default=_SPARSITIES)
    first_rate: float | None = None

    def draw(self, seeds: Sequence[int]) -> tuple[Ensemble, list[Dataset]]:
        """Networks with weights $N(0, 2/\\text{fan-in})$ and data sets, one a seed."""
        networks = Ensemble.drawn(lambda: kaiming_normal_(self.build()), seeds)
        return networks, [self.data(seed) for seed in seeds]


def _load(name: str, **how: Any) -> Callable[[int], Dataset]:
    return lambda seed: load(name, seed=seed, **how)


_GREY: Mapping[str, Any] = {"validation": 5000, "standardize": "global"}
_FEW = (0.0, 0.9, 0.95, 0.99)

TASKS: dict[str, Task] = {
    "digits": Task(
        "digits", _load("digits", validation=200, test=500), partial(perceptron, (64, 128, 64, 10))
    ),
    "mnist5k": Task(
        "mnist5k",
        _load("mnist5k", train=1500, validation=1000, test=2500, pool=2, standardize="global"),
        partial(perceptron, (196, 64, 64, 10)),
    ),
    "mnist": Task("mnist", _load("mnist", **_GREY), lenet_300_100, 8, 128, _FEW, 0.1),
    "fashion": Task(
        "fashion", _load("fashion_mnist", images=True, train=6000, **_GREY), lenet5, 10, 128, _FEW, 0.025
    ),
    "cifar10": Task(
        "cifar10",
        _load("cifar10", images=True, validation=5000, standardize="channel"),
        partial(resnet20, batch_norm=False),
        n_epochs=160,
        first_rate=0.05,
    ),
}
"""Two small sets that come with packages; LeNet-300-100 on MNIST, LeNet-5 on 6,000 images of Fashion-MNIST, ResNet-20
without batch normalization on CIFAR-10."""


def own_data(path: str | Path, widths: Sequence[int] = (128, 64)) -> Task:
    """A task from a file of one's own: a perceptron on a table of numbers.

    Args:
        path: an ``.npz`` file with ``x`` ``(n, features)``, numbers, and ``y`` ``(n,)``, classes of any kind.
        widths: of the hidden layers.

    Returns:
        A task named like the file. A fifth of the rows is for tests and a tenth for validation, split by class; inputs
        are standardized with the training part's means and deviations.

    Raises:
        ValueError: no such file, no ``x`` or ``y``, shapes that do not fit, numbers that are not finite.
    """
    path = Path(path)
    if path.suffix != ".npz" or not path.is_file():
        raise ValueError(f"own data come as a file .npz with arrays x and y; got {str(path)!r}")
    with np.load(path, allow_pickle=False) as held:
        if missing := {"x", "y"} - set(held):
            raise ValueError(f"{path.name} lacks {' and '.join(sorted(missing))}; it has {sorted(held)}")
        x, given = held["x"].astype(np.float64), held["y"]
    if x.ndim != 2 or given.shape != x.shape[:1] or not np.isfinite(x).all():
        raise ValueError(
            f"x is (n, features) and finite, y is (n,); {path.name} has {x.shape} and {given.shape}"
        )
    classes, y = np.unique(given, return_inverse=True)

    def data(seed: int) -> Dataset:
        n_test, n_validation = len(y) // 5, len(y) // 10
        sizes = (len(y) - n_test - n_validation, n_validation, n_test)
        rows = draw(y, sizes, torch.Generator().manual_seed(seed))
        mean, deviation = x[rows[0]].mean(axis=0), x[rows[0]].std(axis=0)
        scaled = (x - mean) / np.where(deviation > 0, deviation, 1.0)
        (x1, y1), (x2, y2), (x3, y3) = ((torch.tensor(scaled[p]).float(), torch.tensor(y[p])) for p in rows)
        return Dataset(x1, y1, x2, y2, x3, y3, len(classes), path.stem, source=str(path))

    return Task(path.stem, data, partial(perceptron, (x.shape[1], *widths, len(classes))))
