r"""What is added to the gradient: the penalties of the methods, each network with a strength of its own.

A strength $\alpha$ belongs to $f + \alpha(\|m\|^2+\|w\|^2)$, whose gradient is $2\alpha m$: PyTorch's
``weight_decay`` is $2\alpha$. An L1 penalty of strength $\lambda$ has the subgradient $\lambda\,\mathrm{sign}(x)$.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from repro.base import unknown
from repro.learn import Ensemble
from repro.papers.implicit_sparsification.factors import weight_tensors

__all__ = ["PENALTIES", "Penalty"]


def _like(strength: Tensor, parameter: Tensor) -> Tensor:
    return strength.to(parameter).view(-1, *[1] * (parameter.ndim - 1))


def _grad(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def none(tensors: Sequence[Tensor], strength: Tensor) -> None:
    """No penalty."""


def squares(tensors: Sequence[Tensor], strength: Tensor) -> None:
    r"""$\alpha\sum_i\|\theta_i\|^2$ over all trained tensors of a layer: $h(m,w)$ for the factors."""
    for tensor in tensors:
        if tensor.requires_grad:
            _grad(tensor).add_(2 * _like(strength, tensor) * tensor)


def l1_first(tensors: Sequence[Tensor], strength: Tensor) -> None:
    r"""$\lambda\|\theta_0\|_1$: L1 on plain weights, or on the mask $m$ of $m\odot w$."""
    _grad(tensors[0]).add_(_like(strength, tensors[0]) * tensors[0].sign())


def l1_second(tensors: Sequence[Tensor], strength: Tensor) -> None:
    r"""$\lambda\|s\|_1$ on the numbers behind a sigmoid mask, as the paper's first version has it."""
    _grad(tensors[1]).add_(_like(strength, tensors[1]) * tensors[1].sign())


def gates(tensors: Sequence[Tensor], strength: Tensor) -> None:
    r"""$\lambda\|\sigma(\tau s)\|_1$, the penalty of the original continuous sparsification."""
    _, s, temperature = tensors
    gate = torch.sigmoid(temperature * s)
    _grad(s).add_(_like(strength, s) * temperature * gate * (1 - gate))


PENALTIES: dict[str, Callable[[Sequence[Tensor], Tensor], None]] = {
    "none": none,
    "squares": squares,
    "l1 on the first": l1_first,
    "l1 on the second": l1_second,
    "gates": gates,
}


class Penalty:
    """The penalty of a method and the ordinary weight decay of the rest, as a ``before_step`` of ``learn.train``.

    Attributes:
        strengths: ``(S,)`` float64, one a network; may be changed between steps.
    """

    def __init__(
        self,
        ensemble: Ensemble,
        kind: str,
        strengths: Tensor,
        weight_decay: float,
        decayed: Sequence[int] = (),
    ) -> None:
        """Find the tensors that the penalty acts on.

        Args:
            ensemble: the networks, written in the method's form.
            kind: a name in ``PENALTIES``.
            strengths: ``(S,)``, none negative.
            weight_decay: PyTorch's, on everything that is not one of a weight's tensors, and on those ``decayed``.
            decayed: which of a weight's tensors decay too: ``(0,)`` for a plain network's weights.

        Raises:
            ValueError: an unknown kind; a strength that is negative or not finite, or not one a network.
        """
        if kind not in PENALTIES:
            raise ValueError(unknown("penalty", kind, PENALTIES))
        if strengths.shape != (len(ensemble),):
            raise ValueError(f"{len(ensemble)} networks need as many strengths; got {tuple(strengths.shape)}")
        if not bool((strengths.isfinite() & (strengths >= 0)).all()):
            raise ValueError(f"strengths must be numbers, 0 or above; got {strengths.tolist()}")
        self.strengths = strengths.to(torch.float64, copy=True)
        self._act = PENALTIES[kind]
        self._layers = list(weight_tensors(ensemble.parameters, ensemble.member(0)).values())
        inside = {id(tensor) for tensors in self._layers for tensor in tensors}
        self._decayed = [p for p in ensemble.parameters.values() if p.requires_grad and id(p) not in inside]
        self._decayed += [tensors[i] for tensors in self._layers for i in decayed]
        self._weight_decay = weight_decay

    def __call__(self, model: Any, step: int) -> None:
        """Add the gradients of penalty and weight decay."""
        for tensors in self._layers:
            self._act(tensors, self.strengths)
        for tensor in self._decayed:
            _grad(tensor).add_(tensor, alpha=self._weight_decay)
