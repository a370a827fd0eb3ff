"""Data, initial weights, networks and step rules: the paper's small sets as the authors' code draws them, and images.

The authors use NumPy's legacy generator for the points and ``torch.manual_seed`` with default ``nn.Linear``
layers for the weights; both give the same numbers today, so that their logged runs can be repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from repro.learn.data import load
from repro.learn.ensembles import Ensemble
from repro.learn.networks import kaiming_normal_, perceptron, vgg16_bias_free
from repro.learn.seeding import initialization
from repro.papers.ewn_inductive_bias.theory import Array, BinaryProblem

LIN_SEP_SEED = 2137
_DEPTH_SEED = 6782
SIMPLE_TRAJ_STARTS = ((1.0, 1.0), (3.0, 1.0), (1.0, 3.0), (5.0, 1.0), (1.0, 5.0))
"""Starts of the Simple-Traj experiment, $(w_1, w_2)$."""


# --- points and weights -----------------------------------------------------------------------------------------


def _two_squares(
    generator: np.random.RandomState, low: float, high: float, n_per_class: int, n_train: int
) -> tuple[Array, Array]:
    """(1, 1) and points of a square for class -1, (-1, 1) and points of the opposite square for class +1.

    The authors draw ``n_per_class`` points and train on the first ``n_train`` of each class.
    """
    negative = np.vstack([[1.0, 1.0], generator.uniform(low, high, (n_per_class, 2))])
    positive = np.vstack([[-1.0, 1.0], generator.uniform(-low, -high, (n_per_class, 2))])
    return np.vstack([negative[:n_train], positive[:n_train]]), np.repeat([-1.0, 1.0], n_train)


def lin_sep_problem(loss: str = "logistic") -> BinaryProblem:
    """Lin-Sep: the authors' four separable points, one hidden layer of squared ReLU, of any width."""
    generator = np.random.RandomState(LIN_SEP_SEED)
    low, high = generator.uniform(1.0, 1.5), generator.uniform(1.5, 2.0)
    return BinaryProblem("squared_relu", *_two_squares(generator, low, high, 51, 2), loss)


def depth_problem(loss: str) -> tuple[BinaryProblem, Array]:
    """The convergence-rate experiment: 20 points for linear networks, and $w_{init}$ ``(2,)``, where all start."""
    generator = np.random.RandomState(_DEPTH_SEED)
    points = _two_squares(generator, 1.5, 2.0, 59, 10)
    return BinaryProblem("linear", *points, loss), generator.normal(size=2)


def default_weights(widths: Sequence[int], seed: int) -> list[Array]:
    """Weights of bias-free ``nn.Linear`` layers, built in order after ``torch.manual_seed(seed)`` on the CPU.

    Drawn in float32 and converted to float64. The global torch generator is left as it was.

    Args:
        widths: from the inputs to the output, at least two numbers.
        seed: of torch's generator.

    Returns:
        One matrix ``(n_out, n_in)`` a layer.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = [nn.Linear(a, b, bias=False, dtype=torch.float32, device="cpu") for a, b in pairwise(widths)]
    return [layer.weight.detach().numpy().astype(np.float64) for layer in layers]


def depth_weights(depth: int, width: int, seed: int, first_map: Array) -> list[Array]:
    r"""Weights of a deep linear network that computes a given map at the start.

    All layers are torch's default but the last, which is set to $w_{init}^\top (W_{D-1}\cdots W_1)^+$; depth
    1 is the map itself and does not depend on the seed.
    """
    if depth == 1:
        return [first_map[None, :].copy()]
    weights = default_weights([first_map.size, *[width] * (depth - 1), 1], seed)
    product = weights[0]
    for w in weights[1:-1]:
        product = w @ product
    weights[-1] = first_map[None, :] @ np.linalg.pinv(product)
    return weights


# --- images -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ImageSetting:
    """Everything that one image experiment depends on besides method, seed and depth.

    Attributes:
        dataset: name for ``repro.learn.data.load``.
        data: further arguments of ``load``.
        split_by_seed: whether each seed has a split of its own into training and test images.
        n_hidden: neurons of the one hidden layer; None for the VGG-16 of CIFAR-10.
        batch_size: None for full batch.
        grow, shrink: of the step rule, see ``training.descend``.
        max_steps: steps, or epochs with mini-batches.
        levels: percentages of units to remove.
        every_score: whether units are removed by every score, or by length and at random alone.
    """

    dataset: str
    data: dict[str, Any]
    split_by_seed: bool
    n_hidden: int | None
    batch_size: int | None = None
    grow: float = 1.02
    shrink: float = 1.2
    max_steps: int = 60_000
    levels: Sequence[float] = range(0, 100, 5)
    every_score: bool = False

    def load(self, seeds: Sequence[int]) -> tuple[list[Tensor], int]:
        """Training and test images and classes, with a first dimension where seeds have their own; how many classes."""
        sets = [
            load(self.dataset, seed=seed, **self.data)
            for seed in (seeds if self.split_by_seed else seeds[:1])
        ]
        parts = zip(*((own.x_train, own.y_train, own.x_test, own.y_test) for own in sets), strict=True)
        return [torch.stack(part) if self.split_by_seed else part[0] for part in parts], sets[0].n_classes

    def networks(self, seeds: Sequence[int], x: Tensor, n_classes: int) -> Ensemble:
        """Freshly drawn ones for these images; the authors' for MNIST have hidden biases of 0, no output bias."""
        members = []
        for seed in seeds:
            with initialization(seed):
                if self.n_hidden is None:
                    members.append(vgg16_bias_free(x.shape[-3], n_classes))
                else:
                    sizes = (x.shape[-1], self.n_hidden, n_classes)
                    members.append(kaiming_normal_(perceptron(sizes, bias=(True, False))))
        return Ensemble(members)


_SMALL = {"validation": 0, "standardize": "global"}
_DIGITS = ImageSetting("digits", {"train": 200, **_SMALL}, split_by_seed=True, n_hidden=128)
_MNIST = ImageSetting(
    "mnist", {"validation": 0, "standardize": (0.1307, 0.3081)}, split_by_seed=False, n_hidden=1024,
    batch_size=128, grow=1.1, shrink=1.1, max_steps=15_000, every_score=True,
)  # fmt: skip
_CIFAR10 = {"validation": 0, "standardize": (0.5, 0.5), "images": True}

IMAGES: dict[str, ImageSetting] = {
    "digits": replace(_DIGITS, levels=(0, 20, 40, 50, 60, 70, 75, 80, 85, 90, 95), every_score=True),
    "digits-sgd": replace(_DIGITS, batch_size=20),
    "mnist5k": replace(_DIGITS, dataset="mnist5k", data={"train": 500, "pool": 2, **_SMALL}),
    "mnist": _MNIST,
    "cifar10": replace(_MNIST, dataset="cifar10", data=_CIFAR10, n_hidden=None, levels=range(0, 55, 5)),
}
"""Small versions (digits, mnist5k: chosen here) and the paper's (mnist, cifar10: after the authors' code)."""
