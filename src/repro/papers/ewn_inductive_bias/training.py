r"""Gradient descent to vanishing loss: steps measured by the loss, kept if it fell, undone if it did not.

The step is $\theta \leftarrow \theta - k\,\mathcal L^{-c}\,\nabla\mathcal L = \theta - k\,\mathcal
L^{1-c}\,\nabla\log\mathcal L$. With $c=1$ it does not shrink with the loss; the relations between nodes need
$c<1$ (the authors use 29/30), so that the iterates stop bouncing between support vectors. The factor $k$
grows after a step that is kept and shrinks after one that is undone. A step is kept if the loss did not rise.

The loop of ``repro.learn`` keeps every step, and a loss of $e^{-300}$ underflows in it: hence a loop of its own.
At such a loss nothing is left of $\mathcal L$ in float32, and squared gradients underflow in float64 beyond
$e^{-372}$. Everything that the paper measures needs only $\log\mathcal L$ and $\nabla\log\mathcal L$.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from repro.learn.ensembles import Ensemble
from repro.learn.seeding import streams

_Array = NDArray[np.float64]
_Flags = NDArray[np.bool_]
_Named = dict[str, Tensor]

_K_START = 0.01
"""First step factor $k$, the authors'."""
_SMALLEST_FACTOR = 1e-12
_CHUNK = 1_000
"""Examples at once where no gradient is needed: bounds the memory of convolutional networks."""


# --- the loss ---------------------------------------------------------------------------------------------------

_SWITCH = -30.0
"""Below it $\\log\\log(1+e^a)$ is $a$ and its slope 1 to the last digit of float32, and to 1e-13 of float64."""


@torch.no_grad()
def _log_loss(scores: Tensor, labels: Tensor, loss: str) -> tuple[Tensor, Tensor]:
    r"""$\log\mathcal L$ in float64 and $\partial\log\mathcal L/\partial s$, exact far below underflow.

    With $a_i = \log\sum_{k\ne y_i}e^{s_{ik}-s_{iy_i}}$, $\log\ell_i = \log\log(1+e^{a_i})$,
    $p = \mathrm{softmax}_i(\log\ell_i)$ and $\pi_i$ the softmax over the wrong classes,

    $$\log\mathcal L = \log\sum_i\ell_i,\qquad \frac{\partial\log\mathcal L}{\partial s_{ik}} =
    p_i\,\frac{\sigma(a_i)}{\log(1+e^{a_i})}\,\pi_{ik}\quad(k\ne y_i),$$

    and minus their sum for $k=y_i$. For two classes $a_i=-q_i$, the margin, and the slope is $-p_i\,(\dots)\,y_i$;
    the exponential loss has $\log\ell_i = a_i$ and no second factor.

    Args:
        scores: ``(..., n, classes)``, or ``(..., n, 1)`` for two classes.
        labels: classes, int64, or $\pm1$, of shape ``(n,)`` or ``(..., n)``.
        loss: ``"logistic"`` or ``"exponential"`` (two classes, summed over the samples, as for the paper's synthetic
            sets), or ``"cross-entropy"`` (their mean, as for its image sets).

    Returns:
        ``(...)`` float64, and the slope in the shape and dtype of the scores.
    """
    many = loss == "cross-entropy"
    if many:
        right = labels.expand(scores.shape[:-1]).unsqueeze(-1)
        gaps = (scores - scores.gather(-1, right)).scatter_(-1, right, -math.inf)
        top = gaps.amax(-1, keepdim=True)
        # of the wrong classes; torch.logsumexp and a softmax would take them twice
        odds = gaps.sub_(top).exp_()
        total = odds.sum(-1)
        a = total.log() + top.squeeze(-1)
    else:
        a = -(scores.squeeze(-1) * labels.to(scores.dtype))
    log_losses, factor = (a, 1.0) if loss == "exponential" else _log_softplus(a)
    log_losses = log_losses.double()
    value = torch.logsumexp(log_losses, dim=-1)
    weight = (log_losses - value.unsqueeze(-1)).exp().to(scores.dtype) * factor
    if not many:
        return value, (-weight * labels.to(scores.dtype)).unsqueeze(-1)
    slope = odds.mul_((weight / total).unsqueeze(-1))
    return value - math.log(labels.shape[-1]), slope.scatter_(-1, right, -weight.unsqueeze(-1))


def _log_softplus(a: Tensor) -> tuple[Tensor, Tensor]:
    r"""$\log\log(1+e^a)$ and its slope; below the switch both are linear to the last digit."""
    high = a.clamp(min=_SWITCH)
    softplus = F.softplus(high, threshold=40.0)
    return softplus.log() + (a - high), torch.sigmoid(high) / softplus


# --- what descent finds -----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Descent:
    r"""What ``descend`` found, for S members; parameters are those of plain networks, name -> ``(S, ...)``, on the CPU.

    Attributes:
        targets: the loss levels $z=-\log\mathcal L$, rising.
        start: parameters at the start.
        states: parameters at the first step (or epoch) with $z$ beyond each target, NaN rows for members that never
            got there; and, as the last, those at each member's end, whether it got there or not.
        steps: steps (or epochs) that were kept until each of these states, ``(S, n_targets + 1)``, NaN if never
            reached; the authors' logs count these.
        z: $z$ at the end, ``(S,)``.
        status: for each member ``"reached"``, ``"max_steps"``, ``"stalled"`` (the step size vanished) or ``"flat"``
            (the gradient is exactly zero).
    """

    targets: tuple[float, ...]
    start: _Named
    states: list[_Named]
    steps: _Array
    z: _Array
    status: list[str]


@torch.no_grad()
def _scores(ensemble: Ensemble, parameters: Mapping[str, Tensor], x: Tensor, per_member: bool) -> Tensor:
    """What networks with these parameters answer, ``(members, n, ...)``, a thousand examples at a time."""
    parts = x.split(_CHUNK, 1 if per_member else 0)
    return torch.cat([ensemble(part, per_member=per_member, parameters=parameters) for part in parts], dim=1)


def _folded(network: nn.Module, parameters: Mapping[str, Tensor]) -> _Named:
    """The parameters of plain networks that stacked ones of normalized networks stand for, on the CPU."""
    plain: _Named = {}
    parameters = {name: tensor.detach().cpu() for name, tensor in parameters.items()}
    for name, tensor in parameters.items():
        prefix, _, original = name.partition("parametrizations.weight.original")
        if not original:
            plain[name] = tensor
        elif original == "1":
            norm = network.get_submodule(f"{prefix}parametrizations.weight.0")
            plain[f"{prefix}weight"] = norm(parameters[name.removesuffix("1") + "0"], tensor)
    return plain


# --- how the next parameters are proposed -----------------------------------------------------------------------


class _Problem:
    """An ensemble, its data and its loss.

    Trained parameters are one matrix ``(members, numbers)``: an update, or the undoing of one, is one operation.
    """

    #: Attributes with an entry for each member.
    _of_members: tuple[str, ...] = ()

    def __init__(self, ensemble: Ensemble, x: Tensor, y: Tensor, loss: str, by_length: Sequence[str]) -> None:
        self.ensemble, self.x, self.y, self.loss, self.by_length = ensemble, x, y, loss, by_length
        self.per_member = y.ndim == 2
        self._shapes = {n: p.shape[1:] for n, p in ensemble.parameters.items() if p.requires_grad}

    def only(self, rows: list[int]) -> Self:
        """The same problem for some of the members."""
        chosen = copy.copy(self)
        chosen.ensemble = Ensemble([self.ensemble.member(i) for i in rows])
        for name in (*self._of_members, *(("x", "y") if self.per_member else ())):
            setattr(chosen, name, getattr(self, name)[rows])
        return chosen

    def flat(self) -> Tensor:
        """The ensemble's own trained parameters, ``(members, numbers)``."""
        return torch.cat([self.ensemble.parameters[n].detach().flatten(1) for n in self._shapes], dim=1)

    def named(self, flat: Tensor) -> _Named:
        """All parameters by name, the trained ones as views of a matrix."""
        parts = flat.split([shape.numel() for shape in self._shapes.values()], dim=1)
        pairs = zip(self._shapes.items(), parts, strict=True)
        return self.ensemble.parameters | {n: part.reshape(-1, *shape) for (n, shape), part in pairs}

    def forward(self, flat: Tensor, x: Tensor, per_member: bool) -> tuple[Tensor, _Named]:
        """Scores ``(members, n, ...)`` with their graph, and the leaves to differentiate by."""
        named = self.named(flat)
        leaves = {n: named[n].detach().requires_grad_() for n in self._shapes}
        return self.ensemble(x, per_member=per_member, parameters=named | leaves), leaves

    def backward(self, scores: Tensor, leaves: _Named, slope: Tensor) -> Tensor:
        """Gradient by the trained parameters, ``(members, numbers)``, from the gradient by the scores."""
        gradients = dict(zip(leaves, torch.autograd.grad(scores, list(leaves.values()), slope), strict=True))
        for name in self.by_length:
            weight = leaves[name].detach()
            length = torch.linalg.vector_norm(weight, dim=tuple(range(2, weight.ndim)), keepdim=True)
            gradients[name] = gradients[name] * length.square()
        return torch.cat([g.flatten(1) for g in gradients.values()], dim=1)

    def keep(self, accepted: _Flags) -> None:
        """Prepare the next proposal, for the members that keep the parameters last judged."""

    def zero_gradient(self) -> _Flags:
        """Members whose gradient is known to be exactly zero: they will never move."""
        return np.zeros(len(self.ensemble), dtype=bool)


def _column(values: _Array | _Flags, like: Tensor) -> Tensor:
    return torch.from_numpy(values).to(like.device).unsqueeze(1)


class _FullBatch(_Problem):
    """A gradient step on all data. The forward pass that judges a step also serves the next one."""

    _slope: Tensor
    _pending: tuple[Tensor, _Named, Tensor]
    _of_members = ("_slope",)

    def propose(self, flat: Tensor, rate: _Array, log_losses: _Array) -> Tensor:
        r"""New parameters ``(members, numbers)``; ``rate`` is $k\mathcal L^{1-c}$."""
        return torch.addcmul(flat, _column(rate, flat).to(flat.dtype), self._slope, value=-1)

    def judge(self, flat: Tensor) -> _Array:
        """Log-losses ``(members,)`` of parameters."""
        scores, leaves = self.forward(flat, self.x, self.per_member)
        value, slope = _log_loss(scores.detach(), self.y, self.loss)
        self._pending = scores, leaves, slope
        return value.cpu().numpy()

    def keep(self, accepted: _Flags) -> None:
        """Compute the gradient at the parameters last judged, for the members that keep them."""
        if accepted.all():
            self._slope = self.backward(*self._pending)
        elif accepted.any():
            found = self.backward(*self._pending)
            self._slope = torch.where(_column(accepted, found), found, self._slope)

    def zero_gradient(self) -> _Flags:
        return ~self._slope.any(dim=1).cpu().numpy()


class _MiniBatches(_Problem):
    r"""One epoch of stochastic gradient descent, each member with its own order of the data.

    The step is $k\,\mathcal L^{1-c}\,\nabla\mathcal L_B/\mathcal L$ with $\mathcal L$ the loss at the start
    of the epoch.
    """

    _of_members = ("generators",)

    def __init__(self, *data: Any, batch_size: int, seeds: Sequence[int]) -> None:
        super().__init__(*data)
        self.batch_size, self.generators = batch_size, np.array([streams(seed).shuffle for seed in seeds])

    def propose(self, flat: Tensor, rate: _Array, log_losses: _Array) -> Tensor:
        n = self.x.shape[1 if self.per_member else 0]
        order = torch.stack([torch.randperm(n, generator=g) for g in self.generators]).to(flat.device)
        rows = torch.arange(len(order), device=flat.device).unsqueeze(1)
        rates, start = _column(rate, flat).to(flat.dtype), torch.from_numpy(log_losses).to(flat.device)
        flat = flat.clone()  # updated in place below
        for index in order.split(self.batch_size, dim=1):
            chosen = (rows, index) if self.per_member else index
            y = self.y[chosen]
            scores, leaves = self.forward(flat, self.x[chosen], per_member=True)
            value, slope = _log_loss(scores.detach(), y, self.loss)
            relative = (value - start).exp().to(flat.dtype).unsqueeze(1)
            flat.addcmul_(rates * relative, self.backward(scores, leaves, slope), value=-1)
        return flat

    def judge(self, flat: Tensor) -> _Array:
        found = _scores(self.ensemble, self.named(flat), self.x, self.per_member)
        return _log_loss(found, self.y, self.loss)[0].cpu().numpy()


# --- the descent ------------------------------------------------------------------------------------------------


def descend(
    ensemble: Ensemble,
    x: Tensor,
    y: Tensor,
    loss: str,
    targets: Sequence[float],
    *,
    exponent: float = 1.0,
    k_max: float = math.inf,
    grow: float = 1.1,
    shrink: float = 1.1,
    lag: bool = False,
    batch_size: int | None = None,
    seeds: Sequence[int] = (),
    by_length: Sequence[str] = (),
    max_steps: int = 100_000,
    device: str = "cpu",
) -> Descent:
    r"""Train S networks at once until their losses have fallen to $e^{-z}$ for given $z$.

    Every member has its own step size, decides for itself whether a step is kept, and leaves the batch when
    it is done.

    Args:
        ensemble: of S members; its parameters are not changed. Its dtype is the dtype of the training.
        x: inputs ``(n, ...)``, or ``(S, n, ...)`` where each member has data of its own.
        y: labels ``(n,)`` or ``(S, n)``, as the loss wants them.
        loss: ``"logistic"`` or ``"exponential"``, summed over the samples, or ``"cross-entropy"``, their mean.
        targets: $z$ values, rising; training ends beyond the last.
        exponent: $c$; 1 for loss-normalized steps.
        k_max: $k$ grows only while below it (the authors' rule, so it may exceed it by one growth).
        grow, shrink: factors of $k$ after a kept and after an undone step; the defaults are the authors'. 1.02 and
            1.2 undo fewer steps.
        lag: as in the authors' scripts for the synthetic sets, the loss that sets the step size, and that ends the
            training, is the one *before* the last kept step, $\mathcal L_s$ (at first 1): the step is
            $k\,\mathcal L_s^{1-c}\,\frac{\mathcal L}{\mathcal L_s}\nabla\log\mathcal L$.
        batch_size: None for full batch; otherwise stochastic gradient descent, where a "step" is an epoch,
            kept or undone as a whole, and the learning rate is $k$ over the loss at its start (the authors'
            image rule).
        seeds: with ``batch_size``, one a member, for the order of the batches.
        by_length: names of weights whose gradient is multiplied by $\|w_u\|^2$, the learning rate of EWN (E18).
        max_steps: of attempts.
        device: where to train.

    Returns:
        ``Descent``, on the CPU.
    """
    data = (Ensemble(list(ensemble)).to(device), x.to(device), y.to(device), loss, by_length)
    everyone: _FullBatch | _MiniBatches = (
        _MiniBatches(*data, batch_size=batch_size, seeds=seeds) if batch_size else _FullBatch(*data)
    )
    problem, start, levels = everyone, everyone.flat(), np.array(targets, dtype=float)
    n, flat, log_loss = len(start), start, problem.judge(start)
    problem.keep(np.ones(n, dtype=bool))
    # of all members
    states = [torch.full_like(start, torch.nan) for _ in range(len(levels) + 1)]
    steps, z, status = np.full((n, len(states)), np.nan), np.full(n, np.nan), np.full(n, "", dtype="U9")
    # of those that are still trained
    ids, k, kept_steps, stored = (
        np.arange(n),
        np.full(n, _K_START),
        np.zeros(n),
        np.zeros(n) if lag else log_loss,
    )
    for tried in itertools.count():
        new = (-log_loss[:, None] > levels) & np.isnan(steps[ids, :-1])
        for i, j in zip(*np.nonzero(new), strict=True):
            states[j][ids[i]], steps[ids[i], j] = flat[i], kept_steps[i]
        ends = {
            "reached": -stored > levels[-1],
            # looking for zero gradients costs as much as a step of a small network
            "flat": problem.zero_gradient() if tried % 100 == 0 else np.zeros(len(ids), dtype=bool),
            "stalled": k < _SMALLEST_FACTOR,
            "max_steps": np.full(len(ids), tried >= max_steps),
        }
        if any(flags.any() for flags in ends.values()):
            why = np.select(list(ends.values()), list(ends), "")
            go, stay = ids[why != ""], why == ""
            states[-1][go], steps[go, -1] = flat[~stay], kept_steps[~stay]
            z[go], status[go] = -log_loss[~stay], why[~stay]
            if not stay.any():
                break
            ids, k, kept_steps, log_loss, stored = (a[stay] for a in (ids, k, kept_steps, log_loss, stored))
            problem, flat = problem.only(np.flatnonzero(stay).tolist()), flat[stay]
        rate = k * np.exp((1 - exponent) * stored + (log_loss - stored))
        trial = problem.propose(flat, rate, log_loss)
        found = problem.judge(trial)
        kept = np.isfinite(found) & (found <= log_loss)
        stored = np.where(kept, log_loss if lag else found, stored)
        log_loss, kept_steps = np.where(kept, found, log_loss), kept_steps + kept
        k = np.where(kept, np.where(k < k_max, k * grow, k), k / shrink)
        problem.keep(kept)
        flat = trial if kept.all() else torch.where(_column(kept, flat), trial, flat)
    first, *rest = (_folded(ensemble.member(0), everyone.named(each)) for each in (start, *states))
    return Descent(tuple(levels.tolist()), first, rest, steps, z, status.tolist())
