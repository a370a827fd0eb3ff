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

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

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
class _Descent:
    r"""What ``_descend`` found, for S members; parameters are those of plain networks, name -> ``(S, ...)``, on CPU.

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


@dataclass(frozen=True)
class _Problem:
    """An ensemble, its data, its loss, and of mini-batches each member's own order of the data.

    Trained parameters are one matrix ``(members, numbers)``: an update, or the undoing of one, is one operation.
    """

    ensemble: Ensemble
    x: Tensor
    y: Tensor
    loss: str
    by_length: Sequence[str]
    batch_size: int | None
    generators: NDArray[np.object_]

    @property
    def per_member(self) -> bool:
        """Whether each member has data of its own."""
        return self.y.ndim == 2

    def only(self, rows: list[int]) -> _Problem:
        """The same problem for some of the members."""
        x, y = (self.x[rows], self.y[rows]) if self.per_member else (self.x, self.y)
        some, orders = Ensemble([self.ensemble.member(i) for i in rows]), self.generators
        return replace(self, ensemble=some, x=x, y=y, generators=orders[rows] if self.batch_size else orders)

    @cached_property
    def trained(self) -> _Named:
        """The ensemble's own trained parameters."""
        return {n: p for n, p in self.ensemble.parameters.items() if p.requires_grad}

    def named(self, flat: Tensor) -> _Named:
        """All parameters by name, the trained ones as views of a matrix."""
        parts = flat.split([p[0].numel() for p in self.trained.values()], dim=1)
        pairs = zip(self.trained.items(), parts, strict=True)
        return self.ensemble.parameters | {n: part.reshape(p.shape) for (n, p), part in pairs}

    def gradient(self, flat: Tensor, x: Tensor, y: Tensor, per_member: bool) -> tuple[Tensor, Tensor]:
        """Log-losses ``(members,)``, and their gradient by the trained parameters, ``(members, numbers)``."""
        named = self.named(flat)
        leaves = {n: named[n].detach().requires_grad_() for n in self.trained}
        scores = self.ensemble(x, per_member=per_member, parameters=named | leaves)
        value, slope = _log_loss(scores.detach(), y, self.loss)
        gradients = dict(zip(leaves, torch.autograd.grad(scores, list(leaves.values()), slope), strict=True))
        for name in self.by_length:
            weight = leaves[name].detach()
            length = torch.linalg.vector_norm(weight, dim=tuple(range(2, weight.ndim)), keepdim=True)
            gradients[name] = gradients[name] * length.square()
        return value, torch.cat([g.flatten(1) for g in gradients.values()], dim=1)

    def judge(self, flat: Tensor) -> tuple[_Array, Tensor]:
        """Log-losses of parameters, and the gradient there; ones for mini-batches, whose gradients are others."""
        if self.batch_size:
            found = _scores(self.ensemble, self.named(flat), self.x, self.per_member)
            return _log_loss(found, self.y, self.loss)[0].cpu().numpy(), torch.ones_like(flat[:, :1])
        value, slope = self.gradient(flat, self.x, self.y, self.per_member)
        return value.cpu().numpy(), slope

    def epoch(self, flat: Tensor, rate: Tensor, log_losses: _Array) -> Tensor:
        r"""Parameters after an epoch with the steps $k\,\mathcal L^{1-c}\,\nabla\mathcal L_B/\mathcal L$.

        ``rate`` is $k\mathcal L^{1-c}$, ``(members, 1)``, and $\mathcal L$ the loss at the start of the epoch.
        """
        n = self.x.shape[1 if self.per_member else 0]
        order = torch.stack([torch.randperm(n, generator=g) for g in self.generators]).to(flat.device)
        rows = torch.arange(len(order), device=flat.device).unsqueeze(1)
        start, flat = torch.from_numpy(log_losses).to(flat.device), flat.clone()  # updated in place below
        for index in order.split(self.batch_size, dim=1):
            chosen = (rows, index) if self.per_member else index
            value, slope = self.gradient(flat, self.x[chosen], self.y[chosen], per_member=True)
            flat.addcmul_(rate * (value - start).exp().to(flat.dtype).unsqueeze(1), slope, value=-1)
        return flat


def _column(values: _Array | _Flags, like: Tensor) -> Tensor:
    return torch.from_numpy(values).to(like.device).unsqueeze(1)


# --- the descent ------------------------------------------------------------------------------------------------


def _descend(
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
) -> _Descent:
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
        ``_Descent``, on the CPU.
    """
    generators = np.array([streams(seed).shuffle for seed in seeds])
    data = Ensemble(list(ensemble)).to(device), x.to(device), y.to(device), loss
    problem = everyone = _Problem(*data, by_length, batch_size, generators)
    flat = start = torch.cat([p.detach().flatten(1) for p in everyone.trained.values()], dim=1)
    n, levels = len(start), np.array(targets, dtype=float)
    log_loss, slope = problem.judge(start)
    # of all members
    states = [torch.full_like(start, torch.nan) for _ in range(len(levels) + 1)]
    steps, z, status = np.full((n, len(states)), np.nan), np.full(n, np.nan), np.full(n, "", dtype="U9")
    # of those that are still trained
    ids, k, kept_steps = np.arange(n), np.full(n, _K_START), np.zeros(n)
    stored = np.zeros(n) if lag else log_loss
    for tried in itertools.count():
        new = (-log_loss[:, None] > levels) & np.isnan(steps[ids, :-1])
        for i, j in zip(*np.nonzero(new), strict=True):
            states[j][ids[i]], steps[ids[i], j] = flat[i], kept_steps[i]
        ends = {
            "reached": -stored > levels[-1],
            # looking for zero gradients costs as much as a step of a small network
            "flat": np.zeros(len(ids), dtype=bool) if tried % 100 else ~slope.any(dim=1).cpu().numpy(),
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
            problem, flat, slope = problem.only(np.flatnonzero(stay).tolist()), flat[stay], slope[stay]
        rate = _column(k * np.exp((1 - exponent) * stored + (log_loss - stored)), flat).to(flat.dtype)
        trial = problem.epoch(flat, rate, log_loss) if batch_size else flat.addcmul(rate, slope, value=-1)
        found, found_slope = problem.judge(trial)
        kept = np.isfinite(found) & (found <= log_loss)
        stored = np.where(kept, log_loss if lag else found, stored)
        log_loss, kept_steps = np.where(kept, found, log_loss), kept_steps + kept
        k = np.where(kept, np.where(k < k_max, k * grow, k), k / shrink)
        pairs = (trial, flat), (found_slope, slope)
        flat, slope = (torch.where(_column(kept, flat), *pair) for pair in pairs)
    first, *rest = (_folded(ensemble.member(0), everyone.named(each)) for each in (start, *states))
    return _Descent(tuple(levels.tolist()), first, rest, steps, z, status.tolist())
