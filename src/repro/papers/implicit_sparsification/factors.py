r"""Weights written as something else: the product of a mask and a weight, and the forms of the other methods.

PILoT and spred train $x = m\odot w$; they differ in where they start, which $m_0^2-w_0^2$ decides. All forms are
parametrizations in the sense of ``torch.nn.utils.parametrize``, act elementwise, and keep the network's function at
the start, except for independent factors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from repro.base import unknown
from repro.learn import folding
from repro.prune.scores import prunable

__all__ = [
    "FORMS",
    "Product",
    "SigmoidMask",
    "SignedPower",
    "SoftThreshold",
    "balanced_factors",
    "effective_weights",
    "fold",
    "parametrize_weights",
    "pilot_factors",
    "weight_tensors",
]


def pilot_factors(x: Tensor, beta: float = 1.0) -> tuple[Tensor, Tensor]:
    r"""Factors with $m\odot w = x$ and $m^2-w^2=\beta>0$, so that signs can flip.

    $$m = \sqrt{\tfrac12\big(\beta+\sqrt{\beta^2+4x^2}\big)},\qquad w = x/m.$$

    Args:
        x: weights, any shape.
        beta: above 0.

    Raises:
        ValueError: a beta that is not above 0: the balanced start is ``balanced_factors``.

    Source: section 4 of the paper's first version; algorithm 1 of its second.
    """
    if not 0 < beta < float("inf"):
        raise ValueError(
            f"beta must be a number above 0, got {beta!r}; at 0 the factors are balanced and no sign can flip: "
            "ask for the start 'balanced'"
        )
    wide = x.double()
    m = ((beta + torch.hypot(torch.full_like(wide, beta), 2 * wide)) / 2).sqrt()
    return m.to(x.dtype), (wide / m).to(x.dtype)


def balanced_factors(x: Tensor) -> tuple[Tensor, Tensor]:
    r"""Factors of equal size, $m=\sqrt{|x|}$ and $w=\mathrm{sign}(x)\sqrt{|x|}$: the paper's spred start.

    Gradient flow keeps every sign then. A weight of exactly 0 would never move.
    """
    root = x.abs().sqrt()
    return root, x.sign() * root


def _independent_factors(x: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """Both factors He-normal, as in spred's released code; their product is not x."""
    scale = (2.0 / x[0].numel()) ** 0.5
    m, w = (scale * torch.randn(x.shape, generator=generator, dtype=x.dtype) for _ in range(2))
    return m.to(x.device), w.to(x.device)


class Product(nn.Module):
    r"""$x = m\odot w$; ``original0`` is the mask $m$, ``original1`` the weight $w$.

    Args:
        start: ``"pilot"`` ($m_0^2-w_0^2=\beta$), ``"balanced"`` ($m_0^2=w_0^2$) or ``"independent"``
            (both factors drawn anew, He-normal).
        beta: of the start ``"pilot"``.
        generator: of the start ``"independent"``.

    Raises:
        ValueError: an unknown start, or a beta that is not above 0.
    """

    stackable = True
    STARTS = ("pilot", "balanced", "independent")

    def __init__(
        self, start: str = "pilot", beta: float = 1.0, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        if start not in self.STARTS:
            raise ValueError(unknown("start", start, self.STARTS))
        if start == "pilot":
            pilot_factors(torch.zeros(1), beta)
        self.start, self.beta, self.generator = start, beta, generator

    def forward(self, m: Tensor, w: Tensor) -> Tensor:
        """Return $m\\odot w$."""
        return m * w

    def right_inverse(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the start's factors of x."""
        if self.start == "pilot":
            return pilot_factors(x, self.beta)
        if self.start == "balanced":
            return balanced_factors(x)
        return _independent_factors(x, self.generator)


class SignedPower(nn.Module):
    r"""Powerpropagation, $x = \phi|\phi|^{p-1}$; ``original0`` is $\phi$, ``original1`` the exponent, not trained.

    The first version of the paper prints exponent 1, which is the identity; 2 is meant, we think.

    Raises:
        ValueError: an exponent below 2, whose gradient is not finite at 0.

    Source: Schwarz et al. (2021).
    """

    stackable = True
    frozen = ("original1",)

    def __init__(self, exponent: float = 2.0) -> None:
        super().__init__()
        if not 2 <= exponent < float("inf"):
            raise ValueError(f"the exponent must be a number, 2 or above; got {exponent!r}")
        self.exponent = exponent

    def forward(self, phi: Tensor, exponent: Tensor) -> Tensor:
        """Return the signed power, same shape."""
        return phi * phi.abs().pow(exponent - 1)

    def right_inverse(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the base whose power is x, and the exponent."""
        return x.sign() * x.abs().pow(1 / self.exponent), _one_number(self.exponent, x)


class SoftThreshold(nn.Module):
    r"""STR, $x = \mathrm{sign}(w)\max(0,|w|-\sigma(s))$ with one trained number $s$ a layer (``original1``).

    Args:
        start: $s$ at the start.

    Source: Kusupati et al. (2020).
    """

    stackable = True

    def __init__(self, start: float = -8.0) -> None:
        super().__init__()
        self.start = start

    def forward(self, w: Tensor, s: Tensor) -> Tensor:
        """Return the weights beyond the threshold, moved towards 0 by it."""
        return w.sign() * torch.relu(w.abs() - s.sigmoid())

    def right_inverse(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return weights that the threshold turns into x, and the threshold's number."""
        s = _one_number(self.start, x)
        return x + x.sign() * s.sigmoid(), s


class SigmoidMask(nn.Module):
    r"""Continuous sparsification, $x = \sigma(\tau s)\odot w$; ``original1`` is $s$, ``original2`` $\tau$, not trained.

    The paper's first version states it without temperature, $\tau=1$ throughout; in the original method $\tau$
    grows during training.

    Args:
        start: $s$ at the start.

    Source: Savarese et al. (2020).
    """

    stackable = True
    frozen = ("original2",)

    def __init__(self, start: float = 0.0) -> None:
        super().__init__()
        self.start = start

    def forward(self, w: Tensor, s: Tensor, temperature: Tensor) -> Tensor:
        """Return the softly masked weights."""
        return torch.sigmoid(temperature * s) * w

    def right_inverse(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return weights that the soft mask turns into x, the mask's numbers and the temperature 1."""
        s = torch.full_like(x, self.start)
        return x / s.sigmoid(), s, _one_number(1.0, x)


FORMS: dict[str, type[nn.Module]] = {
    "product": Product,
    "signed_power": SignedPower,
    "soft_threshold": SoftThreshold,
    "sigmoid_mask": SigmoidMask,
}


def _one_number(value: float, like: Tensor) -> Tensor:
    """One number that broadcasts against a weight, also when both are stacked."""
    return torch.full((1,) * like.ndim, value, dtype=like.dtype)


def parametrize_weights(network: nn.Module, form: Callable[[], nn.Module] | None) -> nn.Module:
    """Write the weight of every Linear and Conv2d layer, first and last included, in a form; in place.

    Biases and normalization layers stay as they are.

    Args:
        network: any module without other parametrizations of its weights.
        form: makes one parametrization of ``FORMS`` a layer; None leaves the network plain.

    Returns:
        The same network.

    Raises:
        ValueError: no such layer, a weight that is parametrised already, or one tensor in two layers. Nothing has
            been changed then.

    Example:
        >>> parametrize_weights(network, lambda: Product("pilot", beta=1.0))
    """
    layers = prunable(network)
    if form is not None:
        for name, layer in layers.items():
            if parametrize.is_parametrized(layer, "weight"):
                raise ValueError(f"{name!r} is already parametrised; call fold(network) first")
        _check_untied(network)
        for layer in layers.values():
            parametrization = form()
            parametrize.register_parametrization(layer, "weight", parametrization)
            for original in getattr(parametrization, "frozen", ()):
                getattr(layer.parametrizations["weight"], original).requires_grad_(False)  # type: ignore[index]
    return network


def _check_untied(network: nn.Module) -> None:
    """A layer in a form of its own would silently part from the one that it shares its weight with."""
    names: dict[int, str] = {}
    for prefix, module in network.named_modules():
        for own, parameter in module.named_parameters(recurse=False):
            name = f"{prefix}.{own}"
            if (other := names.setdefault(id(parameter), name)) != name:
                raise ValueError(
                    f"{other!r} and {name!r} are one tensor, which forms of weights cannot share"
                )


def fold(network: nn.Module) -> nn.Module:
    """Turn the layers of all ``FORMS`` back into plain ones, in place, with bit by bit the same weights."""
    return folding.fold(network, *FORMS.values())


def weight_tensors(parameters: Mapping[str, Tensor], network: nn.Module) -> dict[str, list[Tensor]]:
    """The tensors behind each weight: the weight itself, or the originals of its form in their order.

    Arguments as for ``effective_weights``; the tensors are those of ``parameters``, not copies.
    """
    found = {}
    for name, layer in prunable(network).items():
        if parametrize.is_parametrized(layer, "weight"):
            chain: Any = layer.parametrizations["weight"]  # type: ignore[index]
            home = f"{name.removesuffix('weight')}parametrizations.weight."
            found[name] = [parameters[home + own] for own, _ in chain.named_parameters()]
        else:
            found[name] = [parameters[name]]
    return found


def effective_weights(parameters: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Weights that parameters stand for.

    Args:
        parameters: name to tensor, of one network or stacked as an ``Ensemble`` has them.
        network: one of the networks, which says how its layers are written.

    Returns:
        The weights of the Linear and Conv2d layers by the names that a plain network gives them, ``"1.weight"``.
    """
    layers = prunable(network)
    return {
        name: _apply(layers[name], tensors) for name, tensors in weight_tensors(parameters, network).items()
    }


def _apply(layer: nn.Module, tensors: list[Tensor]) -> Tensor:
    if not parametrize.is_parametrized(layer, "weight"):
        return tensors[0]
    chain: Any = layer.parametrizations["weight"]  # type: ignore[index]
    weight: Tensor = chain[0].forward(*tensors)
    return weight
