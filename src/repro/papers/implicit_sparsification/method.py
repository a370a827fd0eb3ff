r"""PILoT, and the methods it is compared with: how weights are written, what is penalised, how strongly.

Write every weight of a network as a product, train it in any loop with a penalty on the factors, multiply them, prune.
Without the penalty a tenth of these weights gives seven or eight of ten answers:

>>> import torch
>>> from repro.learn import load, perceptron
>>> from repro.prune import magnitude, select
>>> digits = load("digits", seed=0)
>>> network = parametrize(perceptron((64, 32, 10)), Product)
>>> penalty = Penalty(network, squares, 2e-3)
>>> rule = Algorithm1(20, l1_norms(network))
>>> loss = torch.nn.CrossEntropyLoss()
>>> optimizer = torch.optim.SGD(network.parameters(), lr=0.2, momentum=0.9)
>>> for epoch in range(1, 21):
...     right = 0
...     for batch in torch.randperm(len(digits.y_train)).split(64):
...         outputs = network(digits.x_train[batch])
...         optimizer.zero_grad()
...         loss(outputs, digits.y_train[batch]).backward()
...         penalty()
...         optimizer.step()
...         right += (outputs.argmax(dim=1) == digits.y_train[batch]).sum()
...     accuracy = right / len(digits.y_train)
...     norms = l1_norms(network)
...     penalty.strengths = rule(penalty.strengths, epoch, accuracy, norms)
>>> select(magnitude(fold(network)), sparsity=0.9).apply(network)
>>> right = network(digits.x_test).argmax(dim=1) == digits.y_test
>>> bool(right.double().mean() > 0.9)
True

What follows works alike for a network and for an ``Ensemble``, in which every network has a strength of its own. A
strength $\alpha$ always is that of $f + \alpha(\|m\|^2+\|w\|^2)$: PyTorch's ``weight_decay`` is $2\alpha$, and since
the squares act on $x=m\odot w$ like an L1 penalty of $2\alpha$, L1 penalties have $\lambda=2\alpha$.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized, register_parametrization

from repro.base import one_of
from repro.learn import Ensemble, folding
from repro.papers.implicit_sparsification.settings import Array
from repro.prune import prunable

# --- how weights are written --------------------------------------------------------------------------------------


def pilot_factors(x: Array, beta: float = 1.0) -> tuple[Array, Array]:
    r"""Factors with $m\odot w = x$ and $m^2-w^2=\beta$; $\beta>0$ is unbalanced, so that signs can flip.

    $$m = \sqrt{\tfrac12\big(\beta+\sqrt{\beta^2+4x^2}\big)},\qquad w = x/m.$$

    Balanced factors, $\beta=0$, are spred's start, $m=\sqrt{|x|}$ and $w=\mathrm{sign}(x)\sqrt{|x|}$: gradient flow
    keeps every sign then, and a weight of exactly 0 never moves.

    Source: section 4 of the paper's first version; algorithm 1 of its second.
    """
    m = np.sqrt((beta + np.hypot(beta, 2 * x)) / 2)
    return m, x / m if beta else np.copysign(m, x)


class Product(nn.Module):
    r"""$x = m\odot w$; ``original0`` is the mask $m$, ``original1`` the weight $w$.

    Args:
        beta: $m_0^2-w_0^2$ of ``pilot_factors``.
        generator: draws both factors anew, He-normal, as spred's released code does: their product is another network.

    Raises:
        ValueError: a beta below 0.
    """

    stackable = True

    def __init__(self, beta: float = 1.0, generator: torch.Generator | None = None) -> None:
        super().__init__()
        if not 0 <= beta < float("inf"):
            raise ValueError(f"beta must be a number, 0 or above, got {beta!r}")
        self.beta, self.generator = beta, generator

    def forward(self, m: Tensor, w: Tensor) -> Tensor:
        """Return $m\\odot w$."""
        return m * w

    def right_inverse(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the start's factors of x."""
        if self.generator is not None:
            scale = (2.0 / x[0].numel()) ** 0.5
            m, w = (scale * torch.randn(x.shape, generator=self.generator, dtype=x.dtype) for _ in range(2))
        else:
            m, w = map(torch.from_numpy, pilot_factors(x.detach().double().cpu().numpy(), self.beta))
        return m.to(x), w.to(x)


class _SignedPower(nn.Module):
    r"""Powerpropagation, $x = \phi|\phi|^{p-1}$; ``original0`` is $\phi$, ``original1`` the exponent, not trained.

    The first version of the paper prints exponent 1, which is the identity; 2 is meant, we think. The gradient of
    exponents between 1 and 2 is not finite at 0.

    Source: Schwarz et al. (2021).
    """

    stackable = True
    frozen = ("original1",)

    def __init__(self, exponent: float) -> None:
        super().__init__()
        self.exponent = exponent

    def forward(self, phi: Tensor, exponent: Tensor) -> Tensor:
        """Return the signed power, same shape."""
        return phi * phi.abs().pow(exponent - 1)

    def right_inverse(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the base whose power is x, and the exponent."""
        return x.sign() * x.abs().pow(1 / self.exponent), _one_number(self.exponent, x)


class _SoftThreshold(nn.Module):
    r"""STR, $x = \mathrm{sign}(w)\max(0,|w|-\sigma(s))$ with one trained number $s$ a layer (``original1``), first -8.

    Source: Kusupati et al. (2020).
    """

    stackable = True

    def forward(self, w: Tensor, s: Tensor) -> Tensor:
        """Return the weights beyond the threshold, moved towards 0 by it."""
        return w.sign() * torch.relu(w.abs() - s.sigmoid())

    def right_inverse(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return weights that the threshold turns into x, and the threshold's number."""
        s = _one_number(-8.0, x)
        return x + x.sign() * s.sigmoid(), s


class _SigmoidMask(nn.Module):
    r"""Continuous sparsification, $x = \sigma(\tau s)\odot w$; ``original1`` is $s$, first 0, ``original2`` is $\tau$.

    The temperature $\tau$ is not trained. The paper's first version states the method without it, $\tau=1$ throughout;
    in the original it grows during training.

    Source: Savarese et al. (2020).
    """

    stackable = True
    frozen = ("original2",)

    def forward(self, w: Tensor, s: Tensor, temperature: Tensor) -> Tensor:
        """Return the softly masked weights."""
        return torch.sigmoid(temperature * s) * w

    def right_inverse(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return weights that the soft mask turns into x, the mask's numbers and the temperature 1."""
        return 2 * x, torch.zeros_like(x), _one_number(1.0, x)


def _one_number(value: float, like: Tensor) -> Tensor:
    """One number that broadcasts against a weight, also when both are stacked."""
    return torch.full((1,) * like.ndim, value, dtype=like.dtype, device=like.device)


def parametrize(network: nn.Module, form: Callable[[], nn.Module]) -> nn.Module:
    """Write the weight of every Linear and Conv2d layer, first and last included, in a form; in place.

    The network's function stays the same, except for factors drawn anew. Biases and normalization layers stay as they
    are.

    Args:
        network: any module without other parametrizations of its weights.
        form: makes one ``Product`` (or another parametrization of this module) a layer.

    Returns:
        The same network.

    Raises:
        ValueError: no such layer, a weight that is parametrised already, or one tensor in two layers, which would
            silently part. Nothing has been changed then.
    """
    layers = prunable(network)
    names: dict[int, str] = {}
    for prefix, module in network.named_modules():
        for own, parameter in module.named_parameters(recurse=False):
            other = names.setdefault(id(parameter), f"{prefix}.{own}")
            if other != f"{prefix}.{own}":
                raise ValueError(
                    f"{other!r} and '{prefix}.{own}' are one tensor; forms of weights cannot share it"
                )
    for name, layer in layers.items():
        if is_parametrized(layer, "weight"):
            raise ValueError(f"{name!r} is already parametrised; call fold(network) first")
    for layer in layers.values():
        parametrization = form()
        register_parametrization(layer, "weight", parametrization)
        for original in getattr(parametrization, "frozen", ()):
            getattr(layer.parametrizations["weight"], original).requires_grad_(False)  # type: ignore[index]
    return network


def fold(network: nn.Module) -> nn.Module:
    """Turn layers written in a form back into plain ones, in place, with bit by bit the same weights."""
    return folding.fold(network, Product, _SignedPower, _SoftThreshold, _SigmoidMask)


def weight_tensors(model: nn.Module | Ensemble) -> dict[str, list[Tensor]]:
    """The tensors behind each weight of a network or an ensemble: itself, or the originals of its form in their order.

    Names are those of a plain network's weights, ``"1.weight"``; the tensors are the model's own, not copies.
    """
    known = model.parameters if isinstance(model, Ensemble) else dict[str, Tensor](model.named_parameters())
    found = {}
    for name in prunable(_template(model)):
        home = f"{name.removesuffix('weight')}parametrizations.weight."
        found[name] = [tensor for own, tensor in known.items() if own == name or own.startswith(home)]
    return found


def effective_weights(model: nn.Module | Ensemble) -> dict[str, Tensor]:
    """The weights of the Linear and Conv2d layers, stacked for an ensemble, under the names of ``weight_tensors``."""
    layers = prunable(_template(model))
    found = {}
    for name, tensors in weight_tensors(model).items():
        if is_parametrized(layers[name], "weight"):
            form: Any = layers[name].parametrizations["weight"]  # type: ignore[index]
            found[name] = form[0].forward(*tensors)
        else:
            (found[name],) = tensors
    return found


def l1_norms(model: nn.Module | Ensemble) -> Tensor:
    r"""$\|x\|_1$ over all Linear and Conv2d weights, ``(S,)`` float64 on the CPU; S = 1 for a network."""
    norms = torch.zeros(len(model) if isinstance(model, Ensemble) else 1, dtype=torch.float64)
    for weight in effective_weights(model).values():
        norms += weight.detach().abs().reshape(len(norms), -1).sum(dim=1, dtype=torch.float64).cpu()
    return norms


def _template(model: nn.Module | Ensemble) -> nn.Module:
    return model.template if isinstance(model, Ensemble) else model


# --- what is penalised --------------------------------------------------------------------------------------------

_Act = Callable[[Sequence[Tensor], Tensor], Sequence[Tensor | None]]


def squares(tensors: Sequence[Tensor], alpha: Tensor) -> Sequence[Tensor | None]:
    r"""Gradients of $\alpha\sum_i\|\theta_i\|^2$ over a layer's tensors: of $\alpha(\|m\|^2+\|w\|^2)$ for factors."""
    return [2 * alpha * tensor for tensor in tensors]


def _l1_of_first(tensors: Sequence[Tensor], alpha: Tensor) -> Sequence[Tensor | None]:
    r"""Gradient of $2\alpha\|\theta_0\|_1$: L1 on plain weights, or on the mask $m$ of $m\odot w$."""
    return [2 * alpha * tensors[0].sign()]


def _l1_of_second(tensors: Sequence[Tensor], alpha: Tensor) -> Sequence[Tensor | None]:
    r"""Gradient of $2\alpha\|s\|_1$ on the numbers behind a sigmoid mask, as the paper's first version has it."""
    return [None, 2 * alpha * tensors[1].sign()]


def _gates(tensors: Sequence[Tensor], alpha: Tensor) -> Sequence[Tensor | None]:
    r"""Gradient of $\alpha\|\sigma(\tau s)\|_1$, the penalty of the original continuous sparsification."""
    _, s, temperature = tensors
    gate = torch.sigmoid(temperature * s)
    return [None, alpha * temperature * gate * (1 - gate)]


class Penalty:
    """The penalty of a method and the ordinary weight decay of the rest; a ``before_step`` of ``learn.train``.

    Attributes:
        strengths: ``(S,)`` float64, one a network; may be changed between steps.
    """

    def __init__(
        self,
        model: nn.Module | Ensemble,
        act: _Act | None,
        strengths: float | Tensor,
        weight_decay: float = 0.0,
        decays: bool = False,
    ) -> None:
        """Find the tensors that the penalty acts on.

        Args:
            model: a network, or an ensemble of S, written in the method's form.
            act: ``squares``, or another such function; None for no penalty.
            strengths: one for all or ``(S,)``, none negative.
            weight_decay: PyTorch's, on everything that is not behind a weight.
            decays: whether it acts on the first tensor behind each weight too, a plain network's weight.

        Raises:
            ValueError: strengths that are negative or not finite, or not one a network.
        """
        size = len(model) if isinstance(model, Ensemble) else 1
        given = torch.as_tensor(strengths, dtype=torch.float64)
        if given.shape not in ((), (size,)) or not bool((given.isfinite() & (given >= 0)).all()):
            raise ValueError(
                f"strengths are numbers, 0 or above, one for all or one for each of {size}; got {given.tolist()}"
            )
        self.strengths = given.expand(size).clone()
        self._act: _Act = act or (lambda tensors, alpha: ())
        self._layers = list(weight_tensors(model).values())
        inside = {id(tensor) for tensors in self._layers for tensor in tensors}
        everything = model.parameters.values() if isinstance(model, Ensemble) else model.parameters()
        self._decayed = [p for p in everything if p.requires_grad and id(p) not in inside]
        self._decayed += [tensors[0] for tensors in self._layers if decays]
        self._weight_decay = weight_decay

    @torch.no_grad()
    def __call__(self, model: Any = None, step: int = 0) -> None:
        """Add the gradients of penalty and weight decay to those that there are; the arguments say nothing."""
        for tensors in self._layers:
            alpha = self.strengths.to(tensors[0]).view(-1, *[1] * (tensors[0].ndim - 1))
            for tensor, gradient in zip(tensors, self._act(tensors, alpha), strict=False):
                if tensor.grad is not None and gradient is not None:
                    tensor.grad.add_(gradient)
        for tensor in self._decayed:
            if tensor.grad is not None:
                tensor.grad.add_(tensor, alpha=self._weight_decay)


# --- how strongly -------------------------------------------------------------------------------------------------


def _steps(n: int) -> Array:
    return np.arange(1.0, n + 1)


_SHAPES: dict[str, Callable[[int], Array]] = {
    "constant": np.ones,
    "harmonic": lambda n: 1 / _steps(n),
    "quadratic": lambda n: 1 / _steps(n) ** 2,
    "geometric": lambda n: 0.95 ** _steps(n),
    "half": lambda n: np.concatenate([np.ones(n // 2), 0.8 ** _steps(n - n // 2)]),
    "rising": lambda n: np.arange(n) / max(1, n - 1),
}


def schedule(name: str, n: int) -> Array:
    r"""Strength of each of n steps or epochs, in units of the amplitude $\alpha_0$.

    Args:
        name: ``"constant"``; of the paper's diagonal networks ``"harmonic"``, $1/k$, ``"quadratic"``, $1/k^2$, and
            ``"geometric"``, $0.95^k$ for k = 1 to n; ``"half"``: constant for the first half, then times 0.8 a step;
            ``"rising"``: from 0 to 1 in proportion. Schedules decay by step and not by time, so the same name means
            different doses at different step sizes.
        n: how many, at least 1.

    Returns:
        ``(n,)``.

    Raises:
        ValueError: an unknown name.

    Source: Jacobs and Burkholz, version 1, section 4 (diagonal linear networks).
    """
    return _SHAPES[one_of("schedule", name, _SHAPES)](n)


class Algorithm1:
    r"""Algorithm 1 of the paper: up by $\delta$ while it does no harm, down by $\delta$ otherwise.

    After epoch k the strength is multiplied by $\delta$ if the training accuracy did not fall, $\|x\|_1\ge K$ and
    $k\le T/2$, and divided by $\delta$ if not. Each network follows its own course. The comparison signs are a
    reconstruction, and the accuracy is that over the batches of the epoch: both are doubts of the reproduction. The
    paper's constants are not known: K is 0.03 of the L1 norm at the start, and $\delta^{T/2}=15$.

    Args:
        n_epochs: T.
        start_l1: $\|x_0\|_1$, ``(S,)``.
    """

    def __init__(self, n_epochs: int, start_l1: Tensor) -> None:
        self.n_epochs, self.accuracy = n_epochs, torch.zeros(())
        self.delta, self.least_l1 = 15 ** (1 / max(1, n_epochs // 2)), 0.03 * start_l1

    def __call__(self, alpha: Tensor, epoch: int, accuracy: Tensor, l1: Tensor) -> Tensor:
        """Strengths ``(S,)`` of the next epoch, from the strengths, training accuracies and L1 norms of this one."""
        up = (accuracy >= self.accuracy) & (l1 >= self.least_l1) & (epoch <= self.n_epochs / 2)
        self.accuracy = accuracy
        return torch.where(up, alpha * self.delta, alpha / self.delta)


# --- the methods that are compared --------------------------------------------------------------------------------

_GRID: tuple[float, ...] = (2e-3, 4e-3, 8e-3)
r"""Strengths $\alpha$ for the small networks.

Every method's grid has three values, a factor 2 apart, and ends at half the strength at which its training breaks
down; where it does was found on seeds that are not the chapter's. For most methods that is this grid."""


@dataclass(frozen=True)
class Method:
    r"""One way to train towards sparsity.

    Attributes:
        label: in pictures and tables.
        form: from the strength and a generator to the parametrization of a layer; None for plain weights.
        penalty: ``squares`` or another; None for none.
        schedule: a name for ``schedule``, by epoch, or ``"pilot"``: algorithm 1.
        fast: whether it trains with the learning rate of factors, twice the plain one.
        decays: whether ordinary weight decay acts on (the first of) a weight's tensors.
        grid: its strengths; where there is nothing to choose, a single 0.
        temperature: of a sigmoid mask at the end of training, reached exponentially from 1.
    """

    label: str
    form: Callable[[float, torch.Generator], nn.Module] | None = None
    penalty: _Act | None = None
    schedule: str = "constant"
    fast: bool = False
    decays: bool = False
    grid: tuple[float, ...] = _GRID
    temperature: float = 1.0


def _product(beta: float = 1.0) -> Callable[[float, torch.Generator], nn.Module]:
    return lambda strength, generator: Product(beta)


_X = Method("x", decays=True, grid=(0.0,))
_MW = Method("m ⊙ w", _product(), fast=True, grid=(0.0,))
_PILOT = Method("PILoT", _product(), squares, "half", fast=True)
_SPRED = Method("spred", _product(beta=0.0), squares, fast=True)
_SIGMOID = Method("sigmoid mask, as stated", lambda strength, generator: _SigmoidMask(), decays=True)

METHODS: dict[str, Method] = {
    "x": _X,
    "x_fast": replace(_X, label="x, rate of the factors", fast=True),
    "mw": _MW,
    "mw_slow": replace(_MW, label="m ⊙ w, plain rate", fast=False),
    "pilot": _PILOT,
    "pilot_constant": replace(_PILOT, label="PILoT, constant", schedule="constant"),
    "pilot_algorithm": replace(_PILOT, label="PILoT, algorithm 1", schedule="pilot"),
    "l1_x": Method("L1 on x", None, _l1_of_first, "half", decays=True),
    "l1_m": replace(_PILOT, label="L1 on m", penalty=_l1_of_first),
    "balanced": replace(_SPRED, label="balanced start", schedule="half"),
    "beta_0.1": replace(_PILOT, label="β = 0.1", form=_product(beta=0.1)),
    "beta_0.01": replace(_PILOT, label="β = 0.01", form=_product(beta=0.01)),
    "spred": _SPRED,
    "spred_independent": Method(
        "spred, released start",
        lambda strength, generator: Product(generator=generator),
        squares,
        fast=True,
        grid=(1.25e-4, 2.5e-4, 5e-4),
    ),
    # its strength is half the weight decay, on weights and thresholds
    "str": Method("STR", lambda strength, generator: _SoftThreshold(), squares, grid=(5e-3, 1e-2, 2e-2)),
    # its strength is the exponent
    "powerprop": Method(
        "Powerpropagation", lambda p, generator: _SignedPower(p), decays=True, grid=(2.0, 3.0, 4.0)
    ),
    "continuous": replace(_SIGMOID, penalty=_l1_of_second, schedule="rising"),
    "continuous_original": replace(
        _SIGMOID, label="continuous sparsification", penalty=_gates, temperature=200.0
    ),
}
"""The methods by name, as the chapter, its tables and its pictures have them."""
