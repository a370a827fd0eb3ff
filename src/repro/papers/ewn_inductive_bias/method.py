r"""Standard and exponential weight normalization of any module's linear and convolutional layers, neuron by neuron.

A neuron $u$ is a row of a linear layer or a filter of a convolution (of one, two or three dimensions). Its incoming
weights are written as a length times a direction,

$$\text{SWN: } w_u = \gamma_u\,\frac{v_u}{\|v_u\|},\qquad \text{EWN: } w_u =
e^{\alpha_u}\,\frac{v_u}{\|v_u\|},$$

with $\|v_u\| = 1$ at the start, which the short flow equations need: PyTorch's own ``weight_norm`` starts from
$v_u = w_u$ and follows another flow. Biases stay ordinary parameters.

Normalize, train in any loop, fold back, prune the shortest neurons:

>>> import torch
>>> from repro.learn import load, perceptron, train
>>> from repro.prune import select_units, unit_mask, unit_norms
>>> network = normalize_weights(perceptron((64, 128, 10)), "ewn", ["1"])
>>> history = train(network, load("digits", seed=0),
...                 optimizer=torch.optim.SGD, n_epochs=1, seed=0)
>>> lengths = unit_norms(fold(network))["1"]
>>> units = select_units(lengths, sparsity=0.5)
>>> unit_mask(network, "1", units).apply(network)
>>> int((unit_norms(network)["1"] > 0).sum())
64
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize

from repro.base import one_of
from repro.learn import networks

__all__ = ["ExponentialWeightNorm", "StandardWeightNorm", "fold", "normalize_weights"]

_METHODS: tuple[str, ...] = ("plain", "swn", "ewn")
"""The three parametrizations that the paper compares; ``plain`` is its "Unnorm"."""


class _WeightNorm(nn.Module):
    """What the two normalizations share: the norm of each neuron's weights.

    Args:
        n_dims: dimensions of one neuron's weights: 1 for a linear layer, 3 for a two-dimensional convolution. All
            dimensions in front are the neurons, so that a stack of layers ``(members, out, ...)`` works too.
    """

    stackable = True

    def __init__(self, n_dims: int = 1) -> None:
        super().__init__()
        self.n_dims = n_dims

    def norm(self, v: Tensor) -> Tensor:
        r"""$\|v_u\|$, shape ``(out, 1, ...)``."""
        return torch.linalg.vector_norm(v, dim=tuple(range(-self.n_dims, 0)), keepdim=True)

    def length(self, weight: Tensor) -> Tensor:
        r"""$\|w_u\|$, also where its square would underflow; ValueError for a neuron without a direction."""
        largest = weight.abs().amax(dim=tuple(range(-self.n_dims, 0)), keepdim=True)
        scale = largest.where(largest > 0, 1.0)
        length = scale * self.norm(weight / scale)
        if (bad := ~((length > 0) & length.isfinite())).any():
            row = int(bad.flatten().nonzero()[0])
            told = f"neuron {row} of a weight of shape {tuple(weight.shape)} has length {length.flatten()[row]:g}"
            raise ValueError(f"{told}, hence no direction: prune it, or draw the weights again")
        return length


class StandardWeightNorm(_WeightNorm):
    r"""Standard weight normalization, $w_u = \gamma_u\, v_u/\|v_u\|$, for ``torch.nn.utils.parametrize``.

    The originals are ``original0`` = $\gamma$, shape ``(out, 1, ...)``, and ``original1`` = $v$, shape of the
    weight. $\gamma_u$ may cross zero in training: the neuron's length is $|\gamma_u|$.

    Not to be confused with ``torch.nn.utils.parametrizations.weight_norm``, whose $v$ does not start at unit
    length.

    Source: Salimans and Kingma, arXiv:1602.07868; Morwani and Ramaswamy, arXiv:2010.12909.
    """

    def forward(self, gamma: Tensor, v: Tensor) -> Tensor:
        """Weights ``(out, ...)`` of lengths ``(out, 1, ...)`` and directions ``(out, ...)``."""
        return gamma / self.norm(v) * v

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Lengths and unit directions of weights."""
        length = self.length(weight)
        return length, weight / length


class ExponentialWeightNorm(_WeightNorm):
    r"""Exponential weight normalization, $w_u = e^{\alpha_u} v_u/\|v_u\|$.

    For ``torch.nn.utils.parametrize``: the originals are ``original0`` = $\alpha$,
    shape ``(out, 1, ...)``, and ``original1`` = $v$, shape of the weight. With
    $\|v_u\|=1$ the gradient flow of the weights is that of a plain network in
    which neuron $u$ has the learning rate $\|w_u\|^2$.

    Source: Morwani and Ramaswamy, arXiv:2010.12909.
    """

    def forward(self, alpha: Tensor, v: Tensor) -> Tensor:
        """Weights from log-lengths ``(out, 1, ...)`` and directions ``(out, ...)``."""
        return alpha.exp() / self.norm(v) * v

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Log-lengths and unit directions of weights."""
        length = self.length(weight)
        return length.log(), weight / length


_KINDS: dict[str, type[_WeightNorm]] = {"swn": StandardWeightNorm, "ewn": ExponentialWeightNorm}
_LAYERS = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d
_TRANSPOSED = nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d


def normalize_weights(
    module: nn.Module, method: str = "ewn", layers: Sequence[str] | None = None
) -> nn.Module:
    """Register a weight normalization on a module's layers, in place; the network's function does not change.

    The plain network's ``state_dict`` can still be loaded: its weights are split as they come in.

    Args:
        module: any module.
        method: ``"plain"`` (nothing is registered), ``"swn"`` or ``"ewn"``.
        layers: names as in ``module.named_modules()``; ``None``: every linear layer and every convolution.

    Returns:
        The same module. Its weights equal the old ones to rounding (``exp(log(x))`` is not ``x`` bit by bit).

    Raises:
        ValueError: unknown method or layer; a transposed convolution, whose neurons are not the rows of its weight; a
            weight that has no values yet (a lazy layer, the meta device), is shared with another layer, or is
            parametrized already; a neuron whose weights are all zero. Nothing has been changed then.
    """
    one_of("method", method, _METHODS)
    known = {n: layer for n, layer in module.named_modules() if isinstance(layer, _LAYERS | _TRANSPOSED)}
    names = [one_of("linear or convolutional layer", n, known) for n in (known if layers is None else layers)]
    if not names:
        raise ValueError(f"there is no layer to normalize: {type(module).__name__} has none with neurons")
    norms: dict[str, _WeightNorm] = {}
    for name in names if method != "plain" else ():
        if trouble := _trouble(known[name], module):
            raise ValueError(f"layer {name!r} {trouble}")
        norms[name] = _KINDS[method](known[name].weight.ndim - 1)
        norms[name].length(known[name].weight.detach())
    for name, norm in norms.items():
        parametrize.register_parametrization(known[name], "weight", norm)
        known[name].register_load_state_dict_pre_hook(_split_plain_weight)
    return module


def _trouble(layer: nn.Module, module: nn.Module) -> str:
    """Why this layer of a module cannot be normalized, and what to do; empty if it can."""
    if isinstance(layer, _TRANSPOSED):
        return f"is a {type(layer).__name__}, whose neurons are not the rows of its weight: name other layers"
    if parametrize.is_parametrized(layer, "weight"):
        kind = layer.parametrizations["weight"][0]  # type: ignore[index]
        if isinstance(kind, _WeightNorm):
            return "is already parametrized; call fold(module) first"
        remove = "torch.nn.utils.parametrize.remove_parametrizations(layer, 'weight')"
        return f"is already parametrized by {type(kind).__name__}; call {remove} first"
    weight = layer.weight
    if not isinstance(weight, nn.Parameter):
        return "has a weight that a hook computes; call torch.nn.utils.remove_weight_norm(layer) first"
    if is_lazy(weight) or weight.is_meta:
        return "has no weights yet (it is lazy, or on the meta device); give it some first"
    for name, other in module.named_modules():
        shared = [n for n, p in other._parameters.items() if p is weight and other is not layer]
        if shared:
            return f"shares its weight with {name}.{shared[0]}; normalization would untie them"
    return ""


def _split_plain_weight(layer: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Before loading: the weight of a plain layer becomes the originals of a normalized one."""
    weight = state.get(f"{prefix}weight")
    if weight is not None and parametrize.is_parametrized(layer, "weight"):
        norm: Any = layer.parametrizations["weight"][0]  # type: ignore[index]
        for number, original in enumerate(norm.right_inverse(state.pop(f"{prefix}weight"))):
            state[f"{prefix}parametrizations.weight.original{number}"] = original


def fold(module: nn.Module) -> nn.Module:
    """Turn normalized layers back into plain ones, in place, with bit by bit the same weights.

    Parametrizations that are not this module's are left alone. Returns the same module.
    """
    return networks.fold(module, StandardWeightNorm, ExponentialWeightNorm)
