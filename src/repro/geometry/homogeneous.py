r"""Bias-free perceptrons with scalar output, in NumPy and float64, with hand-written gradients.

They are homogeneous in their weights, $\Phi(\lambda w, x) = \lambda^L\Phi(w, x)$, which is what the theory of
flows at vanishing loss is about. Weights are a list with one matrix a layer; every matrix may carry the same
leading dimensions, for many networks (seeds, perturbations) at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from repro.base import unknown
from repro.geometry.log_loss import check_loss, log_loss_slopes

__all__ = ["ACTIVATIONS", "BinaryProblem", "Perceptron", "Weights"]

Array = NDArray[np.float64]
Weights = list[Array]

ACTIVATIONS = {"linear": 1, "relu": 1, "squared_relu": 2}
"""Activation names, with the degree to which each is homogeneous."""


@dataclass(frozen=True, eq=False)
class Perceptron:
    r"""A bias-free perceptron: $\Phi(w, x) = W_D\,\sigma(W_{D-1}\cdots\sigma(W_1 x))$.

    Args:
        activation: ``"linear"``, ``"relu"`` or ``"squared_relu"`` ($\max(0, a)^2$), after every layer but the
            last.
        fixed: layers that are not trained, ``{position: matrix}`` with positions counted from 0 at the input.
            They are no part of ``weights``, have no gradient and no nodes.

    Raises:
        ValueError: for an unknown activation.
    """

    activation: str = "relu"
    fixed: Mapping[int, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            raise ValueError(unknown("activation", self.activation, ACTIVATIONS))

    def layers(self, weights: Sequence[Array]) -> tuple[Weights, list[bool]]:
        """All matrices from input to output, and which of them are trained."""
        depth = len(weights) + len(self.fixed)
        if any(not 0 <= position < depth for position in self.fixed):
            raise ValueError(
                f"fixed layers {sorted(self.fixed)} do not fit a network of {depth} layers, numbered from 0"
            )
        given = iter(weights)
        trained = [position not in self.fixed for position in range(depth)]
        return [next(given) if free else self.fixed[i] for i, free in enumerate(trained)], trained

    def degrees(self, n_trained: int) -> tuple[int, ...]:
        r"""Degree of homogeneity $d_l$ in each trained layer; their sum is $L$.

        A layer's degree is the product of the degrees of the activations behind it: 1 for linear and ReLU
        networks, 2 and 1 for one hidden layer of squared ReLU.
        """
        depth = n_trained + len(self.fixed)
        base = ACTIVATIONS[self.activation]
        return tuple(base ** (depth - 1 - i) for i in range(depth) if i not in self.fixed)

    def outputs(self, weights: Sequence[Array], x: Array) -> Array:
        """Outputs of shape ``(..., n_samples)`` for inputs ``x`` of shape ``(n_samples, n_inputs)``."""
        return self.forward(self.layers(weights)[0], x)[-1][..., 0, :]

    def forward(self, matrices: Sequence[Array], x: Array) -> list[Array]:
        """Pre-activations of every layer, each of shape ``(..., width, n_samples)``."""
        signal = x.T
        pre = []
        for matrix in matrices:
            pre.append(matrix @ signal)
            signal = self._activate(pre[-1])
        return pre

    def _activate(self, pre: Array) -> Array:
        if self.activation == "linear":
            return pre
        positive = np.maximum(pre, 0.0)
        return positive if self.activation == "relu" else positive * positive

    def _slope(self, pre: Array) -> Array:
        """Derivative of the activation; 0 at the kink of ReLU, as PyTorch has it."""
        if self.activation == "relu":
            return (pre > 0).astype(np.float64)
        return 2.0 * np.maximum(pre, 0.0)

    def pull_back(
        self, matrices: Sequence[Array], trained: list[bool], pre: list[Array], x: Array, delta: Array
    ) -> Weights:
        """Gradients of the trained matrices, given the gradient ``delta`` (..., 1, n) of the output."""
        gradients: Weights = []
        for i in reversed(range(len(matrices))):
            if trained[i]:
                signal = self._activate(pre[i - 1]) if i else x.T
                gradients.append(delta @ signal.mT)
            if not any(trained[:i]):
                break
            delta = matrices[i].mT @ delta
            if self.activation != "linear":
                delta = delta * self._slope(pre[i - 1])
        return gradients[::-1]


def _linear_gradient(
    matrices: Sequence[Array], trained: list[bool], effective: list[Array], pull: Array
) -> Weights:
    r"""Gradients of a linear network, each of rank one.

    $G_l = (W_D\cdots W_{l+1})^\top\,(W_{l-1}\cdots W_1\,X^\top s)^\top$ with $s$ the slopes at the outputs.
    ``effective`` holds the products $W_l\cdots W_1$; ``pull`` is $X^\top s$, shape ``(..., n_inputs)``.
    """
    gradients: Weights = []
    above = np.ones((*pull.shape[:-1], 1))
    for i in reversed(range(len(matrices))):
        below = (effective[i - 1] @ pull[..., None])[..., 0] if i else pull
        if trained[i]:
            gradients.append(above[..., :, None] * below[..., None, :])
        above = (above[..., None, :] @ matrices[i])[..., 0, :]
    return gradients[::-1]


@dataclass(frozen=True, eq=False)
class BinaryProblem:
    r"""A network, a set of points with labels $\pm1$ and a loss: everything a flow needs.

    Args:
        network: the perceptron.
        x: inputs, shape ``(n_samples, n_inputs)``.
        y: labels -1 or +1, shape ``(n_samples,)``.
        loss: ``"exponential"`` or ``"logistic"``, summed over the samples.

    Raises:
        ValueError: for labels other than -1 and +1, for shapes that do not agree, for an unknown loss.
    """

    network: Perceptron
    x: Array
    y: Array
    loss: str = "exponential"

    def __post_init__(self) -> None:
        check_loss(self.loss)
        if self.x.ndim != 2 or self.y.shape != self.x.shape[:1]:
            raise ValueError(
                "x must have shape (n_samples, n_inputs) and y (n_samples,), "
                f"got {self.x.shape} and {self.y.shape}"
            )
        if not np.isin(self.y, (-1.0, 1.0)).all():
            raise ValueError(f"labels must be -1 or +1, got {self.y[~np.isin(self.y, (-1.0, 1.0))][0]}")

    def margins(self, weights: Sequence[Array]) -> Array:
        r"""Margins $q_i = y_i\Phi(w, x_i)$, shape ``(..., n_samples)``."""
        return self.y * self.network.outputs(weights, self.x)

    def log_loss(self, weights: Sequence[Array]) -> Array:
        r"""$\log\mathcal L(w)$, shape ``(...)``."""
        return log_loss_slopes(self.margins(weights), self.loss)[0]

    def gradient(self, weights: Sequence[Array]) -> tuple[Array, Weights]:
        r"""$\log\mathcal L$ and $\nabla_w\log\mathcal L$ by back-propagation.

        The gradient of the loss itself is $\mathcal L\,\nabla\log\mathcal L$; directions, ratios and spreads
        are the same for both.

        Args:
            weights: trained matrices, each ``(..., n_out, n_in)``.

        Returns:
            Log-loss ``(...)`` and one gradient a trained matrix, of its shape.
        """
        matrices, trained = self.network.layers(weights)
        if self.network.activation == "linear":
            effective = [matrices[0]]
            for matrix in matrices[1:]:
                effective.append(matrix @ effective[-1])
            log_loss, slopes = log_loss_slopes(self.y * (effective[-1] @ self.x.T)[..., 0, :], self.loss)
            return log_loss, _linear_gradient(matrices, trained, effective, (self.y * slopes) @ self.x)
        pre = self.network.forward(matrices, self.x)
        log_loss, slopes = log_loss_slopes(self.y * pre[-1][..., 0, :], self.loss)
        delta = (self.y * slopes)[..., None, :]
        return log_loss, self.network.pull_back(matrices, trained, pre, self.x, delta)
