r"""Three ways to write the weights entering a node: as they are, by length and direction, by log-length.

$$\text{plain: } w_u;\qquad \text{swn: } w_u = \gamma_u\,v_u/\|v_u\|;\qquad
\text{ewn: } w_u = e^{\alpha_u}\,v_u/\|v_u\|.$$

A node's weights are a row of its layer's matrix. Each parametrisation maps parameters to weights, pulls a
weight gradient back to its parameters by the chain rule, and says which matrix $M(w)$ the gradient is multiplied
by when gradient flow on the parameters is watched in weight space.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from repro.base import unknown

__all__ = [
    "EWN",
    "PARAMETRIZATIONS",
    "PLAIN",
    "SWN",
    "Parametrization",
    "parametrization",
    "row_dot",
    "row_norm",
]

Array = NDArray[np.float64]


def row_dot(a: Array, b: Array) -> Array:
    """Inner products of corresponding rows, shape ``(..., n_nodes)``."""
    return np.vecdot(a, b)


def row_norm(a: Array) -> Array:
    """Euclidean lengths of the rows, shape ``(..., n_nodes)``."""
    return np.sqrt(row_dot(a, a))


class Parametrization(ABC):
    """A map from parameters to weights, layer by layer; parameters are a flat list of arrays."""

    name: str

    @abstractmethod
    def parameters(self, weights: Sequence[Array], radius: float = 1.0) -> list[Array]:
        r"""Parameters that give these weights, with $\|v_u\|$ = ``radius`` where there is a $v$."""

    @abstractmethod
    def weights(self, parameters: Sequence[Array]) -> list[Array]:
        """Weights given by the parameters, one matrix ``(..., n_out, n_in)`` a layer."""

    @abstractmethod
    def pull_back(self, parameters: Sequence[Array], gradient: Sequence[Array]) -> list[Array]:
        """Gradient with respect to the parameters, from the one with respect to the weights, by the chain rule."""

    @abstractmethod
    def precondition(
        self, weights: Sequence[Array], gradient: Sequence[Array], radius: float | Sequence[Array] = 1.0
    ) -> list[Array]:
        r"""$M(w)\,g$, the direction in which parameter flow moves the weights, up to sign.

        $\dot\theta = -\eta\nabla_\theta\mathcal L$ on the parameters gives $\dot w = -\eta M(w) g$.

        Args:
            weights: matrices ``(..., n_out, n_in)``.
            gradient: matrices of the same shapes.
            radius: $\|v_u\|$, constant along the flow: one number, or one array ``(..., n_out)`` a layer.

        Returns:
            Matrices of the same shapes.
        """


class _Plain(Parametrization):
    """The weights are the parameters (the paper's Unnorm): $M = I$."""

    name = "plain"

    def parameters(self, weights: Sequence[Array], radius: float = 1.0) -> list[Array]:
        return [np.array(w, dtype=np.float64) for w in weights]

    def weights(self, parameters: Sequence[Array]) -> list[Array]:
        return list(parameters)

    def pull_back(self, parameters: Sequence[Array], gradient: Sequence[Array]) -> list[Array]:
        return list(gradient)

    def precondition(
        self, weights: Sequence[Array], gradient: Sequence[Array], radius: float | Sequence[Array] = 1.0
    ) -> list[Array]:
        return list(gradient)


class _LengthDirection(Parametrization):
    r"""$w_u = \lambda_u\,v_u/\|v_u\|$, the length through a scale; parameters are scale, v, scale, v, ..."""

    @abstractmethod
    def _length(self, scale: Array) -> Array:
        """Length from its scale."""

    @abstractmethod
    def _scale(self, length: Array) -> Array:
        """Scale from a positive length."""

    @abstractmethod
    def _length_slope(self, length: Array) -> float | Array:
        """Derivative of the length with respect to its scale, as a function of the length."""

    @abstractmethod
    def _length_slope_squared(self, squared: Array) -> float | Array:
        """Square of that derivative, as a function of the squared length."""

    def parameters(self, weights: Sequence[Array], radius: float = 1.0) -> list[Array]:
        if radius <= 0:
            raise ValueError(f"radius, the length of v, must be positive, got {radius}")
        result = []
        for layer, w in enumerate(weights):
            length = row_norm(w)
            if not (length > 0).all():
                raise ValueError(
                    f"a node of layer {layer} has length 0, hence no direction: "
                    f"{self.name} needs nonzero weights"
                )
            result += [self._scale(length), radius * w / length[..., None]]
        return result

    def weights(self, parameters: Sequence[Array]) -> list[Array]:
        pairs = zip(parameters[::2], parameters[1::2], strict=True)
        return [(self._length(scale) / row_norm(v))[..., None] * v for scale, v in pairs]

    def pull_back(self, parameters: Sequence[Array], gradient: Sequence[Array]) -> list[Array]:
        result = []
        for scale, v, g in zip(parameters[::2], parameters[1::2], gradient, strict=True):
            norm, length = row_norm(v), self._length(scale)
            along = row_dot(v, g)
            tangent = g - (along / norm**2)[..., None] * v
            result += [self._length_slope(length) * along / norm, (length / norm)[..., None] * tangent]
        return result

    def precondition(
        self, weights: Sequence[Array], gradient: Sequence[Array], radius: float | Sequence[Array] = 1.0
    ) -> list[Array]:
        result = []
        for layer, (w, g) in enumerate(zip(weights, gradient, strict=True)):
            r = radius if isinstance(radius, float | int) else radius[layer]
            squared = row_dot(w, w)
            # The length moves by (dλ/dscale)², the direction by λ/r times itself, squared.
            tangential = squared / r**2
            mixed = (self._length_slope_squared(squared) - tangential) * row_dot(w, g) / squared
            result.append(tangential[..., None] * g + mixed[..., None] * w)
        return result


class _Standard(_LengthDirection):
    r"""Standard weight normalisation, $\lambda = \gamma$; $\gamma$ may turn negative.

    Source: Salimans & Kingma 2016.
    """

    name = "swn"

    def _length(self, scale: Array) -> Array:
        return scale

    def _scale(self, length: Array) -> Array:
        return length

    def _length_slope(self, length: Array) -> float | Array:
        return 1.0

    def _length_slope_squared(self, squared: Array) -> float | Array:
        return 1.0


class _Exponential(_LengthDirection):
    r"""Exponential weight normalisation, $\lambda = e^\alpha$.

    With $\|v\| = 1$ simply $M g = \|w_u\|^2 g_u$.
    """

    name = "ewn"

    def _length(self, scale: Array) -> Array:
        return np.exp(scale)

    def _scale(self, length: Array) -> Array:
        return np.log(length)

    def _length_slope(self, length: Array) -> float | Array:
        return length

    def _length_slope_squared(self, squared: Array) -> float | Array:
        return squared

    def precondition(
        self, weights: Sequence[Array], gradient: Sequence[Array], radius: float | Sequence[Array] = 1.0
    ) -> list[Array]:
        if isinstance(radius, float | int) and radius == 1:
            return [row_dot(w, w)[..., None] * g for w, g in zip(weights, gradient, strict=True)]
        return super().precondition(weights, gradient, radius)


PLAIN = _Plain()
SWN = _Standard()
EWN = _Exponential()
PARAMETRIZATIONS: dict[str, Parametrization] = {p.name: p for p in (PLAIN, SWN, EWN)}


def parametrization(name: str) -> Parametrization:
    """The parametrisation of that name: ``"plain"``, ``"swn"`` or ``"ewn"``."""
    if name not in PARAMETRIZATIONS:
        raise ValueError(unknown("parametrisation", name, PARAMETRIZATIONS))
    return PARAMETRIZATIONS[name]
