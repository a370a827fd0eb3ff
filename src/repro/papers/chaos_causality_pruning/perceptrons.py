"""Many small perceptrons as one: forward pass, gradient and update written out, one example at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["HEADS", "Perceptrons", "gaussian", "uniform"]

HEADS = ("sigmoid", "softmax")

Draw = Callable[[np.random.Generator, tuple[int, int], int], NDArray[np.float64]]


@dataclass
class Perceptrons:
    r"""R sigmoid perceptrons of one shape, in double precision.

    $$a_0=x,\qquad a_l=\sigma(W_la_{l-1}+b_l),\qquad f(x)=\sigma(W_La_{L-1}+b_L)\ \text{or}\
    \operatorname{softmax}(W_La_{L-1}+b_L).$$

    Networks that learn from different data can stand in one stack: see ``activations``.

    The paper's networks take one example a step, tens of thousands of steps: the cost is the number of
    operations a step, not their size, so hundreds of networks cost little more than one. That is why the
    gradient is written out here instead of left to ``repro.learn.train``, which a test compares it with.

    Attributes:
        weights: one tensor ``(R, outputs, inputs)`` a layer.
        biases: one tensor ``(R, outputs, 1)`` a layer.
        head: the last activation, ``"sigmoid"`` or ``"softmax"``.
    """

    weights: list[Tensor]
    biases: list[Tensor]
    head: str = "sigmoid"

    def __post_init__(self) -> None:
        if self.head not in HEADS:
            raise ValueError(f"head must be one of {', '.join(HEADS)}; got {self.head!r}")
        if not self.weights or len(self.weights) != len(self.biases):
            raise ValueError(
                f"give one bias tensor a layer; got {len(self.weights)} weights, {len(self.biases)} biases"
            )

    def __len__(self) -> int:
        return self.weights[0].shape[0]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Widths from input to output."""
        return (self.weights[0].shape[2], *(w.shape[1] for w in self.weights))

    @property
    def tensors(self) -> list[Tensor]:
        """All weights, then all biases."""
        return [*self.weights, *self.biases]

    @property
    def layer_of(self) -> NDArray[np.int64]:
        """Layer 0, 1, ... of each weight in the paper's flat order, ``(P,)``."""
        return np.repeat(np.arange(len(self.weights)), [w[0].numel() for w in self.weights])

    def flat(self) -> Tensor:
        """Copy the weights, without biases, in the paper's order: layer by layer, row by row, ``(R, P)``."""
        return torch.cat([w.reshape(len(self), -1) for w in self.weights], dim=1)

    def unflat(self, values: Tensor) -> list[Tensor]:
        """Cut ``(R, P)`` in the order of ``flat`` into one tensor ``(R, outputs, inputs)`` a layer."""
        pieces = values.split([w[0].numel() for w in self.weights], dim=1)
        return [piece.reshape(w.shape) for piece, w in zip(pieces, self.weights, strict=True)]

    def pick(self, runs: Sequence[int] | NDArray[np.int64]) -> Self:
        """Copy the networks at these indices; an index may stand more than once."""
        index = torch.tensor(np.array(runs, dtype=np.int64))
        return type(self)([w[index] for w in self.weights], [b[index] for b in self.biases], self.head)

    def masked(self, keep: Tensor) -> Self:
        """Copy the networks with the weights set to zero where ``keep`` (R, P) is False."""
        copy = self.pick(range(len(self)))
        for w, m in zip(copy.weights, self.unflat(keep), strict=True):
            w.mul_(m)
        return copy

    def activations(self, x: Tensor) -> list[Tensor]:
        """Return $a_1, \\dots, a_L$, each ``(R, width, m)``.

        Args:
            x: ``(S, m, features)``: S sets of m examples, each seen by R / S networks in a row.
        """
        n_runs, first = len(self), self.weights[0]
        wide = first.reshape(len(x), -1, first.shape[2])  # the networks of one set, as one wide layer
        z = torch.bmm(wide, x.transpose(1, 2)).reshape(n_runs, -1, x.shape[1]).add_(self.biases[0])
        layers = []
        for w, b in zip(self.weights[1:], self.biases[1:], strict=True):
            layers.append(z.sigmoid_())
            z = torch.baddbmm(b, w, layers[-1])
        layers.append(z.sigmoid_() if self.head == "sigmoid" else z.softmax(1))
        return layers

    def __call__(self, x: Tensor) -> Tensor:
        """Return the outputs for examples ``(m, features)`` or ``(S, m, features)``: ``(R, m, classes)``."""
        return self.activations(x if x.ndim == 3 else x[None])[-1].transpose(1, 2)

    def step(self, x: Tensor, targets: Tensor, learning_rate: float) -> None:
        r"""Make one step of gradient descent on the mean squared error of a batch, in place.

        The error of one example is $\frac1K\sum_k(f_k-t_k)^2$. With $g=\frac2K(f-t)$ the last layer's
        $\delta_L=g\odot f\odot(1-f)$ for the sigmoid and $f\odot(g-\langle g,f\rangle)$ for the softmax;
        then $\delta_l=(W_{l+1}^\top\delta_{l+1})\odot a_l\odot(1-a_l)$,
        $\nabla W_l=\delta_la_{l-1}^\top$, $\nabla b_l=\delta_l$, each a mean over the batch.

        Args:
            x: examples ``(S, m, features)``, one set for R / S networks in a row.
            targets: ``(S, classes, m)``.
            learning_rate: of the step.
        """
        n_sets, n_examples = x.shape[:2]
        layers = self.activations(x)
        f = layers[-1]
        delta = (f.view(n_sets, -1, *f.shape[1:]) - targets[:, None]).view(f.shape)
        if self.head == "sigmoid":
            delta.mul_(f).mul_(1 - f)
        else:
            delta = f * (delta - (delta * f).sum(1, keepdim=True))
        delta.mul_(2 / (f.shape[1] * n_examples))
        for layer in range(len(self.weights) - 1, 0, -1):
            a, w = layers[layer - 1], self.weights[layer]
            below = torch.bmm(w.transpose(1, 2), delta).mul_(a).mul_(1 - a)
            w.baddbmm_(delta, a.transpose(1, 2), alpha=-learning_rate)
            self.biases[layer].sub_(delta.sum(-1, keepdim=True), alpha=learning_rate)
            delta = below
        first = self.weights[0]
        wide = first.view(n_sets, -1, first.shape[2])
        wide.baddbmm_(delta.view(n_sets, -1, n_examples), x, alpha=-learning_rate)
        self.biases[0].sub_(delta.sum(-1, keepdim=True), alpha=learning_rate)


def gaussian(
    sizes: Sequence[int], seeds: Sequence[int], *, scale: float = 0.1, head: str = "sigmoid"
) -> Perceptrons:
    r"""Draw one network a seed with weights and biases from $N(0, \text{scale}^2)$, as for the paper's tables.

    Args:
        sizes: widths from input to output.
        seeds: one a network.
        scale: standard deviation, above 0.
        head: ``"sigmoid"`` or ``"softmax"``.
    """
    if not scale > 0:
        raise ValueError(f"scale is a standard deviation and must be above 0; got {scale}")
    return _drawn(sizes, seeds, lambda rng, shape, _: scale * rng.standard_normal(shape), head)


def uniform(sizes: Sequence[int], seeds: Sequence[int], *, head: str = "softmax") -> Perceptrons:
    r"""Draw one network a seed from $U(-1/\sqrt n, 1/\sqrt n)$ with n the inputs of the layer.

    The same law as PyTorch's default for linear layers, which the paper's MNIST network uses.

    Args:
        sizes: widths from input to output.
        seeds: one a network.
        head: ``"sigmoid"`` or ``"softmax"``.
    """

    def draw(rng: np.random.Generator, shape: tuple[int, int], n_inputs: int) -> NDArray[np.float64]:
        return rng.uniform(-1, 1, shape) / np.sqrt(n_inputs)

    return _drawn(sizes, seeds, draw, head)


def _drawn(sizes: Sequence[int], seeds: Sequence[int], draw: Draw, head: str) -> Perceptrons:
    if len(sizes) < 2 or min(sizes) < 1:
        raise ValueError(f"sizes are widths from input to output, at least two, each 1 or more; got {sizes}")
    if not len(seeds):
        raise ValueError("give at least one seed")
    shapes = [shape for i, o in pairwise(sizes) for shape in ((o, i), (o, 1))]
    networks = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        # a bias has the range of its layer, so each shape goes with its layer's inputs
        inputs = [i for i in sizes[:-1] for _ in range(2)]
        networks.append([draw(rng, shape, n) for shape, n in zip(shapes, inputs, strict=True)])
    stacked = [torch.tensor(np.stack(tensors)) for tensors in zip(*networks, strict=True)]
    return Perceptrons(stacked[::2], stacked[1::2], head)
