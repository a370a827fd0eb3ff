"""What the experiments work on: the paper's sparse regression, and the data and networks that are pruned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import nn

from repro.learn import Dataset, Ensemble, lenet_300_100, load, perceptron, resnet20
from repro.learn.networks import kaiming_normal_

_Array = NDArray[np.float64]


@dataclass(frozen=True)
class _SparseRegression:
    r"""A noiseless linear regression $f(x)=\frac1{2d}\|Zx-y\|^2$ with $y=Zx^*$.

    Attributes:
        Z: samples, ``(d, n)``.
        y: targets, ``(d,)``.
        x_star: the truth, ``(n,)``.
        x0: where training starts, ``(n,)``.
    """

    Z: _Array
    y: _Array
    x_star: _Array
    x0: _Array

    @classmethod
    def draw(cls, seed: int, d: int = 40, n: int = 100, n_nonzero: int = 5) -> _SparseRegression:
        r"""Draw a problem: $z_j\sim N(0,I_n)$, $\|x^*\|_0$ as given, $x_0\sim N(0,\frac1{\sqrt n}I_n)$.

        The paper leaves the values of $x^*$ open: they are $\pm1$ here, with random signs, at random places. Of the
        start $n^{-1/2}$ is read as the variance, as the notation says: a deviation of 0.316 for n = 100.

        Args:
            seed: of everything drawn.
            d: samples.
            n: unknowns.
            n_nonzero: non-zero entries of the truth.

        Source: section 4 of the paper's first version (its figures 1, 4 and 5).
        """
        rng = np.random.default_rng(seed)
        Z = rng.standard_normal((d, n))
        x_star = np.zeros(n)
        x_star[rng.choice(n, n_nonzero, replace=False)] = rng.choice([-1.0, 1.0], n_nonzero)
        return cls(Z, Z @ x_star, x_star, n**-0.25 * rng.standard_normal(n))

    def loss(self, x: _Array) -> _Array:
        r"""$f(x)=\frac1{2d}\|Zx-y\|^2$ for points ``(..., n)``, shape ``(...)``."""
        residual = x @ self.Z.T - self.y
        return np.vecdot(residual, residual) / (2 * len(self.y))

    def gradient(self, x: _Array) -> _Array:
        r"""$\nabla f(x)=\frac1d Z^\top(Zx-y)$ for points ``(..., n)``, same shape."""
        return (x @ self.Z.T - self.y) @ self.Z / len(self.y)

    def misfit(self, x: _Array) -> float:
        r"""$\|Zx-y\|/\|y\|$ of one point ``(n,)``: 0 where it interpolates, 1 at the origin."""
        return float(np.linalg.norm(self.Z @ x - self.y) / np.linalg.norm(self.y))


@dataclass(frozen=True)
class _Setting:
    r"""One data set with its network, and how it is trained; the same for all methods.

    Attributes:
        dataset: a name that ``learn.load`` knows.
        build: the network, without arguments.
        parts: shares or counts of the training, validation and test part.
        standardize: as in ``learn.load``.
        images: whether the network takes images rather than rows of numbers; those of the training part are then
            cropped and mirrored at random.
        n_epochs: of training, under a cosine schedule.
        batch_size: examples a step.
        momentum: of SGD; its learning rate is a choice of the method.
        weight_decay: PyTorch's, on everything that is not a factor (biases, normalization, plain weights).
    """

    dataset: str
    build: Callable[[], nn.Module]
    parts: tuple[int | None, int | None, int | None] = (None, 5000, None)
    standardize: str = "global"
    images: bool = False
    n_epochs: int = 60
    batch_size: int = 256
    momentum: float = 0.9
    weight_decay: float = 1e-4

    def data_sets(self, seeds: Sequence[int]) -> list[Dataset]:
        """One data set a seed, each with a split of its own."""
        n_train, n_validation, n_test = self.parts
        loaded = partial(load, self.dataset, train=n_train, validation=n_validation, test=n_test)
        return [loaded(seed=seed, standardize=self.standardize, images=self.images) for seed in seeds]

    def networks(self, seeds: Sequence[int]) -> list[nn.Module]:
        """One plain network a seed, weights Kaiming-normal: where all methods start."""
        return list(Ensemble.drawn(lambda: kaiming_normal_(self.build()), seeds))


_SETTINGS: dict[str, _Setting] = {
    "digits": _Setting(
        "digits", partial(perceptron, (64, 128, 64, 10)), (None, 200, 500), "feature", batch_size=128
    ),
    "lenet-mnist": _Setting("mnist", lenet_300_100),
    "lenet-fashion": _Setting("fashion_mnist", lenet_300_100),
    "resnet20-cifar10": _Setting("cifar10", resnet20, standardize="channel", images=True, n_epochs=150),
}


def tuned() -> pd.DataFrame:
    """The choices that every arm makes on digits, tuned once on validation data.

    Made by ``experiments._tuning(range(8), range(2), 40, 20)``: on planning seeds, none of which judges a claim.

    Returns:
        One row a task (``"one-shot"``, or a rewind), arm and sparsity (of cycles, missing): method, the fields of
        ``method.Choice``, validation_accuracy.
    """
    return pd.read_csv(Path(__file__).with_name("tuned.csv"))
