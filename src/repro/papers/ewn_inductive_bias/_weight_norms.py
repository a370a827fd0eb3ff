"""The two weight normalizations as modules for ``torch.nn.utils.parametrize``."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["CLASSES", "ExponentialWeightNorm", "StandardWeightNorm", "norm", "refuse_zero_rows", "unit"]


def norm(v: Tensor, n_dims: int) -> Tensor:
    return torch.linalg.vector_norm(v, dim=tuple(range(-n_dims, 0)), keepdim=True)


def unit(v: Tensor, n_dims: int) -> Tensor:
    return v / norm(v, n_dims)


class StandardWeightNorm(nn.Module):
    r"""Standard weight normalization, $w_u = \gamma_u\, v_u/\|v_u\|$, for ``torch.nn.utils.parametrize``.

    The originals are ``original0`` = $\gamma$, shape ``(out, 1, ...)``, and ``original1`` = $v$, shape of the
    weight. $\gamma_u$ may cross zero in training: the neuron's length is $|\gamma_u|$ and its direction
    $\operatorname{sign}(\gamma_u)\,v_u/\|v_u\|$ (see ``directions``).

    Not to be confused with ``torch.nn.utils.parametrizations.weight_norm``, whose $v$ does not start at unit
    length.

    Args:
        n_dims: dimensions of one neuron's weights: 1 for a linear layer, 3 for a two-dimensional convolution.
            All dimensions in front are the neurons, so that a stack of layers ``(members, out, ...)`` works
            too.

    Source: Morwani and Ramaswamy, arXiv:2010.12909; Salimans and Kingma, arXiv:1602.07868.
    Explained in chapter ``ewn-inductive-bias``.
    """

    method = "swn"
    stackable = True

    def __init__(self, n_dims: int = 1) -> None:
        super().__init__()
        self.n_dims = n_dims

    @staticmethod
    def scale(magnitude: Tensor) -> Tensor:
        """The signed length that the magnitude parameter stands for: itself."""
        return magnitude

    @staticmethod
    def magnitude(length: Tensor) -> Tensor:
        """The magnitude parameter of a positive length: itself."""
        return length

    def forward(self, magnitude: Tensor, v: Tensor) -> Tensor:
        """Weight of shape ``(out, ...)`` from magnitudes ``(out, 1, ...)`` and directions ``(out, ...)``."""
        return self.scale(magnitude) / norm(v, self.n_dims) * v

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Magnitudes and unit directions of a weight ``(out, ...)``; ValueError for a neuron of zeros."""
        refuse_zero_rows(weight, "the weight")
        length = norm(weight, self.n_dims)
        return self.magnitude(length), weight / length


class ExponentialWeightNorm(StandardWeightNorm):
    r"""Exponential weight normalization, $w_u = e^{\alpha_u} v_u/\|v_u\|$, as ``StandardWeightNorm`` is used.

    The originals are ``original0`` = $\alpha$, shape ``(out, 1, ...)``, and ``original1`` = $v$, shape of the
    weight. The length $e^{\alpha_u}$ is always positive. With $\|v_u\|=1$ the gradient flow of the weights is
    that of a plain network in which neuron $u$ has the learning rate $\|w_u\|^2$ (E1).

    Source: Morwani and Ramaswamy, arXiv:2010.12909. Explained in chapter ``ewn-inductive-bias``.
    """

    method = "ewn"

    @staticmethod
    def scale(magnitude: Tensor) -> Tensor:
        """The length that the magnitude parameter stands for: its exponential."""
        return magnitude.exp()

    @staticmethod
    def magnitude(length: Tensor) -> Tensor:
        """The magnitude parameter of a positive length: its natural logarithm."""
        return length.log()


CLASSES: dict[str, type[StandardWeightNorm]] = {"swn": StandardWeightNorm, "ewn": ExponentialWeightNorm}


def refuse_zero_rows(weight: Tensor, what: str) -> None:
    zero = (weight.detach().flatten(1) == 0).all(dim=1)
    if zero.any():
        row = int(zero.nonzero()[0])
        raise ValueError(
            f"{what} has {int(zero.sum())} neuron(s) whose incoming weights are all zero (first: {row}): "
            "a zero vector has no direction; prune them or draw the weights again"
        )
