"""The paper's four small data sets and their initial weights, as the authors' published code draws them.

The authors use NumPy's legacy generator for the points and ``torch.manual_seed`` with default ``nn.Linear``
layers for the weights; both give the same numbers today, so that their logged runs can be repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from repro.geometry.homogeneous import BinaryProblem, Perceptron

__all__ = [
    "SIMPLE_TRAJ_STARTS",
    "PlanarSet",
    "default_weights",
    "depth_set",
    "depth_weights",
    "lin_sep",
    "lin_sep_problem",
    "simple_traj_problem",
    "xor_problem",
]

Array = NDArray[np.float64]

LIN_SEP_SEED = 2137
DEPTH_SEED = 6782
XOR_SEED = 9156
SIMPLE_TRAJ_STARTS = ((1.0, 1.0), (3.0, 1.0), (1.0, 3.0), (5.0, 1.0), (1.0, 5.0))
"""Starts of the Simple-Traj experiment, $(w_1, w_2)$."""


@dataclass(frozen=True, eq=False)
class PlanarSet:
    """Points ``(n, 2)`` in the plane with labels -1 and +1, ``(n,)``, in two parts."""

    x_train: Array
    y_train: Array
    x_test: Array
    y_test: Array


def _two_squares(
    generator: np.random.RandomState, low: float, high: float, n_per_class: int, n_train: int
) -> PlanarSet:
    """(1, 1) and points of a square for class -1, (-1, 1) and points of the opposite square for class +1."""
    negative = np.vstack([[1.0, 1.0], generator.uniform(low, high, (n_per_class, 2))])
    positive = np.vstack([[-1.0, 1.0], generator.uniform(-low, -high, (n_per_class, 2))])

    def part(rows: slice) -> tuple[Array, Array]:
        a, b = negative[rows], positive[rows]
        return np.vstack([a, b]), np.repeat([-1.0, 1.0], [len(a), len(b)])

    return PlanarSet(*part(slice(n_train)), *part(slice(n_train, None)))


def lin_sep(seed: int = LIN_SEP_SEED) -> PlanarSet:
    """Lin-Sep: 4 training and 100 test points, separable; the default seed gives the authors' points."""
    generator = np.random.RandomState(seed)
    low, high = generator.uniform(1.0, 1.5), generator.uniform(1.5, 2.0)
    return _two_squares(generator, low, high, n_per_class=51, n_train=2)


def depth_set(seed: int = DEPTH_SEED) -> tuple[PlanarSet, Array]:
    """The set of the convergence-rate experiment: 20 training and 100 test points, and the common first map.

    Returns:
        The points, and $w_{init}$ of shape ``(2,)``: every network of that experiment starts as this linear
        map.
    """
    generator = np.random.RandomState(seed)
    points = _two_squares(generator, 1.5, 2.0, n_per_class=59, n_train=10)
    return points, generator.normal(size=2)


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
        layers = [
            torch.nn.Linear(a, b, bias=False, dtype=torch.float32, device="cpu") for a, b in pairwise(widths)
        ]
    return [layer.weight.detach().numpy().astype(np.float64) for layer in layers]


def depth_weights(depth: int, width: int, seed: int, first_map: Array) -> list[Array]:
    r"""Weights of a deep linear network that computes a given map at the start.

    All layers are torch's default but the last, which is set to $w_{init}^\top (W_{D-1}\cdots W_1)^+$; depth
    1 is the map itself and does not depend on the seed.
    """
    if depth < 1:
        raise ValueError(f"depth must be at least 1, got {depth}")
    if depth == 1:
        return [first_map[None, :].copy()]
    weights = default_weights([first_map.size, *[width] * (depth - 1), 1], seed)
    product = weights[0]
    for w in weights[1:-1]:
        product = w @ product
    weights[-1] = first_map[None, :] @ np.linalg.pinv(product)
    return weights


def lin_sep_problem(loss: str = "logistic", seed: int = LIN_SEP_SEED) -> BinaryProblem:
    """Lin-Sep's training points, one hidden layer of squared ReLU, of any width."""
    points = lin_sep(seed)
    return BinaryProblem(Perceptron("squared_relu"), points.x_train, points.y_train, loss)


def xor_problem(n_hidden: int = 20, loss: str = "logistic") -> BinaryProblem:
    """XOR's four points; hidden ReLU layer trained, output weights fixed, one half +1, the other -1."""
    if n_hidden < 2 or n_hidden % 2:
        raise ValueError(f"n_hidden must be even and positive, got {n_hidden}")
    x = np.array([[1.0, 1.0], [-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0]])
    output = np.repeat([1.0, -1.0], n_hidden // 2)[None, :]
    return BinaryProblem(Perceptron("relu", fixed={1: output}), x, np.array([-1.0, -1.0, 1.0, 1.0]), loss)


def simple_traj_problem() -> BinaryProblem:
    r"""Simple-Traj: $\Phi = 2w_1 + w_2$ on one point, exponential loss, each weight a node of its own.

    Written as a linear network with one input 1, two hidden nodes of one weight each, and fixed output (2,
    1): weights are ``[array([[w1], [w2]])]``.
    """
    network = Perceptron("linear", fixed={1: np.array([[2.0, 1.0]])})
    return BinaryProblem(network, np.array([[1.0]]), np.array([1.0]), "exponential")
