r"""PILoT, and the methods it is compared with: how weights are written, what is penalised, how strongly.

PILoT on a network and data of one's own takes four lines, marked below; loop, loss and optimizer are the user's.
Without the decay a tenth of these weights gives seven or eight of ten answers:

>>> import torch
>>> from repro.learn import load, perceptron
>>> digits = load("digits", seed=0)
>>> network = perceptron((64, 32, 10))
>>> pilot = Pilot(network, alpha=0.02, n_epochs=20)  # 1: before the optimizer
>>> loss = torch.nn.CrossEntropyLoss()
>>> optimizer = torch.optim.SGD(network.parameters(), lr=0.2, momentum=0.9)
>>> for epoch in range(20):
...     right = 0
...     for batch in torch.randperm(len(digits.y_train)).split(64):
...         outputs = network(digits.x_train[batch])
...         optimizer.zero_grad()
...         loss(outputs, digits.y_train[batch]).backward()
...         optimizer.step()
...         pilot.decay(optimizer)  # 2: after each step
...         right += int((outputs.argmax(dim=1) == digits.y_train[batch]).sum())
...     pilot.end_epoch(right / len(digits.y_train))  # 3: training accuracy
>>> network = pilot.finish(sparsity=0.9)  # 4: plain weights again, the smallest pruned
>>> right = network(digits.x_test).argmax(dim=1) == digits.y_test
>>> bool(right.double().mean() > 0.9)
True

What follows works alike for a network and for an ``Ensemble``, in which every network has a strength of its own. A
strength $\alpha$ always is that of $f + \alpha(\|m\|^2+\|w\|^2)$: PyTorch's ``weight_decay`` is $2\alpha$, and since
the squares act on $x=m\odot w$ like an L1 penalty of $2\alpha$, L1 penalties have $\lambda=2\alpha$.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized, register_parametrization

from repro.base import one_of
from repro.learn import Ensemble, networks
from repro.papers.implicit_sparsification.settings import _Array
from repro.prune import magnitude, prunable, select

_Model = nn.Module | Ensemble

# --- how weights are written --------------------------------------------------------------------------------------


_Numbers = TypeVar("_Numbers", _Array, Tensor)


def pilot_factors(x: _Numbers, beta: float = 1.0) -> tuple[_Numbers, _Numbers]:
    r"""Factors with $m\odot w = x$ and $m^2-w^2=\beta$.

    $$m = \sqrt{\tfrac12\big(\beta+\sqrt{\beta^2+4x^2}\big)},\qquad w = x/m.$$

    With $\beta>0$ they are unbalanced, so that signs can flip. Balanced factors,
    $\beta=0$, are spred's start, $m=\sqrt{|x|}$ and $w=\mathrm{sign}(x)\sqrt{|x|}$:
    gradient flow keeps every sign, and a weight of exactly 0 never moves.

    Source: section 4 of the paper's first version; algorithm 1 of its second.
    """
    if beta == 0:
        m = abs(x) ** 0.5
        return m, m * (2.0 * (x > 0) - 1)
    m = ((beta + (beta**2 + 4 * x**2) ** 0.5) / 2) ** 0.5
    return m, x / m


class Product(nn.Module):
    r"""$x = m\odot w$; ``original0`` is the mask $m$, ``original1`` the weight $w$.

    Args:
        beta: $m_0^2-w_0^2$ of ``pilot_factors``.

    Raises:
        ValueError: a beta that is no number, 0 or above.
    """

    stackable = True

    def __init__(self, beta: float = 1.0) -> None:
        super().__init__()
        if not isinstance(beta, int | float) or not 0 <= beta < float("inf"):
            raise ValueError(f"beta must be a number, 0 or above, got {beta!r}")
        self.beta = beta

    def forward(self, m: Tensor, w: Tensor) -> Tensor:
        """Return $m\\odot w$."""
        return m * w

    def right_inverse(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the start's factors of x."""
        m, w = pilot_factors(x.detach().double(), self.beta)
        return m.to(x), w.to(x)


class _Form(nn.Module):
    """A way to write weights that others propose; ``frozen`` says which of its tensors are not trained."""

    stackable = True
    frozen: tuple[str, ...] = ()

    def __init__(self, knob: float = 0.0) -> None:
        super().__init__()
        self.knob = knob


class _SignedPower(_Form):
    r"""Powerpropagation, $x = \phi|\phi|^{p-1}$; ``original0`` is $\phi$, ``original1`` the exponent, not trained.

    The first version of the paper prints exponent 1, which is the identity; 2 is meant, we think. The gradient of
    exponents between 1 and 2 is not finite at 0.

    Source: Schwarz et al. (2021).
    """

    frozen = ("original1",)

    def forward(self, phi: Tensor, exponent: Tensor) -> Tensor:
        """Return the signed power, same shape."""
        return phi * phi.abs().pow(exponent - 1)

    def right_inverse(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the base whose power is x, and the exponent."""
        return x.sign() * x.abs().pow(1 / self.knob), _one_number(self.knob, x)


class _SoftThreshold(_Form):
    r"""STR, $x = \mathrm{sign}(w)\max(0,|w|-\sigma(s))$ with one trained number $s$ a layer (``original1``), first -8.

    Source: Kusupati et al. (2020).
    """

    def forward(self, w: Tensor, s: Tensor) -> Tensor:
        """Return the weights beyond the threshold, moved towards 0 by it."""
        return w.sign() * torch.relu(w.abs() - s.sigmoid())

    def right_inverse(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return weights that the threshold turns into x, and the threshold's number."""
        s = _one_number(-8.0, x)
        return x + x.sign() * s.sigmoid(), s


class _SigmoidMask(_Form):
    r"""Continuous sparsification, $x = \sigma(\tau s)/\sigma(s_0)\odot w$; ``original1`` is $s$, ``original2`` $\tau$.

    The temperature $\tau$, first 1, is not trained. The paper's first version states the method without it, $\tau=1$
    throughout; in the original it grows during training. Every $s$ starts at $s_0$, and the factor $1/\sigma(s_0)$ of
    the released code lets training start from $x=w$.

    Source: Savarese et al. (2020), and its released code.
    """

    frozen = ("original2", "original3")

    def forward(self, w: Tensor, s: Tensor, temperature: Tensor, first: Tensor) -> Tensor:
        """Return the softly masked weights."""
        return torch.sigmoid(temperature * s) / first * w

    def right_inverse(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return weights that the soft mask leaves as they are, its numbers, temperature 1 and first value."""
        s = torch.full_like(x, self.knob)
        return x.clone(), s, _one_number(1.0, x), torch.sigmoid(_one_number(self.knob, x))


def _one_number(value: float, like: Tensor) -> Tensor:
    """One number that broadcasts against a weight, also when both are stacked."""
    return torch.full((1,) * like.ndim, value, dtype=like.dtype, device=like.device)


def parametrize(network: nn.Module, form: Callable[[], nn.Module] = Product) -> nn.Module:
    """Write every weight that can be pruned in a form, first and last layer included; in place.

    These are ``prune.prunable``: of linear and convolutional layers of all kinds, and the projections of attention. The
    network's function stays the same. Biases, normalization layers and the tables of embeddings stay as they are.

    Args:
        network: any module without other parametrizations of its weights.
        form: makes one ``Product`` (or another parametrization of this module) a weight.

    Returns:
        The same network.

    Raises:
        TypeError: a form that is no callable without arguments.
        ValueError: no such layer; a recurrent one, which keeps references to its weights and would not notice; a
            weight that is parametrised already; one tensor in two layers, which would silently part. Nothing has been
            changed then.
    """
    if isinstance(form, nn.Module) or not callable(form):
        raise TypeError(f"form makes a parametrization a weight: Product and not Product(); got {form!r}")
    layers = prunable(network)
    homes = Counter(id(p) for module in network.modules() for p in module.parameters(recurse=False))
    for name, parameter in network.named_parameters():
        if homes[id(parameter)] > 1:
            raise ValueError(f"{name!r} is one tensor in two layers; forms of weights cannot share it")
    for name, layer in layers.items():
        if isinstance(layer, nn.RNNBase):
            raise ValueError(f"{name!r} belongs to a recurrent layer, whose weights cannot be rewritten")
        if is_parametrized(layer, _own(name)):
            raise ValueError(f"{name!r} is already parametrised; call fold(network) first")
    for name, layer in layers.items():
        parametrization = form()
        register_parametrization(layer, _own(name), parametrization)
        for original in getattr(parametrization, "frozen", ()):
            getattr(layer.parametrizations[_own(name)], original).requires_grad_(False)  # type: ignore[index]
    return network


def _own(name: str) -> str:
    """The name of a weight in its own layer."""
    return name.rpartition(".")[2]


def fold(network: nn.Module) -> nn.Module:
    """Turn layers written in a form back into plain ones, in place, with bit by bit the same weights."""
    return networks.fold(network, Product, _SignedPower, _SoftThreshold, _SigmoidMask)


def _weight_tensors(model: _Model) -> dict[str, list[Tensor]]:
    """The tensors behind each weight of a network or an ensemble: itself, or the originals of its form in their order.

    Names are those of ``prune.prunable``, ``"1.weight"``; the tensors are the model's own, not copies.
    """
    known = model.parameters if isinstance(model, Ensemble) else dict[str, Tensor](model.named_parameters())
    found = {}
    for name in prunable(_template(model)):
        home = f"{name.removesuffix(_own(name))}parametrizations.{_own(name)}."
        found[name] = [tensor for own, tensor in known.items() if own == name or own.startswith(home)]
    return found


def _effective_weights(model: _Model) -> dict[str, Tensor]:
    """The prunable weights, stacked for an ensemble, under the names of ``_weight_tensors``."""
    layers, found = prunable(_template(model)), {}
    for name, tensors in _weight_tensors(model).items():
        form: Any = nn.Identity()
        if is_parametrized(layers[name], _own(name)):
            form = layers[name].parametrizations[_own(name)][0]  # type: ignore[index]
        found[name] = form(*tensors)
    return found


def _l1_norms(model: _Model) -> Tensor:
    r"""$\|x\|_1$ over all prunable weights, ``(S,)`` float64 on the CPU; S = 1 for a network."""
    norms = torch.zeros(len(model) if isinstance(model, Ensemble) else 1, dtype=torch.float64)
    for weight in _effective_weights(model).values():
        norms += weight.detach().abs().reshape(len(norms), -1).sum(dim=1, dtype=torch.float64).cpu()
    return norms


def _template(model: _Model) -> nn.Module:
    return model.template if isinstance(model, Ensemble) else model


# --- what is penalised --------------------------------------------------------------------------------------------

_Act = Callable[[Sequence[Tensor]], Sequence[Tensor | None]]


def _squares(tensors: Sequence[Tensor]) -> Sequence[Tensor | None]:
    r"""Half the gradients of $\sum_i\|\theta_i\|^2$ over the tensors behind a weight: $\|m\|^2+\|w\|^2$ of factors."""
    return tensors


def _l1_of_first(tensors: Sequence[Tensor]) -> Sequence[Tensor | None]:
    r"""Half the gradient of $2\|\theta_0\|_1$: L1 on plain weights, or on the mask $m$ of $m\odot w$."""
    return [tensors[0].sign()]


def _l1_of_second(tensors: Sequence[Tensor]) -> Sequence[Tensor | None]:
    r"""Half the gradient of $2\|s\|_1$ on the numbers behind a sigmoid mask, as the paper's first version has it."""
    return [None, tensors[1].sign()]


def _gates(tensors: Sequence[Tensor]) -> Sequence[Tensor | None]:
    r"""Half the gradient of $\|\sigma(\tau s)\|_1$, the penalty of the original continuous sparsification."""
    s, temperature = tensors[1], tensors[2]
    gate = torch.sigmoid(temperature * s)
    return [None, temperature * gate * (1 - gate) / 2]


class Penalty:
    """The penalty of a method and the ordinary weight decay of the rest; a ``before_step`` of ``learn.train``."""

    def __init__(
        self,
        model: _Model,
        act: _Act | None,
        strengths: float | Tensor,
        weight_decay: float = 0.0,
        decays: bool = False,
    ) -> None:
        """Find the tensors that the penalty acts on.

        Args:
            model: a network, or an ensemble of S, written in the method's form.
            act: ``_squares``, or another such function; None for no penalty.
            strengths: one for all or ``(S,)``, none negative.
            weight_decay: PyTorch's, on everything that is not behind a weight.
            decays: whether it acts on the first tensor behind each weight too, a plain network's weight.

        Raises:
            ValueError: strengths that are negative or not finite, or not one a network.
        """
        self._size = len(model) if isinstance(model, Ensemble) else 1
        self._act: _Act = act or (lambda tensors: ())
        self._layers = list(_weight_tensors(model).values())
        inside = {id(tensor) for tensors in self._layers for tensor in tensors}
        everything = model.parameters.values() if isinstance(model, Ensemble) else model.parameters()
        self._decayed = [p for p in everything if p.requires_grad and id(p) not in inside]
        self._decayed += [tensors[0] for tensors in self._layers if decays]
        self._weight_decay = weight_decay
        self.strengths = torch.as_tensor(strengths, dtype=torch.float64)

    @property
    def strengths(self) -> Tensor:
        """One a network, ``(S,)`` float64; may be changed between steps."""
        return self._strengths

    @strengths.setter
    def strengths(self, given: Tensor) -> None:
        if given.shape not in ((), (self._size,)) or not bool((given.isfinite() & (given >= 0)).all()):
            raise ValueError(f"strengths are 1 or {self._size} numbers, 0 or above; got {given.tolist()}")
        self._strengths = given.to(torch.float64).expand(self._size).clone()
        self._on: dict[tuple[torch.device, torch.dtype, int], Tensor] = {}  # a device waits for each copy

    def _beside(self, tensor: Tensor) -> Tensor:
        """The strengths where a tensor is, in a shape that multiplies it."""
        where = (tensor.device, tensor.dtype, tensor.ndim)
        if where not in self._on:
            self._on[where] = self._strengths.to(tensor).view(-1, *[1] * (tensor.ndim - 1))
        return self._on[where]

    @torch.no_grad()
    def __call__(self, model: Any = None, step: int = 0) -> None:
        """Add the gradients of penalty and weight decay to those that there are; the arguments say nothing."""
        for tensors in self._layers:
            for tensor, half in zip(tensors, self._act(tensors), strict=False):
                if tensor.grad is not None and half is not None:
                    tensor.grad.addcmul_(half, self._beside(tensor), value=2)
        for tensor in self._decayed:
            if tensor.grad is not None:
                tensor.grad.add_(tensor, alpha=self._weight_decay)


# --- how strongly -------------------------------------------------------------------------------------------------


_SHAPES: dict[str, Callable[[int], _Array]] = {
    "constant": np.ones,
    "harmonic": lambda n: 1 / np.arange(1.0, n + 1),
    "geometric": lambda n: 0.95 ** np.arange(1.0, n + 1),
    "half": lambda n: np.concatenate([np.ones(n // 2), 0.8 ** np.arange(1.0, n - n // 2 + 1)]),
    "rising": lambda n: np.arange(n) / max(1, n - 1),
}


def schedule(name: str, n: int) -> _Array:
    r"""Strength of each of n steps or epochs, in units of the amplitude $\alpha_0$.

    Args:
        name: ``"constant"``; of the paper's toy problem ``"harmonic"``, $1/k$, and ``"geometric"``, $0.95^k$ for k = 1
            to n; ``"half"``: constant for the first half, then times 0.8 a step;
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
    r"""Algorithm 1: up by $\delta$ while it does no harm, down by $\delta$ otherwise.

    After epoch k the strength is multiplied by $\delta$ if the training accuracy did
    not fall, $\|x\|_1\ge K$ and $k\le T/2$, and divided by $\delta$ if not. Each network
    follows its own course. The comparison signs are a reconstruction, and the accuracy
    is that over the batches of the epoch: both are doubts of the reproduction. The
    paper's constants are not known: K is 0.03 of the L1 norm at the start here,
    $\delta^{T/2}$ 15 or what is asked.

    Args:
        n_epochs: T.
        start_l1: $\|x_0\|_1$, ``(S,)``.
        rise: $\delta^{T/2}$, how much the strength can grow; one for all or ``(S,)``.

    Source: algorithm 1 of the paper's second version.
    """

    def __init__(self, n_epochs: int, start_l1: Tensor, rise: float | Tensor = 15.0) -> None:
        self.n_epochs, self.accuracy = n_epochs, torch.zeros(())
        self.delta = rise ** (1 / max(1, n_epochs // 2))
        self.least_l1 = 0.03 * start_l1

    def __call__(self, alpha: Tensor, epoch: int, accuracy: Tensor, l1: Tensor) -> Tensor:
        """Strengths ``(S,)`` of the next epoch, from what this one had."""
        no_harm = (accuracy >= self.accuracy) & (l1 >= self.least_l1)
        up = no_harm & (epoch <= self.n_epochs / 2)
        self.accuracy = accuracy
        return torch.where(up, alpha * self.delta, alpha / self.delta)


class Pilot:
    r"""PILoT for a network, an optimizer and data of one's own.

    After each update both factors of every weight shrink, $m \leftarrow (1-2\eta\alpha)\,m$ and $w$ alike: the decay of
    the paper's flow, which no optimizer's momentum or scaling changes (AdamW decays in the same way). After each epoch
    ``Algorithm1`` sets the strength.

    Attributes:
        alpha: the strength now.
        dose: $A=\sum_k\eta_k\alpha_k$ so far; between 1.5 and 3 most weights of small networks are nearly 0.
        plain: names of the tensors of two and more dimensions that are no product: tables of embeddings, and what only
            the network's author knows. They are neither decayed nor pruned.
    """

    def __init__(self, network: nn.Module, alpha: float, n_epochs: int, beta: float = 1.0) -> None:
        r"""Write a network's weights as products, in place.

        Args:
            network: a module; what ``parametrize`` cannot write as products is refused there.
            alpha: the first strength. Where $\eta$ falls from $\eta_0$ to 0 in K steps, $\alpha=4/(\eta_0 K)$ without
                the algorithm's rises is a dose of about 2; try powers of two around a quarter of that.
            n_epochs: T of algorithm 1.
            beta: $m_0^2-w_0^2$.

        Raises:
            ValueError: an alpha that is negative or not finite; as in ``parametrize``.
        """
        if not 0 <= alpha < float("inf"):
            raise ValueError(f"alpha must be a number, 0 or above, got {alpha!r}")
        self._network = parametrize(network, partial(Product, beta))
        factors, named = _weight_tensors(network).items(), network.named_parameters()
        self._factors = {id(tensor): name for name, both in factors for tensor in both}
        self.plain = [name for name, t in named if t.ndim > 1 and id(t) not in self._factors]
        self.alpha, self.dose, self._epoch = alpha, 0.0, 0
        self._rule = Algorithm1(n_epochs, _l1_norms(network))

    @torch.no_grad()
    def decay(self, optimizer: torch.optim.Optimizer) -> None:
        """Shrink the factors after a step of an optimizer, at its learning rates.

        Raises:
            ValueError: the optimizer was built before the factors and would not move them; a learning rate at which a
                step would turn factors around, $\\eta\\alpha\\ge1/2$.
        """
        own = {id(p): (p, float(group["lr"])) for group in optimizer.param_groups for p in group["params"]}
        if missing := sorted({name for key, name in self._factors.items() if key not in own}):
            raise ValueError(f"the optimizer lacks the factors of {missing}: build it after Pilot(network)")
        rates = [own[key][1] for key in self._factors]
        if max(rates) * self.alpha >= 0.5:
            raise ValueError(f"{max(rates)} times alpha {self.alpha} is 1/2 or more: lower one of them")
        for key in self._factors:
            tensor, rate = own[key]
            tensor.mul_(1 - 2 * rate * self.alpha)
        self.dose += max(rates) * self.alpha

    def end_epoch(self, accuracy: float) -> None:
        """Set the strength of the next epoch from the training accuracy of this one."""
        self._epoch += 1
        now = torch.tensor([self.alpha], dtype=torch.float64), self._epoch, torch.tensor([accuracy])
        self.alpha = float(self._rule(*now, _l1_norms(self._network)))

    def finish(self, sparsity: float = 0.0) -> nn.Module:
        """The network with plain weights again, the smallest of them 0: this share of all that were products."""
        network = fold(self._network)
        select(magnitude(network), sparsity=sparsity).apply(network)
        return network


# --- the methods that are compared --------------------------------------------------------------------------------


class Choice(NamedTuple):
    r"""One way to run a method; which of a method's choices is best is found on validation data.

    Attributes:
        strength: $\alpha$ of the penalty; ``weight_decay`` is twice as much, and so is $\lambda$ of an L1 penalty.
        schedule: a name for ``schedule``, by epoch, or ``"algorithm 1"``.
        rate: learning rate at the start; the paper's are 0.1 for plain weights and 0.2 for factors.
        knob: what is special to a method: the exponent of Powerpropagation, $s_0$ of a sigmoid mask, the rise of
            algorithm 1.
    """

    strength: float
    schedule: str = "constant"
    rate: float = 0.1
    knob: float = 0.0


def _choices(*fields: Sequence[Any]) -> tuple[Choice, ...]:
    """All choices that have one of these strengths, schedules, rates and, where they are given, knobs."""
    return tuple(Choice(*one) for one in product(*fields))


def _octaves(first: float, n: int, per_octave: int = 1) -> tuple[float, ...]:
    return tuple(first * 2 ** (k / per_octave) for k in range(n))


_STRENGTHS = _octaves(5e-4, 7)
"""From strengths that leave too many weights to strengths that leave too few, a factor 2 apart.

Of STR, which breaks down within an octave, a factor of the root of 2 apart, and higher."""
_DYING, _RATES = ("constant", "half"), (0.1, 0.2)


@dataclass(frozen=True)
class _Method:
    r"""One way to train towards sparsity.

    Attributes:
        label: in pictures and tables.
        form: from a choice's knob to the parametrization of a weight; None for plain weights.
        penalty: ``_squares`` or another; None for none.
        choices: 28 of them, whatever the method.
        decays: whether ordinary weight decay acts on (the first of) a weight's tensors.
        temperature: of a sigmoid mask at the end of training, reached exponentially from 1.
    """

    label: str
    form: Callable[[float], nn.Module] | None = None
    penalty: _Act | None = None
    choices: tuple[Choice, ...] = _choices(_STRENGTHS, _DYING, _RATES)
    decays: bool = False
    temperature: float = 1.0


# without a strength: with and without the ordinary weight decay of 1e-4, at fourteen learning rates
_UNPENALISED = _choices((0.0, 5e-5), ("constant",), _octaves(0.0125, 14, per_octave=2))
_POWERS = _choices((0.0,), ("constant",), _octaves(0.003125, 7), (2.0, 3.0, 4.0, 5.0))
_RISES = _choices(_STRENGTHS, ("algorithm 1",), _RATES, (4.0, 15.0))
_RISING = _choices(_STRENGTHS, ("constant", "rising"), _RATES)
_MASK_STARTS = _choices(_STRENGTHS, ("constant",), _RATES, (0.0, 0.2))
_THRESHOLDS = _choices(_octaves(5e-3, 7, per_octave=2), _DYING, _RATES)
_PILOT = _Method("PILoT", lambda knob: Product(), _squares)
_GATED = _Method("continuous sparsification", _SigmoidMask, _gates, _MASK_STARTS, True, temperature=200.0)

METHODS: dict[str, _Method] = {
    "x": _Method("x", None, _squares, _UNPENALISED),
    "mw": replace(_PILOT, label="m ⊙ w", choices=_UNPENALISED),
    "pilot": _PILOT,
    "pilot_algorithm": replace(_PILOT, label="PILoT, algorithm 1", choices=_RISES),
    "l1_x": _Method("L1 on x", None, _l1_of_first, decays=True),
    "l1_m": replace(_PILOT, label="L1 on m", penalty=_l1_of_first),
    "spred": replace(_PILOT, label="spred", form=lambda knob: Product(0.0)),
    "beta_0.01": replace(_PILOT, label="β = 0.01", form=lambda knob: Product(0.01)),
    # its strength is half the weight decay, on weights and thresholds
    "str": _Method("STR", _SoftThreshold, _squares, _THRESHOLDS),
    "powerprop": _Method("Powerpropagation", _SignedPower, choices=_POWERS, decays=True),
    "continuous": _Method("sigmoid mask, as stated", _SigmoidMask, _l1_of_second, _RISING, decays=True),
    "continuous_original": _GATED,
}
"""The methods by name, as the chapter, its tables and its pictures have them.

Of each: its ``label``; its ``form``, from a choice's knob to the parametrization of a weight; its ``penalty``, for
``Penalty``; its 28 ``choices``; and whether ordinary weight decay acts on its weights.
"""
